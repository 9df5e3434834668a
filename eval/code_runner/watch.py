"""Starts an isolated program and watches it from outside: time, output, memory, processes, files; then ends all of it.

Memory of the caller stays within the limit of output whatever the program writes.
"""

import math
import os
import selectors
import socket
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from eval.code_runner.backends import WORK, Space
from eval.code_runner.processes import Family, descendants

GUEST_READY = b"confined"
START_SECONDS = 20.0  # from the launch to the program's first instruction, on a machine as busy as may be
LOOK_EVERY = 0.05  # seconds between looks at memory, processes and files
READ_BYTES = 2**16
BLOCK_BYTES = 512  # of st_blocks, whatever the file system's are


@dataclass(frozen=True)
class Watch:
    """What ends a program from outside. `folder`: where its files lie on this machine, None where they are limited."""

    seconds: float
    memory_bytes: int
    output_bytes: int
    space: Space
    folder: Path | None


@dataclass
class Ending:
    """What was seen of a program until its end. `stopped` says why it was ended from outside, if it was."""

    ready: bool = False
    passed: bool = False
    timed_out: bool = False
    stopped: str | None = None
    code: int | None = None
    seconds: float = 0.0
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)


def watched(command: Sequence[str], environment: dict[str, str], job: bytes, nonce: bytes, watch: Watch) -> Ending:
    """Run the command with the job on its input, until it ends or has to be ended. Nothing of it is left after."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        with process, Family(process) as family:
            return _follow(family, ours, len(job).to_bytes(8, "big") + job + nonce, nonce, watch)


def _follow(family: Family, control: socket.socket, job: bytes, nonce: bytes, watch: Watch) -> Ending:
    ending = Ending()
    process = family.process
    began = monotonic()
    deadline = began + START_SECONDS
    next_look = began + LOOK_EVERY
    outstanding = memoryview(job)
    answer = b""
    control.setblocking(False)
    assert process.stdout is not None
    assert process.stderr is not None
    buffers = {process.stdout.fileno(): ending.stdout, process.stderr.fileno(): ending.stderr}
    ended = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector, os.fdopen(ended, "rb", closefd=True):
        selector.register(control, selectors.EVENT_READ | selectors.EVENT_WRITE)
        selector.register(ended, selectors.EVENT_READ)
        for descriptor in buffers:
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        running = True
        while running and ending.stopped is None:
            now = monotonic()
            if now >= deadline:
                ending.timed_out = True
                break
            if now >= next_look:
                ending.stopped = too_much(process.pid, watch) if ending.ready else None
                next_look = monotonic() + LOOK_EVERY
            for key, events in selector.select(max(0.0, min(deadline, next_look) - now)):
                if key.fd == ended:
                    running = False
                elif key.fd in buffers:
                    if not _take(key.fd, buffers[key.fd], watch.output_bytes, ending):
                        selector.unregister(key.fd)
                else:
                    if events & selectors.EVENT_WRITE:
                        outstanding = outstanding[_send(control, outstanding) :]
                        if not outstanding:
                            selector.modify(control, selectors.EVENT_READ)
                    if events & selectors.EVENT_READ:
                        try:
                            part = control.recv(READ_BYTES)
                        except OSError:
                            part = b""
                        answer += part
                        if not part or len(answer) > len(GUEST_READY) + len(nonce):
                            selector.unregister(control)
                        if answer.startswith(GUEST_READY) and not ending.ready:
                            ending.ready = True
                            family.meet()
                            began = monotonic()
                            deadline = began + watch.seconds
        ending.seconds = monotonic() - began
        family.end()
        for descriptor, buffer in buffers.items():
            while _take(descriptor, buffer, watch.output_bytes, ending) and len(buffer) <= watch.output_bytes:
                pass
        with suppress(OSError):
            answer += control.recv(READ_BYTES)
    ending.code = process.returncode
    ending.passed = answer == GUEST_READY + nonce
    return ending


def _send(control: socket.socket, data: memoryview) -> int:
    try:
        return control.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # it is gone, which the end of the process will tell


def _take(descriptor: int, buffer: bytearray, limit: int, ending: Ending) -> bool:
    """Move what a stream holds into its buffer, up to the limit and one byte; False when there is nothing more."""
    try:
        part = os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return False
    buffer += part[: limit + 1 - len(buffer)]
    if len(buffer) > limit and ending.stopped is None:
        ending.stopped = f"wrote more than {limit:,} bytes of output"
    return bool(part)


def too_much(process: int, watch: Watch) -> str | None:
    """The sentence why a program must be ended now, if it must."""
    memory, tasks = 0, 0
    members = []
    for member in descendants(process):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        memory += sum(int(fields[key].split()[0]) for key in ("RssAnon", "RssShmem") if key in fields) * 1024
        tasks += int(fields.get("Threads", "0"))
        members.append(member)
    if memory > watch.memory_bytes:
        return f"all its processes together used more than {watch.memory_bytes:,} bytes of memory"
    if tasks > watch.space.processes + 8:  # the launcher's own beside the program's
        return f"had more than {watch.space.processes} processes and threads"
    size, count = folder_use(watch, members)
    if size > watch.space.bytes or count > watch.space.files:
        return f"filled its folder with more than {watch.space.bytes:,} bytes or {watch.space.files:,} files"
    return None


def folder_use(watch: Watch, members: Sequence[int]) -> tuple[float, float]:
    """Bytes and files that the program holds; without end where a part of its folder cannot be looked into.

    In memory, where the sum of sizes is limited, they are seen through the root of one of the program's processes. On
    disk they are counted, with those that are open but have no name any more; those that are only mapped cannot be.
    """
    if watch.folder is None:
        for member in reversed(members):
            with suppress(OSError):
                there = os.statvfs(f"/proc/{member}/root{WORK}")
                return 0, there.f_files - there.f_ffree
        return 0, 0
    if _maps_removed(members, watch.folder):
        return math.inf, math.inf
    size, count = _removed_but_open(members, watch.folder)
    folders = [str(watch.folder)]
    while folders and size <= watch.space.bytes and count <= watch.space.files:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue
        except OSError:
            return math.inf, math.inf
    return size, count


def _maps_removed(members: Sequence[int], folder: Path) -> bool:
    for member in members:
        with suppress(OSError), open(f"/proc/{member}/maps", errors="replace") as file:
            if any(line.endswith(" (deleted)\n") and f" {folder}/" in line for line in file):
                return True
    return False


def _removed_but_open(members: Sequence[int], folder: Path) -> tuple[int, int]:
    device = folder.stat().st_dev
    sizes = {}
    for member in members:
        with suppress(OSError):
            for name in os.listdir(f"/proc/{member}/fd"):
                with suppress(OSError):
                    found = os.stat(f"/proc/{member}/fd/{name}")
                    if found.st_nlink == 0 and found.st_dev == device and stat.S_ISREG(found.st_mode):
                        sizes[found.st_ino] = found.st_blocks * BLOCK_BYTES
    return sum(sizes.values()), len(sizes)
