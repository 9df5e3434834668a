"""How long each stage took and how much memory its processes held, appended to `timings.jsonl`."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from data_recipes.machine import this_machine

SAMPLING_SECONDS = 0.25


def resident_bytes(process: psutil.Process) -> int:
    """Memory of a process and all below it. Pages that forks share are counted once for each (an upper bound)."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += member.memory_info().rss
    return total


@contextmanager
def stage_clock(stage: str, log: Path) -> Iterator[None]:
    """Time the body and sample its memory; append one line to `log` when it ends, interrupted or not.

    Keys: stage, started (Unix seconds), seconds, peak_rss_bytes, finished (false when it was interrupted), machine.
    """
    process = psutil.Process()
    peak = resident_bytes(process)
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(SAMPLING_SECONDS):
            peak = max(peak, resident_bytes(process))

    sampler = threading.Thread(target=sample, daemon=True)
    started = time.time()
    sampler.start()
    finished = False
    try:
        yield
        finished = True
    finally:
        seconds = time.time() - started
        ended.set()
        sampler.join()
        line: dict[str, Any] = {"stage": stage, "started": round(started, 3), "seconds": round(seconds, 3)}
        line |= {"peak_rss_bytes": peak, "finished": finished, "machine": this_machine()}
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
