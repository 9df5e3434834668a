"""How a training script ends: by a signal, with its launcher or driver, by an error; and with which exit code.

A driver is the program that started `accelerate launch` (`yulanmini reproduce`). accelerate stands between the two and
passes on neither signals nor exit codes, so the script leaves its process id and its exit code in the driver's folder.
Without a driver (the environment variables unset) `announce` and `report_exit_code` do nothing.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_recipes.errors import DataError, error_line, full_disk_message, is_full_disk
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from train.errors import TrainError
from train.launch.interrupt import EXIT_CODE, MESSAGE, is_interruption
from train.launch.launcher import EXIT_CODE_FILE, FOLDER_VARIABLE, PID_FILE, PID_VARIABLE
from train.launch.world import World

TIME_IS_UP = signal.SIGUSR1
SIGNALS = (signal.SIGINT, signal.SIGTERM, TIME_IS_UP)
REPEATED = 2.0

# `accelerate launch` sets this variable for its processes; libraries may set it later, in processes it did not start.
_LAUNCHER = os.getppid() if "ACCELERATE_USE_CPU" in os.environ else None


def announce() -> None:
    """Tell the driver which process to signal, and end this process within a second of the driver's death.

    A script that outlived its driver would write into the folder that the next run resumes.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None or int(os.environ.get("LOCAL_RANK", "0")) != 0:
        return
    (Path(folder) / PID_FILE).write_text(str(os.getpid()))
    driver = int(os.environ[PID_VARIABLE])

    def watch() -> None:
        while True:
            time.sleep(0.5)
            try:
                os.kill(driver, 0)
            except ProcessLookupError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def report_exit_code(code: int) -> None:
    """Leave the exit code where the driver looks for it; of several ranks' that of the first to end."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is not None:
        with suppress(FileExistsError), (Path(folder) / EXIT_CODE_FILE).open("x") as file:
            file.write(str(code))


class Stopped(Exception):
    """All ranks have agreed to stop for signal `number`; the step that was begun is to be dropped."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignal:
    """Remembers a first Ctrl-C or SIGTERM, so that the steps done are saved; a second Ctrl-C ends at once.

    Launchers repeat what a rank has got from a terminal or a job queue already: other signals are not counted, nor is a
    Ctrl-C within `REPEATED` seconds of the first. SIGUSR1 is what a queue sends ahead of a time limit: `TIME_IS_UP`.
    The end of `accelerate launch`, which passes no signal on to a single process, counts as a SIGTERM. A context
    manager: signals are caught inside it only.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._since = 0.0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        self._handlers = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def wanted(self) -> int:
        """The number of the signal to stop for, 0 while there is none."""
        if self.number is None and _LAUNCHER is not None and os.getppid() != _LAUNCHER:
            self.number = signal.SIGTERM
        return self.number or 0

    def look(self, world: World) -> None:
        """Raise `Stopped` on every rank where any of them has got a signal. Collective, between two micro-batches.

        The ranks are at the same micro-batch then, and leave it together: no collective of the model is left half
        done. Hosts wait for each other over gloo (under a millisecond), not for their devices. A host runs ahead of
        its device by the 1,024 kernels of a launch queue, less than one micro-batch, and saving waits for these.
        """
        if number := int(world.any(float(self.wanted()))[0]):
            self.number = number
            raise Stopped(number)

    def _remember(self, number: int, frame: Any) -> None:
        if self.number is None:
            self.number, self._since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > REPEATED:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def explain(error: Exception, *, memory_advice: Callable[[], str], folder: Callable[[], Path]) -> int:
    """Print an error caused by input or machine as one sentence and return its exit code; re-raise any other.

    `folder`: where the run writes, for a full disk that the error does not place.
    """
    text = str(error)
    if is_interruption(error):
        print(MESSAGE, file=sys.stderr)
        return EXIT_CODE
    if isinstance(error, TrainError | DataError | CheckpointError) or (isinstance(error, OSError) and error.filename):
        return print_error(error_line(error))
    if is_full_disk(error):
        return print_error(full_disk_message(folder()))
    if isinstance(error, OSError):
        return print_error(error_line(error))
    if isinstance(error, torch.distributed.DistError) or "gloo/transport" in text:
        return print_error("another rank was lost. The same command resumes from the last checkpoint.", code=1)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return print_error(f"out of memory ({text.splitlines()[0]}). {memory_advice()}")
    raise error


def print_error(message: str, *, code: int = 2) -> int:
    """Print an error that occurs on every rank once: rank 0 does, the others only where it has not after a while."""
    if os.environ.get("RANK", "0") != "0":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the launcher ends them
        end = time.monotonic() + 8
        while time.monotonic() < end and not _is_reported():
            time.sleep(0.1)
    if not _is_reported():
        tqdm.write(f"error: {message}", file=sys.stderr)
    return code


def _is_reported() -> bool:
    """Whether a rank has ended and said why; never without a driver."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return folder is not None and (Path(folder) / EXIT_CODE_FILE).is_file()
