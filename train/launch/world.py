"""Where this process runs: device, rank, number of ranks, threads; and the few collectives that the loop needs.

Works the same under `accelerate launch`, `torchrun` and plain `python`.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState

from train.config import PretrainConfig
from train.errors import TrainError


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    device: torch.device
    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` added up over the ranks, in place; stays on its device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: float) -> list[float]:
        """The largest of each flag over the ranks, by gloo: the hosts wait for each other, not for a device."""
        if self.size == 1:
            return list(flags)
        tensor = torch.tensor(flags, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The plain values that the ranks have given, in their order."""
        if self.size == 1:
            return [value]
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, value)
        return parts

    def barrier(self) -> None:
        self.any(0.0)

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


ALONE = World(torch.device("cpu"), 0, 1)


def enter_world(config: PretrainConfig) -> World:
    """Set threads and device, join the process group if there is one; TrainError for a device that is not there."""
    cpu_requested = config.device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainError("device: cuda is requested, but torch sees no CUDA device. Use device=cpu or auto.")
    if config.device == "cuda" and cpu_requested:
        raise TrainError("device: cuda in the config, but accelerate runs on the CPU. Drop one of the two.")
    on_cpu = cpu_requested or not torch.cuda.is_available()
    if config.threads:
        torch.set_num_threads(config.threads)
    # gloo beside nccl: asynchronous checkpoints are written from host memory.
    backend = {} if on_cpu or "RANK" not in os.environ else {"backend": "cuda:nccl,cpu:gloo"}
    state = PartialState(cpu=on_cpu, **backend)
    if config.threads:
        torch.set_num_threads(config.threads)  # PartialState may have changed it
    if not on_cpu:
        torch.backends.cuda.matmul.allow_tf32 = True  # as published
        torch.backends.cudnn.allow_tf32 = True
    needs_group = config.precision == "bfloat16" and not dist.is_initialized()
    if needs_group:  # sharding over one rank is what keeps fp32 master weights beside bf16 compute
        store = dist.HashStore()
        dist.init_process_group("gloo" if on_cpu else "cuda:nccl,cpu:gloo", store=store, rank=0, world_size=1)
    return World(torch.device(state.device), state.process_index, state.num_processes)
