"""Sampling with a seed a row: draws from the softmax, and the same draw in any batch."""

import pytest
import torch
from transformers import LogitsProcessorList

from eval.seeded_sampling import SeededSampling, row_seed
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
    seeds = [row_seed(1, "task", question, 0) for question in range(3)]
    together = generate(model, prompts, seeds)
    assert [generate(model, [prompt], [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)] == together
    samples = generate(model, [prompts[0]] * 8, [row_seed(1, "task", 0, sample) for sample in range(8)])
    assert len({tuple(sample) for sample in samples}) == 8


def test_seeds_differ_by_everything_that_they_are_made_of():
    made = {row_seed(s, task, q, n) for s in (1, 2) for task in ("a", "b") for q in range(3) for n in range(3)}
    assert len(made) == 36
    assert all(0 <= seed < 2**63 for seed in made)


def test_no_temperature_and_too_few_seeds_are_refused():
    with pytest.raises(ValueError, match="more than 0"):
        SeededSampling([1], 0.0)
    with pytest.raises(ValueError, match="1 seeds for 2 rows"):
        SeededSampling([1], 1.0)(None, torch.zeros(2, 4))
