"""Scores MATH answers: the final one of a response, compared with the gold one by the judge that all rooms use."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.answers.final import final_answer, last_boxed
from data_recipes.answers.judge import JUDGE


def gold_answer(doc: Mapping[str, Any]) -> str:
    boxed = last_boxed(doc["solution"])
    if doc.get("answer"):
        return doc["answer"]
    return boxed[1] if boxed else doc["solution"].split("\\boxed")[-1].split("$")[0].strip()


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    answer = final_answer(results[0])
    return {"exact_match": float(bool(answer) and JUDGE.equal(gold_answer(doc), answer))}
