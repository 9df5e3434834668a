"""How long a run will take: the stages' times on a reference machine, scaled by how fast this one is.

How fast it is, is known from the stages that the run has finished; before the first, from a short test of its speed.
"""

import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REFERENCE_FILE = Path(__file__).with_name("reference_times.yaml")
ALL_PHASES = 27
GROW_WITH_PHASES = ("data", "pretrain", "hub")
USE_THREADS = ("pretrain", "sft", "dpo", "on-policy", "scores")
ONE_THREAD = 1.7  # times as long as on two; more than two bring a miniature next to nothing
# Stages of which one progress bar shows all of the work; others have several, or none.
ONE_BAR = ("pretrain", "sft", "on-policy")
TIME_LEFT = re.compile(r"<(?:(\d+):)?(\d+):(\d+)[,\]]")
# What the test is worth beside what stages really took, in seconds of the reference machine.
TRUST_IN_TEST = 15.0
RANGES = {
    "test": (0.75, 1.7),
    "stages": (0.85, 1.35),
}  # an estimate by a test does not see what else the machine will do


def reference_seconds(scale: str, *, phases: int, threads: int) -> dict[str, float]:
    """Seconds of each stage on the reference machine; none for a scale that was never measured."""
    stages = yaml.safe_load(REFERENCE_FILE.read_text())["stages"].get(scale, {})
    for stage in stages:
        if stage in GROW_WITH_PHASES:
            stages[stage] *= phases / ALL_PHASES
        if stage in USE_THREADS and threads == 1:
            stages[stage] *= ONE_THREAD
    return stages


def speed_test(repeats: int = 9) -> float:
    """Seconds of a piece of work like a layer of the miniature on one thread: the median of several repeats."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ones = torch.ones(1792, 96), torch.ones(96, 512) / 96
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            for _ in range(4):
                hidden = torch.nn.functional.silu(ones[0] @ ones[1])
                (hidden @ ones[1].T).softmax(-1)
            times.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times)


def tested_factor() -> float:
    """How many times as long as the reference machine this one takes, by the test."""
    return speed_test() / float(yaml.safe_load(REFERENCE_FILE.read_text())["probe"])


@dataclass
class Estimate:
    """`expected`: seconds of each stage on the reference machine, in their order. `tested`: how many times as long this
    machine takes by the test, None where stages were there to tell."""

    expected: Mapping[str, float]
    tested: float | None
    finished: set[str] = field(default_factory=set)
    _taken: float = 0.0
    _counted: float = 0.0

    @classmethod
    def of(cls, expected: Mapping[str, float], timings: Sequence[Mapping[str, Any]]) -> "Estimate":
        """From the lines of the run's timings.jsonl where it has finished a stage, else by the test."""
        lines = [line for line in timings if line.get("finished") and expected.get(line["stage"])]
        estimate = cls(expected, None if lines or not expected else tested_factor())
        for line in lines:
            estimate.learn(line["stage"], line["seconds"])
        return estimate

    def learn(self, stage: str, seconds: float) -> None:
        """A stage is finished, and took so long."""
        self.finished.add(stage)
        if stage in self.expected:
            self._taken += seconds
            self._counted += self.expected[stage]

    def factor(self, seconds: float = 0.0, expected: float = 0.0) -> float:
        """How many times as long as the reference machine this one takes; if it takes so many seconds for one more
        stage, of which so many were expected."""
        test = TRUST_IN_TEST if self.tested is not None else 0.0
        taken = test * (self.tested or 0.0) + self._taken + seconds
        counted = test + self._counted + expected
        return taken / counted if counted else 1.0

    def left(self, stage: str | None = None, elapsed: float = 0.0, bar: str = "") -> float | None:
        """Seconds to the end of the run, `elapsed` seconds into a stage whose progress bar reads so; None where nothing
        is known of the scale."""
        if not self.expected:
            return None
        later = sum(seconds for name, seconds in self.expected.items() if name not in {*self.finished, stage})
        expected = self.expected.get(stage or "", 0.0)
        shown = TIME_LEFT.search(bar) if stage in ONE_BAR else None
        if shown is None:
            return max(expected * self.factor() - elapsed, 0.0) + later * self.factor()
        hours, minutes, seconds = (int(part or 0) for part in shown.groups())
        here = hours * 3600 + minutes * 60 + seconds
        return here + later * self.factor(elapsed + here, expected)

    def range(self) -> str | None:
        """What to expect in all, said before the first stage, with where that is from."""
        left = self.left()
        if not left:
            return None
        low, high = RANGES["stages" if self.tested is None else "test"]
        source = (
            "from the times of the stages that are done"
            if self.tested is None
            else "from another run's times and a short test of this machine; other work on it makes it longer"
        )
        return f"Expected time: {rough(low * left)} to {rough(high * left)} ({source})."


def rough(seconds: float) -> str:
    """A time that is not known to the second: 40 s, 6 min, 1 h 20 min."""
    if seconds < 90:
        return f"{max(5 * round(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
