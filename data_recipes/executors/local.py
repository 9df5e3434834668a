"""Stages on this machine: in this process, or each task in a process of its own."""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from tqdm import tqdm

from data_recipes.errors import DataError, error_line
from data_recipes.executors.stage import Stage

LOOK_EVERY = 0.5
"""Seconds between two looks at how far a stage is."""


def run_here(stages: Sequence[Stage], *, tasks: int, progress: bool) -> None:
    """Each stage by `tasks` processes at once. `DataError` where a task has failed by its input or was killed."""
    with Workers(tasks) as workers:
        for stage in stages:
            with _shown(stage, progress):
                if tasks == 1 or stage.alone:
                    stage.run(0, 1)
                else:
                    workers.run(stage)


class Workers:
    """A process for each task, kept from stage to stage; started with the first stage that needs them."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self._running: list[tuple[Any, Connection]] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        for process, _ in self._running:
            process.kill()
        for process, connection in self._running:
            process.join()
            connection.close()

    def run(self, stage: Stage) -> None:
        """Carry out a stage. The first task that fails raises; leaving the context ends the others."""
        if not self._running:
            self._start(_module_of(stage.run))
        busy = {}
        for rank, (process, connection) in enumerate(self._running):
            with suppress(BrokenPipeError):  # killed since the stage before; its sentinel says how
                connection.send((stage, rank, self.tasks))
            busy[process.sentinel] = busy[connection] = (rank, process, connection)
        while busy:
            for ready in wait(list(busy)):
                if ready not in busy:
                    continue
                rank, process, connection = busy[ready]
                try:
                    problem = connection.recv() if connection.poll() else Ended()
                except (EOFError, ConnectionResetError):
                    problem = Ended()
                if problem is not None:
                    raise _failure(stage, rank, self.tasks, process, problem)
                del busy[process.sentinel], busy[connection]

    def _start(self, module: str) -> None:
        context = multiprocessing.get_context("forkserver")
        # Imported once, by the process that all tasks are forked from: it takes seconds.
        context.set_forkserver_preload([module])
        for _ in range(self.tasks):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._running.append((process, ours))


class Ended(Exception):
    """A process has ended without a word."""


def _module_of(run: Callable[..., Any]) -> str:
    """Where a function is defined, for a partial one that which it calls."""
    return run.func.__module__ if isinstance(run, partial) else run.__module__


def _failure(stage: Stage, rank: int, tasks: int, process: Any, problem: Exception) -> Exception:
    """What became of a task, as an error of this process."""
    if not isinstance(problem, Ended):
        return problem
    process.join()
    ended = f"signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
    return DataError(
        f"stage '{stage.name}', task {rank + 1} of {tasks}: was killed ({ended}), perhaps for want of memory. What is "
        "finished is kept: give the same command again, with fewer --tasks if memory was short."
    )


def _work(stages: Connection) -> None:
    """Carry out one task after the other, in a process that ends with its parent, which alone hears Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        problem: Exception | None = None
        try:
            received = stages.recv_bytes()
        except EOFError:
            return
        try:
            stage, rank, tasks = pickle.loads(received)
            stage.run(rank, tasks)
        except (DataError, OSError) as error:
            problem = DataError(error_line(error))  # an error of a class of its own may not travel
        except Exception:
            problem = RuntimeError(f"in a task:\n{traceback.format_exc()}")
        stages.send(problem)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _shown(stage: Stage, progress: bool) -> Iterator[None]:
    """A bar with rate and time left while a stage runs; without a count, one with the time that has passed."""
    if not progress:
        yield
        return
    # What an earlier run has made says nothing of this one's rate.
    made, total = stage.done() if stage.done is not None else (0, None)
    over = threading.Event()
    counted = stage.done is not None
    with tqdm(desc=stage.name, unit=stage.unit, initial=made, total=total, leave=counted, disable=None) as bar:

        def look() -> None:
            if stage.done is not None:
                bar.update(stage.done()[0] - bar.n)
            if stage.note is not None:
                bar.set_postfix_str(stage.note(), refresh=False)
            bar.refresh()

        def watch() -> None:
            while not over.wait(LOOK_EVERY):
                look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            look()
