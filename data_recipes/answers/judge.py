"""Whether two answers are equal, judged in a process of its own that is stopped when it takes too long or too much.

sympy's own time limits are signals, which its long integer operations do not heed: `9^{9^{9^9}}` would hang the run.
"""

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
from itertools import count
from queue import Empty, Queue
from time import monotonic

from data_recipes.answers.plain import equal_where_plain
from data_recipes.errors import DataError

logger = logging.getLogger(__name__)
SECONDS = 12.0  # math-verify gives up after 5 s of parsing and 5 s of comparing, where it can
START_SECONDS = 120.0  # importing sympy and both parsers on a slow disk

_NUMBERS = count()


class Judge:
    """Compares TeX answers in a child process; one that does not answer in time is replaced."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.forget()

    def forget(self) -> None:
        """Begin without a child: that of a parent process, which a fork has copied, answers the parent."""
        self.lock = threading.Lock()
        self.child: subprocess.Popen[str] | None = None
        self.lines: Queue[str] = Queue()

    def start(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "data_recipes.answers.compare"],
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
            raise DataError(
                "the process that compares answers does not start; it needs sympy, math-verify and antlr4 4.11: "
                "pip install 'math-verify[antlr4_11_0]'."
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
            number = next(_NUMBERS)
            verdict = None
            try:
                child.stdin.write(json.dumps([number, gold, answer]) + "\n")
                child.stdin.flush()
                verdict = self.verdict_on(number)
            except (Empty, BrokenPipeError):
                pass
            except BaseException:  # Ctrl-C
                self.stop()
                raise
            if verdict is None:
                logger.warning("an answer could not be judged within %g s and 2 GiB: %.80r", self.seconds, answer)
                self.stop()
            return bool(verdict)

    def verdict_on(self, number: int) -> bool | None:
        """What the child says of a pair, whatever else it says before; None where it has ended."""
        deadline = monotonic() + self.seconds
        while line := self.lines.get(timeout=max(deadline - monotonic(), 0)):
            said, verdict = json.loads(line)
            if said == number:
                return verdict
        return None


JUDGE = Judge()
atexit.register(JUDGE.stop)
os.register_at_fork(after_in_child=JUDGE.forget)


def same_answer(gold: str, answer: str) -> bool:
    """Whether an answer is the gold one: the same number, quantity, choice, word or expression.

    Quantities are compared in their units (`1.5 km` is `1500 m`, not `1.5 m`; a unit may be left out), words and
    choices as text (`(B)` is `B) 42`), the rest as mathematics. False where that takes too long, never an error.
    """
    if not gold.strip() or not answer.strip():
        return False
    plain = equal_where_plain(gold, answer)
    return JUDGE.equal(gold, answer) if plain is None else plain
