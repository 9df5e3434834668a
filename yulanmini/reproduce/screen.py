"""What a stage and its processes write to stderr, shown with the time that the whole run will still take.

Everything that is written to the file descriptor goes through here: lines are passed on as they are, and a progress
bar, which overwrites itself, becomes one line at the bottom of a terminal, or a line now and then in a log file.
"""

import os
import re
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from train.launch import interrupt

STDERR = 2
EVERY_SECONDS = 0.5  # on a terminal
LOG_EVERY_SECONDS = 30.0  # in a log
ROOM_FOR_TIME = 28
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A context manager: within it, stderr is shown by a thread. `time_left` is asked with the text of the bar."""

    def __init__(self, stage: str, time_left: Callable[[str], str]) -> None:
        self.stage, self.time_left = stage, time_left
        self.bar = ""  # what the stage shows of itself at the moment
        self._begun = b""  # of a line that has not ended
        self._is_drawn = False
        self._last_logged = time.monotonic()

    def __enter__(self) -> "Screen":
        sys.stderr.flush()
        self._real = os.dup(STDERR)
        interrupt.stderr = self._real
        self.is_terminal = os.isatty(self._real)
        self._end, theirs = self._channel()
        os.dup2(theirs, STDERR)
        os.close(theirs)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stderr.flush()
        os.dup2(self._real, STDERR)
        interrupt.stderr = STDERR
        # Not the end of what can be read: a process that was killed may have left children who hold the other end.
        self._over.set()
        self._thread.join()
        self._erase()
        os.close(self._end)
        os.close(self._real)

    def _channel(self) -> tuple[int, int]:
        """Our end and the stage's: on a terminal a pseudo-terminal, so that bars fit into it and are drawn often."""
        if not self.is_terminal:
            return os.pipe()
        import fcntl
        import pty
        import struct
        import termios
        import tty

        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        columns = max(self._columns() - ROOM_FOR_TIME, 20)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        return ours, theirs

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._real).columns or 80
        except OSError:
            return shutil.get_terminal_size().columns

    def _pass_on(self) -> None:
        while True:
            is_over = self._over.is_set()
            ready = select.select([self._end], [], [], 0.0 if is_over else EVERY_SECONDS)[0]
            try:
                data = os.read(self._end, 65536) if ready else b""
            except OSError:  # a pseudo-terminal that nobody has open any more
                data = b""
            if data:
                self._take(data)
            elif is_over:
                return
            elif ready:  # nobody can write any more, until the stage is over
                self._over.wait(EVERY_SECONDS)
            self._show()

    def _take(self, data: bytes) -> None:
        """Lines go out; what is overwritten is the bar."""
        *ended, self._begun = re.split(rb"(?<=[\r\n])", self._begun + data)
        for piece in ended:
            text = piece[:-1].decode(errors="replace")
            if piece.endswith(b"\n"):
                # Before a line, a program may have erased its bar by spaces.
                if text.strip() or not self.bar:
                    self._write(f"{text.rstrip()}\n")
                self.bar = ""
            elif text.strip():
                self.bar = CONTROL_SEQUENCE.sub("", text).strip()
        # tqdm writes the bar after a carriage return and nothing behind it.
        begun = CONTROL_SEQUENCE.sub("", self._begun.decode(errors="replace")).strip()
        self.bar = begun or self.bar

    def _show(self) -> None:
        status = f"{self.bar or self.stage}  {self.time_left(self.bar)}".rstrip()
        if self.is_terminal:
            self._put(f"\r{status[: self._columns() - 1]}\x1b[K")
            self._is_drawn = True
        elif self.bar and time.monotonic() - self._last_logged >= LOG_EVERY_SECONDS:
            self._write(f"{status}\n")

    def _write(self, text: str) -> None:
        self._erase()
        self._put(text)
        self._last_logged = time.monotonic()

    def _erase(self) -> None:
        if self._is_drawn:
            self._put("\r\x1b[K")
            self._is_drawn = False

    def _put(self, text: str) -> None:
        # A closed terminal or a full disk below the log: what the stage writes must be read all the same, or it waits.
        with suppress(OSError):
            os.write(self._real, text.encode(errors="replace"))
