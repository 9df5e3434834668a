"""Runs the programs that answer GSM8K questions, and compares what they return."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from data_recipes.answers.final import without_further_questions
from eval.benchmarks.programs import Program, run_all
from eval.benchmarks.tasks.gsm8k.answers import gold_number, numbers

TOLERANCE = Fraction(1, 1000)  # as in the PAL paper: floating point is not exact
ANSWER = "answer-of-solution:"


def code_of(text: str) -> str:
    """The first fenced block (its end may be missing), or all of an answer without fences."""
    text = without_further_questions(text)
    fenced = re.search(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return fenced[1] if fenced else text


def run(responses: Sequence[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
    """What the program of each answer returns, as text; "" where it fails. A filter of lm-eval."""
    programs = [
        [Program(code_of(text), tests=f"print({ANSWER!r}, solution())", seconds=10) for text in texts]
        for texts in responses
    ]
    results = iter(run_all([program for group in programs for program in group]))
    return [[returned(next(results)) for _ in group] for group in programs]


def returned(result: Any) -> str:
    if result.status != "passed" or ANSWER not in result.stdout:
        return ""
    return result.stdout.rsplit(ANSWER, 1)[1].strip()[:100]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    found = numbers(results[0])
    return {"exact_match": float(len(found) == 1 and abs(found[0] - gold_number(doc["answer"])) < TOLERANCE)}
