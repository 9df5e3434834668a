"""Tensor and pipeline parallelism for real: two processes on the CPU, through transformers' own loader."""

import os
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_yulanmini import YuLanMiniForCausalLM


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def load_and_run(rank: int, folder: str, port: int, parallel: str) -> None:
    """One rank: load its share of the weights, write the logits and what it holds of a query projection."""
    from transformers.distributed import DistributedConfig

    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank)
    )
    torch.set_num_threads(1)
    model = YuLanMiniForCausalLM.from_pretrained(folder, distributed_config=DistributedConfig(**{parallel: 2}))
    input_ids = load_file(f"{folder}/inputs.safetensors")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids, use_cache=False).logits
    logits = logits.full_tensor() if hasattr(logits, "full_tensor") else logits
    held = sum((p.to_local() if hasattr(p, "to_local") else p).numel() for p in model.model.layers.parameters())
    save_file({"logits": logits.contiguous(), "held": torch.tensor([held])}, f"{folder}/{parallel}-{rank}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["tp_size", "pp_size"])
def test_two_processes_give_the_logits_of_one(make_model, input_ids, tmp_path: Path, parallel):
    model = make_model(vocab_size=98, num_hidden_layers=4)
    model.save_pretrained(tmp_path)
    save_file({"input_ids": input_ids}, tmp_path / "inputs.safetensors")
    expected = model(input_ids).logits
    torch.multiprocessing.spawn(load_and_run, args=(str(tmp_path), free_port(), parallel), nprocs=2)
    whole = sum(p.numel() for p in model.model.layers.parameters())
    for rank in range(2):
        result = load_file(tmp_path / f"{parallel}-{rank}.safetensors")
        torch.testing.assert_close(result["logits"], expected, atol=1e-4, rtol=1e-4)
        assert result["held"].item() < 0.6 * whole
