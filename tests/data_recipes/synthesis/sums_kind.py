"""A kind for tests: `test-sums`. Processes that check samples import this, so it is small."""

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from data_recipes.synthesis.kinds.base import AskModel, Checks, Kind, Rejected, Sample, Unusable


class Sums(Kind):
    """A sum, and how it is worked out. The answer must be right, as far as the seed knows it."""

    name = "test-sums"
    summary = "a sum"
    optional_columns = ("gold",)
    fields = ("problem", "solution", "answer")
    settings: ClassVar = {"temperature": 0.5, "max_tokens": 50}
    options: ClassVar = {"form": "plain"}
    template = "problem-solution"
    text_fields = ("problem", "solution")
    final_answer = "answer"

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        text = seed.get("text")
        if not isinstance(text, str) or not text.strip():
            raise Unusable("no text")
        question = f"Work out: {text}"
        answer = await ask(question)
        if answer.finish_reason == "length":
            return Sample(question, answer.text, "length", verdict="failed", reason="no end")
        solution, mark, result = answer.text.rpartition("= ")
        if not mark:
            raise Rejected("no result")
        gold = seed.get("gold")
        fields = {
            "problem": text,
            "solution": solution.strip(),
            "answer": result if gold is None else f"{result}|{gold}",
        }
        return Sample(question, answer.text, answer.finish_reason, fields)

    def verify(self, sample: Sample, checks: Checks) -> Sample:
        given, _, gold = sample.fields["answer"].partition("|")
        if given == "hang":
            time.sleep(600)
        if given == "exit":
            os._exit(3)
        if given == "bug":
            raise KeyError("a bug")
        if gold and not checks.same_answer(gold, given):
            raise Rejected("wrong answer")
        return Sample(sample.prompt, sample.response, sample.finish_reason, {**sample.fields, "answer": given})


def equal(gold: str, answer: str) -> bool:
    return gold.strip() == answer.strip()


def run_nothing(source: str, **_: Any) -> Any:
    raise AssertionError("no program in here")


class UncheckedSums(Sums):
    """The same without a verifier, so that no process is started for it."""

    name = "test-unchecked-sums"
    verify = Kind.verify
