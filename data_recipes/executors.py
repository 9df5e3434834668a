"""Where work on data runs: in this process, in several on this machine, on Slurm or on Ray.

A stage is a function of (rank, tasks) that does its share of a fixed list and skips what is done already, so that
stopping and giving the same command again continues, and the number of tasks changes no byte.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, get_args

from tqdm import tqdm

from data_recipes.errors import DataError, error_line, nearest

ExecutorName = Literal["local", "slurm", "ray"]
LOOK_EVERY = 0.5
"""Seconds between two looks at how far a stage is."""


@dataclass(frozen=True)
class Stage:
    """`run(rank, tasks)` is picklable; ranks never write the same file. `alone`: one task does it all. `done` counts
    the files that are finished, and all of them, for the progress bar."""

    name: str
    run: Callable[[int, int], None]
    alone: bool = False
    done: Callable[[], tuple[int, int]] | None = None


def run_stages(
    stages: Sequence[Stage],
    *,
    executor: ExecutorName = "local",
    tasks: int = 1,
    executor_config: Path | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> None:
    """Carry out stages one after the other, each by `tasks` tasks at the same time.

    `executor_config` and `folder` (for logs and what is submitted) are for Slurm and Ray. `DataError` where a task has
    failed by its input or was killed; what is finished stays, and the same call goes on from there.
    """
    check_executor(executor, tasks)
    if executor != "local":
        raise DataError(f"--executor {executor}: not available here. Use local.")
    for stage in stages:
        with _shown(stage, progress):
            if tasks == 1 or stage.alone:
                stage.run(0, 1)
            else:
                _run_in_processes(stage, tasks)


def check_executor(executor: str, tasks: int) -> None:
    """`DataError` for an executor that there is not, or no tasks."""
    if executor not in get_args(ExecutorName):
        raise DataError(f"--executor {executor}: no such executor.{nearest(executor, get_args(ExecutorName))}")
    if tasks < 1:
        raise DataError(f"--tasks {tasks}: expected at least 1.")


def _run_in_processes(stage: Stage, tasks: int) -> None:
    """A process for each task. The first that fails ends the others."""
    context = multiprocessing.get_context("forkserver")
    # Imported once, by the process that all tasks are forked from: it takes seconds.
    context.set_forkserver_preload([_module_of(stage.run)])
    running: dict[Any, tuple[int, Any, Connection]] = {}
    try:
        for rank in range(tasks):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_task, args=(stage, rank, tasks, theirs), daemon=True)
            process.start()
            theirs.close()
            running[process.sentinel] = (rank, process, ours)
        while running:
            for sentinel in wait(list(running)):
                rank, process, messages = running.pop(sentinel)
                process.join()
                if process.exitcode != 0:
                    raise _failure(stage, rank, tasks, process.exitcode, messages)
    finally:
        for _, process, _ in running.values():
            process.kill()
        for _, process, _ in running.values():
            process.join()


def _module_of(run: Callable[..., Any]) -> str:
    """Where a function is defined, for a partial one that which it calls."""
    return run.func.__module__ if isinstance(run, partial) else run.__module__


def _failure(stage: Stage, rank: int, tasks: int, exit_code: int, messages: Connection) -> Exception:
    """What became of a task, as an error of this process."""
    try:
        is_input, message = messages.recv() if messages.poll() else (None, "")
    except EOFError:
        is_input, message = None, ""
    if is_input:
        return DataError(message)
    where = f"stage '{stage.name}', task {rank + 1} of {tasks}"
    if is_input is None:
        ended = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        return DataError(
            f"{where}: was killed ({ended}), perhaps for want of memory. What is finished is kept: give the same "
            "command again, with fewer --tasks if memory was short."
        )
    return RuntimeError(f"{where}:\n{message}")


def _task(stage: Stage, rank: int, tasks: int, messages: Connection) -> None:
    """One task, in a process of its own: it ends with its parent, which alone hears Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        stage.run(rank, tasks)
    except (DataError, OSError) as error:
        messages.send((True, error_line(error)))
        os._exit(1)
    except BaseException:
        messages.send((False, traceback.format_exc()))
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _shown(stage: Stage, progress: bool) -> Iterator[None]:
    """A bar with rate and time left while a stage runs."""
    if not progress:
        yield
        return
    over = threading.Event()
    with tqdm(desc=stage.name, unit="file", leave=stage.done is not None, disable=None) as bar:

        def look() -> None:
            if stage.done is None:
                bar.refresh()
                return
            done, bar.total = stage.done()
            if bar.initial == bar.n == 0 and done:
                bar.initial = done  # what an earlier run has made says nothing of this one's rate
            bar.update(done - bar.n)

        def watch() -> None:
            while not over.wait(LOOK_EVERY):
                look()

        look()
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            look()
        finally:
            over.set()
            watcher.join()
