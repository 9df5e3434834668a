"""Judges MATH answers in a process of its own, which is stopped when an answer takes too long or too much memory.

sympy's own time limits are signals, which its long integer operations do not heed: `9^{9^{9^9}}` would hang the run.
"""

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from queue import Empty, Queue
from typing import Any

from eval.benchmarks.tasks.gsm8k.answers import last_boxed, without_further_questions
from eval.errors import EvalError

logger = logging.getLogger(__name__)
SECONDS = 12.0  # math-verify gives up after 5 s of parsing and 5 s of comparing, where it can
START_SECONDS = 120.0  # importing sympy and both parsers on a slow disk
FINAL = "final answer is"


class Judge:
    """Compares TeX answers in a child process; one that does not answer in time is replaced."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds, self.lock = seconds, threading.Lock()
        self.child: subprocess.Popen[str] | None = None
        self.lines: Queue[str] = Queue()

    def start(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "eval.benchmarks.tasks.math.compare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"},
        )
        self.child, self.lines = child, Queue()
        threading.Thread(target=self.read, args=(child, self.lines), daemon=True).start()
        try:
            ready = self.lines.get(timeout=START_SECONDS)
        except Empty:
            ready = ""
        if ready != "ready\n":
            self.stop()
            raise EvalError(
                "the process that judges MATH answers does not start; it needs sympy, antlr4 4.11 and math-verify: "
                "pip install 'yulanmini[eval]'."
            )
        return child

    @staticmethod
    def read(child: subprocess.Popen[str], lines: "Queue[str]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put("")  # ended

    def stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two TeX answers are the same; False where that cannot be found out within the limits."""
        with self.lock:
            child = self.child if self.child is not None and self.child.poll() is None else self.start()
            assert child.stdin is not None
            try:
                child.stdin.write(json.dumps([gold, answer]) + "\n")
                child.stdin.flush()
                verdict = self.lines.get(timeout=self.seconds)
            except (Empty, BrokenPipeError):
                verdict = ""
            if not verdict:
                logger.warning("an answer could not be judged within %g s and 2 GiB: %.80r", self.seconds, answer)
                self.stop()
            return verdict == "true\n"


JUDGE = Judge()
atexit.register(JUDGE.stop)


def final_answer(text: str) -> str:
    """The answer in TeX: the last of a closed \\boxed{...} and what follows "final answer is"; else the last $...$,
    what follows the last "answer is", or the last line."""
    text = without_further_questions(text).replace("I hope it is correct.", "").strip()
    boxed, named = last_boxed(text), text.rfind(FINAL)
    if boxed and boxed[0] > named:
        return boxed[1].strip()
    if named < 0:
        named = text.lower().rfind("answer is")
    if named >= 0:
        line = text[named:].split("answer is", 1)[-1] if "answer is" in text[named:] else text[named + 9 :]
        line = line.strip(" :\n").split("\n")[0]
        inside = last_boxed(line)
        return inside[1] if inside else (dollars(line) or line.rstrip(". "))
    if boxed:
        return boxed[1].strip()
    return dollars(text) or (text.splitlines()[-1].rstrip(". ") if text else "")


def dollars(text: str) -> str:
    """What stands in the last pair of $; money, which has one $ only, is not TeX."""
    parts = text.replace("\\$", "").split("$")
    return parts[-2].strip() if len(parts) >= 3 and len(parts) % 2 else ""


def gold_answer(doc: Mapping[str, Any]) -> str:
    boxed = last_boxed(doc["solution"])
    if doc.get("answer"):
        return doc["answer"]
    return boxed[1] if boxed else doc["solution"].split("\\boxed")[-1].split("$")[0].strip()


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    answer = final_answer(results[0])
    return {"exact_match": float(bool(answer) and JUDGE.equal(gold_answer(doc), answer))}
