"""What transformers' tests import from folders that its source archive lacks, as far as this model's tests need it."""

import os
import socket
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as multiprocessing

# What `ConfigTester` sets on every config and expects to find there.
config_common_kwargs: dict[str, Any] = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}


class GenerationTesterMixin:
    """No tests: tests/modeling_yulanmini/test_model_battery.py has this project's own of generation."""


class ExportTesterMixin:
    """No tests: those of the archive's model mixin include torch.export."""


def run_distributed(world_size: int) -> Callable[[Callable], Callable]:
    """Make a function of (rank, *arguments) one of (*arguments), which runs it in `world_size` gloo processes."""

    def decorate(function: Callable) -> Callable:
        @wraps(function)
        def run(*arguments: Any) -> None:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                port = listener.getsockname()[1]
            multiprocessing.spawn(start_rank, args=(world_size, port, function, arguments), nprocs=world_size)

        return run

    return decorate


def start_rank(rank: int, world_size: int, port: int, function: Callable, arguments: tuple) -> None:
    """One process: a rank of a gloo group."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
    )
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        function(rank, *arguments)
    finally:
        dist.destroy_process_group()
