"""Runs generated programs with their tests, and says which passed: the step between answers and pass@k.

Every program goes through `eval.code_runner`; equal ones, which are common at low temperature, run once.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from eval.code_runner import ProgramResult, run_programs
from eval.errors import EvalError
from eval.metrics.pass_at_k.estimator import pass_at_k

# The measures of a task of programs, from as many answers a question.
COUNTS = (1, 10)


@dataclass(frozen=True)
class Program:
    """A program and the tests that run after it, with its limits."""

    source: str
    tests: str = ""
    seconds: float = 10.0
    memory_bytes: int = 2**30  # numpy, which the + tests use, does not start in half of it


def run_all(programs: Sequence[Program]) -> list[ProgramResult]:
    """The runner's result for each program, in order. `EvalError` where this machine cannot run programs safely."""
    distinct = list(dict.fromkeys(programs))
    # Processes of one machine share its cores: limits are of wall time.
    workers = max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    running = run_programs((asdict(program) for program in distinct), workers=workers)
    results = dict(zip(distinct, tqdm(running, "running programs", len(distinct), disable=None), strict=True))
    for result in results.values():
        if result.status == "refused":
            raise EvalError(f"generated programs cannot be run here: {result.reason}")
    return [results[program] for program in programs]


def passed(answers: Sequence[Sequence[Program]]) -> list[list[bool]]:
    """For each question, which of its answers passed their tests."""
    flat = iter(run_all([program for programs in answers for program in programs]))
    return [[next(flat).status == "passed" for _ in programs] for programs in answers]


def process_results(doc: Any, results: Sequence[Sequence[bool]]) -> dict[str, float]:
    """pass@1, and pass@10 where there are ten answers, of a question; `results[0]` is what `passed` gave for it."""
    return {f"pass@{k}": pass_at_k(len(results[0]), sum(results[0]), k) for k in COUNTS if k <= len(results[0])}


def code_block(answer: str, function: str) -> str:
    """The first fenced block of an answer that defines `function`, else the first; an answer without fences is code."""
    blocks = re.findall(r"```[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", answer, re.DOTALL)
    defines = re.compile(rf"\bdef\s+{re.escape(function)}\s*\(")
    return next((block for block in blocks if function and defines.search(block)), blocks[0] if blocks else answer)
