"""Where work on data runs: on this machine, on Slurm or on Ray."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from data_recipes.errors import DataError, nearest
from data_recipes.executors.cluster import check_settings, run_on_cluster
from data_recipes.executors.local import run_here
from data_recipes.executors.stage import Stage

ExecutorName = Literal["local", "slurm", "ray"]


def run_stages(
    stages: Sequence[Stage],
    *,
    executor: ExecutorName = "local",
    tasks: int = 1,
    executor_config: Path | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> bool:
    """Carry out stages one after the other, each by `tasks` tasks at the same time.

    Returns False where they are handed to Slurm and have yet to run. `executor_config` and `folder` (logs, and marks of
    what is done; another for other work) are for Slurm and Ray. `DataError` where a task has failed by its input or was
    killed; what is finished stays, and the same call goes on from there.
    """
    check_executor(executor, tasks, executor_config)
    if executor == "local":
        run_here(stages, tasks=tasks, progress=progress)
        return True
    assert folder is not None
    return run_on_cluster(stages, executor=executor, tasks=tasks, config=executor_config, folder=folder)


def check_executor(executor: str, tasks: int, executor_config: Path | None = None) -> None:
    """`DataError` for an executor that there is not or that is not installed, wrong settings of it, or no tasks."""
    if executor not in get_args(ExecutorName):
        raise DataError(f"--executor {executor}: no such executor.{nearest(executor, get_args(ExecutorName))}")
    if tasks < 1:
        raise DataError(f"--tasks {tasks}: expected at least 1.")
    if executor != "local":
        check_settings(executor, executor_config)
    elif executor_config is not None:
        raise DataError(f"--executor-config {executor_config}: --executor local has no settings. Leave it out.")
