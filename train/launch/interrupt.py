"""Ctrl-C and SIGTERM at any moment: exit code 130 and one line, never a traceback.

To be set up before the libraries are imported, which takes seconds: so this imports next to nothing itself.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing itself takes 10 ms to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

EXIT_CODE = 130
MESSAGE = "Interrupted. What was finished is kept; the same command resumes from there."
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The file descriptor of the message at a sudden end. What shows stderr by a thread (yulanmini/reproduce/screen.py) sets
# it to the real one: a thread does not outlive the end.
stderr = 2


def catch() -> None:
    """From here on a signal raises KeyboardInterrupt, or ends the process where that would not come through."""
    for number in SIGNALS:
        signal.signal(number, _raise)
    sys.unraisablehook = _unraisable


def is_interruption(error: BaseException | None) -> bool:
    """Whether an error is a KeyboardInterrupt, or what a library has made of one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def leave(*_: Any) -> None:
    """End this process at once. What is written appears whole, so nothing half-written counts later."""
    os.write(stderr, f"\n{MESSAGE}\n".encode())
    os._exit(EXIT_CODE)


def _raise(number: int, frame: FrameType | None) -> None:
    # A KeyboardInterrupt inside an import may come out as an ImportError, or as a traceback that C code prints.
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            leave()
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(event: Any) -> None:
    # In a destructor or callback, where nothing can be raised: the work would go on.
    if issubclass(event.exc_type, KeyboardInterrupt):
        leave()
    sys.__unraisablehook__(event)
