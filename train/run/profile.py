"""`--profile STEPS`: what CPU and GPU do within a few steps, as a trace that Perfetto and Chrome open.

profile/steps-20-22.json.gz        of rank 0, in the run's folder
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from train.errors import TrainError
from train.launch.world import World


def steps_to_profile(text: str) -> range:
    """`20` or `20-22`, as steps are counted in metrics.jsonl: from 1. TrainError for anything else."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise TrainError(f"--profile {text}: expected a step such as 20, or some such as 20-22.")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


class StepProfiler:
    """Records the steps asked for; without any it does nothing. Steps that a resumed run has behind it are left out."""

    def __init__(self, steps: range | None, folder: Path, world: World, *, last_step: int) -> None:
        if steps is not None and steps[-1] > last_step:
            raise TrainError(f"--profile: step {steps[-1]:,} is asked for, but the run ends at step {last_step:,}.")
        self._steps = steps if world.is_main and steps is not None else range(0)
        self._folder = folder / "profile"
        self._gpu = world.device.type == "cuda"
        self._profile: Any = None
        self._step: Any = None

    def begin(self, step: int) -> None:
        """Step `step` begins (from 1)."""
        if step not in self._steps:
            return
        if self._profile is None:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._gpu else [])]
            self._profile = profile(activities=activities, record_shapes=True)
            self._profile.start()
        self._step = record_function(f"step {step}")
        self._step.__enter__()

    def end(self, step: int) -> Path | None:
        """Step `step` is done; the trace's path when it was the last one to record."""
        if self._step is None:
            return None
        self._step.__exit__(None, None, None)
        self._step = None
        if step != self._steps[-1]:
            return None
        if self._gpu:
            torch.cuda.synchronize()  # kernels of the last step may still run
        self._profile.stop()
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"steps-{'-'.join(map(str, dict.fromkeys((self._steps[0], self._steps[-1]))))}.json.gz"
        partial = path.with_name(f".partial-{path.name}")  # ends in .gz, by which torch knows to compress
        self._profile.export_chrome_trace(str(partial))
        partial.replace(path)
        self._profile = None
        return path
