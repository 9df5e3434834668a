"""Scores of exported models, made by the user's command in a process of its own while training goes on.

Only rank 0 has such a process, and no rank waits for it in a collective: a benchmark that takes an hour would end the
others by their time limit. A command may as well hand over, to a job queue say, and return at once.
"""

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

# What launchers set for their ranks: a program that finds it would wait for the other ranks.
_OF_A_RANK = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)"
    r"|(TORCHELASTIC|ACCELERATE|FSDP|PARALLELISM_CONFIG|YULANMINI_DRIVER)_.*"
)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ScoresBeside:
    """Runs `command` for one model after the other; `{model}`, `{scores}` and `{python}` stand for the places."""

    def __init__(self, command: str | None, folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._waiting: list[Path] = []
        self._running: tuple[subprocess.Popen[bytes], list[str], IO[bytes]] | None = None

    def add(self, model: Path) -> None:
        """Have a model folder scored, unless that was done (`scores/` has a folder of its name) or is to be."""
        if self._command is not None and model.is_dir() and model not in self._waiting:
            self._waiting.append(model)

    def poll(self) -> list[str]:
        """Start what is next, without waiting; what went wrong with one that has ended."""
        problems = []
        if self._running is not None and self._running[0].poll() is not None:
            problems += self._ended()
        while self._running is None and self._waiting:
            model = self._waiting.pop(0)
            if not (scores := self._folder / model.name).exists():
                problems += self._start(model, scores)
        return problems

    def finish(self, wanted: Callable[[], int]) -> list[str] | None:
        """Wait for all; what went wrong, or None if a stop is `wanted` before."""
        problems = self.poll()
        while self._running is not None:
            if wanted():
                return None
            time.sleep(0.05)
            problems += self.poll()
        return problems

    def close(self, patience: float = 5.0) -> None:
        """End a process that still runs; the same command scores its model when the run goes on."""
        if self._running is None:
            return
        process, _, errors = self._running
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        errors.close()
        self._running = None

    def _start(self, model: Path, scores: Path) -> list[str]:
        assert self._command is not None
        places = {"{model}": str(model), "{scores}": str(scores), "{python}": sys.executable}
        words = [places.get(word, word) for word in shlex.split(self._command)]
        environment = {key: value for key, value in os.environ.items() if not _OF_A_RANK.fullmatch(key)}
        errors = tempfile.TemporaryFile()  # noqa: SIM115  read when the process has ended
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                preexec_fn=_end_with_the_run,
            )
        except OSError as error:
            errors.close()
            return [f"evaluation.command: {words[0]} cannot be run ({error.strerror})."]
        self._running = (process, words, errors)
        return []

    def _ended(self) -> list[str]:
        assert self._running is not None
        (process, words, errors), self._running = self._running, None
        with errors:
            if process.returncode == 0:
                return []
            errors.seek(0)
            told = errors.read().decode(errors="replace").strip().splitlines()
        last = told[-1] if told else f"exit code {process.returncode}"
        return [f"{shlex.join(words)} failed: {last}"]


def _end_with_the_run() -> None:
    """In the new process: a run that is killed takes it along, as the resumed one scores that model anew."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
