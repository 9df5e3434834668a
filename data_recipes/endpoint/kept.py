"""Answers kept on disk by the content of their request, so that nothing is paid for twice.

A file of JSON lines that only grows. A line begins with a check sum of the rest: what a crash has torn off is cut, a
line with a flipped byte is left out and its request asked again. In memory is where each answer lies, not the answer.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import orjson
import xxhash

from data_recipes.endpoint.request import Answer, Ask, Request
from data_recipes.errors import DataError, naming_full_disk
from data_recipes.files import only_process

HEAD = b'{"check":"%s",'
HEAD_BYTES = len(HEAD) - 2 + 16


class KeptAnswers:
    """`with KeptAnswers(path) as kept:` holds the file, made if it is not there, for this process alone.

    `found`: how often `get` had an answer. `damaged`: lines left out when the file was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = 0
        self.damaged = 0
        self._place: dict[bytes, int] = {}
        self._held = ExitStack()

    def __enter__(self) -> "KeptAnswers":
        busy = DataError(f"{self.path}: another process is asking for these answers. Wait for it, or stop it first.")
        with ExitStack() as held:
            held.enter_context(only_process(self.path, busy))
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND)
            held.callback(os.close, self._file)
            self._end = self._read_index()
            if self._end < os.fstat(self._file).st_size:
                os.ftruncate(self._file, self._end)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held.close()

    def __len__(self) -> int:
        return len(self._place)

    def get(self, key: str) -> Answer | None:
        """The answer kept under a request's key, read from the disk."""
        place = self._place.get(bytes.fromhex(key))
        if place is None:
            return None
        line = b""
        while b"\n" not in line:  # most answers need one read
            part = os.pread(self._file, 1 << 14 if not line else 1 << 20, place + len(line))
            if not part:
                break
            line += part
        entry = _entry(line.partition(b"\n")[0])
        if entry is None or entry.pop("key") != key:
            raise DataError(f"{self.path}: has changed while it was in use. Stop what writes it, and start again.")
        self.found += 1
        return Answer(**entry)

    def keep(self, key: str, answer: Answer) -> None:
        """Append an answer: when this returns, a kill of the process no longer loses it."""
        rest = orjson.dumps({"key": key, **vars(answer)})[1:]
        line = HEAD % _check(rest) + rest + b"\n"
        try:
            with naming_full_disk(self.path):
                written = 0
                while written < len(line):
                    written += os.write(self._file, line[written:])
        except BaseException:
            os.ftruncate(self._file, self._end)
            raise
        self._place[bytes.fromhex(key)] = self._end
        self._end += len(line)

    def wrap(self, ask: Ask) -> Ask:
        """An `Ask` that looks here first, keeps what it gets before anyone sees it, and asks once for equal requests
        that come at the same time."""
        under_way: dict[str, asyncio.Event] = {}

        async def ask_once(request: Request) -> Answer:
            key = request.key
            while (answer := self.get(key)) is None and key in under_way:
                await under_way[key].wait()
            if answer is not None:
                return answer
            under_way[key] = over = asyncio.Event()
            try:
                answer = await ask(request)
                self.keep(key, answer)
                return answer
            finally:
                del under_way[key]
                over.set()

        return ask_once

    def _read_index(self) -> int:
        """Fill the index; returns where the last whole line ends."""
        end = 0
        for place, line in _lines(self._file):
            entry = _entry(line)
            if entry is None:
                self.damaged += 1
            else:
                self._place[bytes.fromhex(entry["key"])] = place
            end = place + len(line) + 1
        return end


def _lines(file: int) -> Iterator[tuple[int, bytes]]:
    """Where each line begins, and the line without its end; what follows the last line end is none."""
    place, rest = 0, b""
    while part := os.pread(file, 1 << 20, place + len(rest)):
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield place, line
            place += len(line) + 1


def _check(rest: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(rest).encode()


def _entry(line: bytes) -> dict | None:
    """What a line holds; None where it is not what was written."""
    rest = line[HEAD_BYTES:]
    return orjson.loads(b"{" + rest) if line[:HEAD_BYTES] == HEAD % _check(rest) else None
