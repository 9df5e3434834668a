"""A stage of a job: what tasks are asked to do, wherever they run."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """`run(rank, tasks)` does its share of a fixed list and skips what is done, so that giving the same command again
    after a stop continues, and the number of tasks changes no byte. It is picklable; ranks never write the same file.

    `alone`: one task does it all. `done` counts the files that are finished, and all of them, for the progress bar; or
    what `unit` names instead of files. `note` says more there.
    """

    name: str
    run: Callable[[int, int], None]
    alone: bool = False
    done: Callable[[], tuple[int, int]] | None = None
    unit: str = "file"
    note: Callable[[], str] | None = None
