"""Several processes that score one model together, started by `accelerate launch` or `torchrun`: one copy each."""

import os
from datetime import timedelta
from typing import Any

import torch

from train.launch.world import World


def enter_ranks(device: str) -> World | None:
    """This process among those that were started with it, None where it is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from accelerate import PartialState

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))  # rank 0 works alone on tasks that are not shared out
    return World(torch.device(state.device), state.process_index, state.num_processes)


def leave_ranks() -> None:
    """Wait for the other processes and part from them; without that some would end as if they had crashed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def from_main(world: World | None, value: Any) -> Any:
    """What rank 0 has, on every rank."""
    if world is None:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
