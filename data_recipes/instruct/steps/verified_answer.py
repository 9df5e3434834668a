"""Answers to mathematical questions compared with the right one, as the report did: only what matches is kept."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pyarrow as pa

from data_recipes.answers.final import final_answer
from data_recipes.answers.judge import same_answer
from data_recipes.cleaning.steps.base import Batch, Step, StepSettings, Threshold


class VerifiedAnswerSettings(StepSettings):
    """`unknown`: what becomes of a dialogue that has no right answer to compare with."""

    unknown: Annotated[Literal["keep", "drop"], Threshold()] = "keep"


class VerifiedAnswer(Step[VerifiedAnswerSettings]):
    """Column `answer_is_right`: whether the last turn's final answer equals the source's `answer`, by math-verify in a
    process with limits of time and memory; null without one."""

    name = "verified-answer"
    Settings = VerifiedAnswerSettings
    costly = True
    reads = ("messages", "answer")

    def schema(self) -> pa.Schema:
        return pa.schema([("answer_is_right", pa.bool_())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        pairs = zip(batch.columns["messages"], batch.columns["answer"], strict=True)
        return {
            "answer_is_right": [
                None if answer is None or not messages else is_right(answer, messages[-1]["content"])
                for messages, answer in pairs
            ]
        }

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        unknown = "no right answer to compare with" if self.settings.unknown == "drop" else None
        verdicts = {True: None, False: "wrong answer", None: unknown}
        return [verdicts[right] for right in signals["answer_is_right"].to_pylist()]


def is_right(gold: str, response: str) -> bool:
    """Whether a whole response ends in the right answer; the gold one may be a worked solution itself (`#### 5`)."""
    answer = final_answer(response)
    return bool(answer) and any(same_answer(one, answer) for one in dict.fromkeys((gold, final_answer(gold))))
