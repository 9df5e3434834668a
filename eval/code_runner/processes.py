"""All processes that one command started: found, and ended so that none is left."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType

REAP_SECONDS = 2.0  # for a command to end by itself when what it started has ended
END_SECONDS = 30.0  # for the kernel to end what was killed, on a machine as busy as may be


def descendants(process: int) -> Iterator[int]:
    """A process and all that it started, themselves or through others."""
    waiting = [process]
    while waiting:
        member = waiting.pop()
        yield member
        try:
            for task in os.listdir(f"/proc/{member}/task"):
                waiting += map(int, Path(f"/proc/{member}/task/{task}/children").read_text().split())
        except OSError:
            continue


class Family:
    """A command in a session of its own and all that it starts. Leaving the context ends them.

    The program can leave neither its process group (the filter of system calls) nor, where it has one, its process
    namespace, so that killing the groups and waiting for the first processes leaves nobody.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.handles: dict[int, int] = {}
        self.groups: set[int] = set()

    def __enter__(self) -> "Family":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def meet(self) -> None:
        """Hold on to the processes that there are: the first of a namespace, and the leader of a group."""
        for member in descendants(self.process.pid):
            if member == self.process.pid or member in self.handles:
                continue
            try:
                handle = os.pidfd_open(member)
            except OSError:
                continue
            self.handles[member] = handle
            try:
                self.groups.add(os.getpgid(member))
            except OSError:
                continue

    def end(self) -> None:
        """Kill all and wait until they are gone. `TimeoutError` when the kernel does not end them.

        The command itself comes last: it reaps what it started, and an orphan would go to whoever adopts it.
        """
        if self.process.returncode is None:
            self.meet()
            # While the command is not reaped, its number, which is its group's, belongs to nobody else.
            running = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            for group in self.groups - {self.process.pid, os.getpgrp()} if running else ():
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            for handle in self.handles.values():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            deadline = monotonic() + END_SECONDS
            for member, handle in self.handles.items():
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
                    raise TimeoutError(f"process {member} of a generated program did not end after SIGKILL")
            try:
                self.process.wait(REAP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for handle in self.handles.values():
            os.close(handle)
        self.handles.clear()
