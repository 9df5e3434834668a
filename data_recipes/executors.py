"""Where work on data runs: in this process, in several on this machine, on Slurm or on Ray.

A stage is a function of (rank, tasks) that does its share of a fixed list and skips what is done already, so that
stopping and giving the same command again continues, and the number of tasks changes no byte.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ExecutorName = Literal["local", "slurm", "ray"]


@dataclass(frozen=True)
class Stage:
    """`run(rank, tasks)` is picklable; ranks never write the same file. `alone`: one task does it all."""

    name: str
    run: Callable[[int, int], None]
    alone: bool = False
