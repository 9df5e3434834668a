"""Two processes on the CPU that share one model, started by transformers' own loader."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.distributed import DistributedConfig

from modeling_yulanmini import YuLanMiniForCausalLM


def spawn(work: Callable, *arguments: Any, ranks: int = 2) -> None:
    """Runs `work(rank, *arguments)` in each of `ranks` processes of one gloo group."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    torch.multiprocessing.spawn(in_group, args=(port, ranks, work, arguments), nprocs=ranks)


def in_group(rank: int, port: int, ranks: int, work: Callable, arguments: tuple) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(ranks), RANK=str(rank), LOCAL_RANK=str(rank)
    )
    torch.set_num_threads(1)
    work(rank, *arguments)


def load_share(folder: Path, **sizes: int) -> YuLanMiniForCausalLM:
    """This rank's share of a saved model; `sizes` are those of transformers' DistributedConfig."""
    return YuLanMiniForCausalLM.from_pretrained(folder, distributed_config=DistributedConfig(**sizes))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor put together from all ranks; a plain one as this rank has it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
