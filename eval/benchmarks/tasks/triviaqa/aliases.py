"""Compares an answer with every name that TriviaQA accepts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eval.benchmarks.tasks.quac.questions import f1, words


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    answer = re.split(r"[.!(\n]", results[0].strip())[0]
    names = [*doc["answer"]["normalized_aliases"], doc["answer"]["normalized_value"], doc["answer"]["value"]]
    return {
        "exact_match": max(float(bool(words(answer)) and words(answer) == words(name)) for name in names),
        "f1": max(f1(answer, name) for name in names),
    }
