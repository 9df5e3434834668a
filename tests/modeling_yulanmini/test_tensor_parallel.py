"""Training on two tensor-parallel ranks is training in one process: every gradient, and three steps of the optimizer.

The forward pass alone says nothing: what acts on a rank's own heads has a gradient that is partial on each rank.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import randomized, small_config
from transformers.distributed.tensor_parallel import ALL_PARALLEL_STYLES
from two_ranks import load_share, spawn, whole

from modeling_yulanmini import YuLanMiniForCausalLM

STEPS = 3
CASES: dict[str, dict] = {
    "as published": {},
    "untied": {"tie_word_embeddings": False, "rms_type": "gemma", "embedding_ln": True},
    "qk_layernorm": {"qk_layernorm": True},
}


def train(model: torch.nn.Module, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of the first step, accumulated over two micro-batches, and the parameters after the third."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, eps=1e-3, foreach=False)
    results = {}
    for step in range(STEPS):
        labels = input_ids.roll(step, dims=1)
        for micro_batch, targets in zip(input_ids.split(2), labels.split(2), strict=True):
            model(micro_batch, labels=targets, num_items_in_batch=60).loss.backward()
        if step == 0:
            results = {f"grad {name}": whole(p.grad).clone() for name, p in model.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
    return results | {f"value {name}": whole(p.detach()).clone() for name, p in model.named_parameters()}


def train_on_rank(rank: int, root: Path) -> None:
    input_ids = load_file(root / "inputs.safetensors")["input_ids"]
    for case in CASES:
        results = train(load_share(root / case, tp_size=2), input_ids)
        save_file(results, root / f"{case}-{rank}.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, list[dict[str, torch.Tensor]]]:
    """By case: the results in one process, then those of both ranks."""
    root = tmp_path_factory.mktemp("tensor_parallel")
    # The padding token and a token at the same place in the second rank's half of the vocabulary.
    input_ids = torch.randint(0, 97, (3, 21), generator=torch.Generator().manual_seed(1))
    input_ids[0, :4] = torch.tensor([3, 52, 3, 52])
    save_file({"input_ids": input_ids}, root / "inputs.safetensors")
    results = {}
    for case, settings in CASES.items():
        model = randomized(YuLanMiniForCausalLM(small_config(num_hidden_layers=2, z_loss=0.01, **settings)))
        model.save_pretrained(root / case)
        results[case] = [train(model, input_ids)]
    spawn(train_on_rank, root)
    for case in CASES:
        results[case] += [load_file(root / f"{case}-{rank}.safetensors") for rank in range(2)]
    return results


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("what", ["grad", "value"])
def test_two_ranks_train_as_one_process_does(trained, case, what):
    alone, *ranks = trained[case]
    for rank, results in enumerate(ranks):
        assert results.keys() == alone.keys()
        far = {
            name: (results[name], expected)
            for name, expected in alone.items()
            if name.startswith(what) and not torch.allclose(results[name], expected, atol=2e-5, rtol=1e-4)
        }
        assert not far, f"rank {rank}"


def test_heads_that_ranks_cannot_share_are_refused(make_model):
    attention = make_model(num_key_value_heads=1).model.layers[0].self_attn
    style = ALL_PARALLEL_STYLES[attention.config.base_model_tp_plan["layers.*.self_attn"]]
    with pytest.raises(ValueError, match="over 2 ranks cannot share out 1 key and value heads"):
        style.install_forward(attention, SimpleNamespace(size=lambda: 2))
