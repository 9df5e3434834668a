"""How far the asking is, kept in a small file for each task: for the progress bar of whoever waits, and afterwards."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from data_recipes.endpoint.usage import Usage

EVERY = 0.5
"""Seconds between two looks."""
BEFORE = "before.json"


class Progress:
    """`async with Progress(work, rank, usage) as progress:` keeps `progress.seeds` and the usage up to date on disk."""

    def __init__(self, work: Path, rank: int, usage: Usage) -> None:
        self.seeds = 0
        self._usage = usage
        self._path = _folder(work) / f"task-{rank:05d}.json"

    async def __aenter__(self) -> "Progress":
        self._writing = asyncio.create_task(self._write_on())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writing.cancel()
        self._write()

    async def _write_on(self) -> None:
        while True:
            self._write()
            await asyncio.sleep(EVERY)

    def _write(self) -> None:
        content = {"seeds": self.seeds, "seconds": self._usage.seconds, "usage": self._usage.to_json()}
        _replace(self._path, content)


def begin(work: Path, done: int, total: int) -> None:
    """Say how many seeds an earlier run has left done, before any task of this one counts."""
    folder = _folder(work)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink(missing_ok=True)
    _replace(folder / BEFORE, {"seeds": done, "total": total})


def seeds_done(work: Path) -> tuple[int, int]:
    """Seeds that have a sample, and all of them."""
    before = _read(_folder(work) / BEFORE)
    return before.get("seeds", 0) + sum(one["seeds"] for one in _tasks(work)), before.get("total", 0)


def usage_so_far(work: Path) -> Usage:
    """What all tasks of the run in progress, or of the last one, have used, since the first of them began."""
    usage, seconds = Usage(), 0.0
    for one in _tasks(work):
        usage.add(Usage.from_json(one["usage"]))
        seconds = max(seconds, one["seconds"])
    usage.began = monotonic() - seconds
    return usage


def usage_line(work: Path) -> str:
    """For the progress bar: tokens a second, and what went wrong."""
    return usage_so_far(work).line()


def _tasks(work: Path) -> Iterator[dict[str, Any]]:
    found = (_read(path) for path in sorted(_folder(work).glob("task-*.json")))
    return (one for one in found if one)


def _folder(work: Path) -> Path:
    return work / "progress"


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def _replace(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with suppress(OSError):  # of no consequence for the work
        partial.write_text(json.dumps(content))
        partial.replace(path)
