"""Downstream tasks at phase ends: `yulanmini eval run` on the exported model, in a process of its own.

A process, because training must know nothing of evaluation, and because a task that fails must not end a run.
"""

import subprocess
import sys
from pathlib import Path

from train.config import DownstreamSettings


def score_phase(settings: DownstreamSettings, model: Path, destination: Path) -> str | None:
    """Write `destination` (a folder with scores.json) for a model folder; returns what went wrong, or None."""
    if destination.exists():
        return None
    command = [sys.executable, "-m", "yulanmini.cli", "eval", "run", str(model), "--data", str(settings.data)]
    command += ["--suite", settings.suite, "--device", settings.device, "--out", str(destination)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return None
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return f"{' '.join(command[1:])} failed: {last[0]}"
