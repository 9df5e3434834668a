"""Sampling with a seed a row: draws from the softmax, and the same draw in any batch."""

import pytest
import torch
from transformers import LogitsProcessorList

from eval.harness.seeded_sampling import SeededSampling, row_seed
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM


def test_the_draws_have_the_probabilities_of_the_softmax_at_the_temperature():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    rows, temperature = 20_000, 0.7
    drawn = SeededSampling(range(rows), temperature)(None, logits.expand(rows, 4)).argmax(dim=1)
    expected = (logits / temperature).softmax(dim=0)
    shares = torch.bincount(drawn, minlength=4) / rows
    spread = (expected * (1 - expected) / rows).sqrt()
    assert ((shares - expected).abs() < 4 * spread).all()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = YuLanMiniConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return YuLanMiniForCausalLM(config).double().eval()


def generate(model, prompts, seeds):
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([SeededSampling(seeds, 1.0)]),
    )
    return [row[width:].tolist() for row in made]


def test_an_answer_is_the_same_alone_and_in_a_batch_and_other_seeds_give_others(model):
    prompts = [[5, 6, 7, 8, 9, 10], [11, 12], [13]]
    seeds = [row_seed(1, prompt, 0) for prompt in prompts]
    together = generate(model, prompts, seeds)
    assert [generate(model, [prompt], [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)] == together
    samples = generate(model, [prompts[0]] * 8, [row_seed(1, prompts[0], sample) for sample in range(8)])
    assert len({tuple(sample) for sample in samples}) == 8


def test_seeds_differ_by_everything_that_they_are_made_of():
    made = {row_seed(s, prompt, n) for s in (1, 2) for prompt in ((), (1, 2), (12,), (2, 1)) for n in range(3)}
    assert len(made) == 24
    assert all(0 <= seed < 2**63 for seed in made)


def test_a_benchmark_draws_the_same_answers_in_any_batch_and_others_for_another_seed(roomy_model, tmp_path):
    """Through the harness: three prompts of different lengths, four answers each."""
    from lm_eval.api.instance import Instance

    from eval.harness.local_model import LocalModel
    from eval.harness.scoring import seeded
    from eval.model_loading import load_model
    from train.launch.world import World

    loaded = load_model(roomy_model, device="cpu", dtype="float32")
    settings = {"until": [], "max_gen_toks": 16, "do_sample": True, "temperature": 0.7}
    texts = ["One", "Two and a half", "Three is a number that comes after two"]

    def drawn(batch_size, seed, change=None):
        model = LocalModel(
            loaded, World(loaded.device, rank=0, size=1), start_ids=[], batch_size=batch_size, progress=False
        )
        requests = [
            Instance("generate_until", {}, (text, settings | (change or {})), 0, ("task", number, 4))
            for number, text in enumerate(texts)
        ]
        with seeded(seed):
            return model.generate_until([request for request in requests for _ in range(4)])

    alone = drawn(1, 1)
    assert len(set(alone)) == 12
    assert drawn(5, 1) == drawn(12, 1) == alone
    assert not set(drawn(5, 2)) & set(alone)
    assert len(set(drawn(12, 1, {"top_p": 0.9}))) > 1  # transformers' own drawing


def test_no_temperature_and_too_few_seeds_are_refused():
    with pytest.raises(ValueError, match="more than 0"):
        SeededSampling([1], 0.0)
    with pytest.raises(ValueError, match="1 seeds for 2 rows"):
        SeededSampling([1], 1.0)(None, torch.zeros(2, 4))
