"""Tensor and pipeline parallelism for real: two processes on the CPU, through transformers' own loader."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from two_ranks import load_share, spawn, whole


def load_and_run(rank: int, folder: Path, parallel: str) -> None:
    """One rank: load its share of the weights, write the logits and how much of the layers it holds."""
    model = load_share(folder, **{parallel: 2})
    with torch.no_grad():
        logits = whole(model(load_file(folder / "inputs.safetensors")["input_ids"], use_cache=False).logits)
    held = sum((p.to_local() if hasattr(p, "to_local") else p).numel() for p in model.model.layers.parameters())
    save_file({"logits": logits.contiguous(), "held": torch.tensor([held])}, folder / f"{parallel}-{rank}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["tp_size", "pp_size"])
def test_two_processes_give_the_logits_of_one(make_model, input_ids, tmp_path: Path, parallel):
    model = make_model(vocab_size=98, num_hidden_layers=4)
    model.save_pretrained(tmp_path)
    save_file({"input_ids": input_ids}, tmp_path / "inputs.safetensors")
    expected = model(input_ids).logits
    spawn(load_and_run, tmp_path, parallel)
    total = sum(p.numel() for p in model.model.layers.parameters())
    for rank in range(2):
        result = load_file(tmp_path / f"{parallel}-{rank}.safetensors")
        torch.testing.assert_close(result["logits"], expected, atol=1e-4, rtol=1e-4)
        assert result["held"].item() < 0.6 * total
