"""Whether an answer is right: its final part is compared with the prompt's column `answer`."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from data_recipes.answers.final import final_answer
from data_recipes.answers.judge import same_answer
from train.tuning.rewards.base import Completion, Reward, RewardSettings


class VerifiedAnswerSettings(RewardSettings):
    """What a `right` and a `wrong` answer give."""

    right: float = Field(1.0, allow_inf_nan=False)
    wrong: float = Field(0.0, allow_inf_nan=False)


class VerifiedAnswer(Reward):
    """`right` where the final answer equals the prompt's `answer` (a text, a number, or a list of what counts).

    The final answer is a `\\boxed{}`, what follows `Answer:`, `答案：` or "answer is", or the last line; numbers,
    quantities with units, words and expressions are compared as what they mean (data_recipes/answers), the latter in a
    process with limits of time and memory.
    """

    name = "verified_answer"
    Settings = VerifiedAnswerSettings
    needs = ("answer",)

    def check(self, columns: Mapping[str, Any]) -> None:
        super().check(columns)
        if not all(answers_of(columns)):
            raise ValueError(f"'answer' is {columns['answer']!r}; expected a text, a number, or a list of those")

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [self.settings.right if is_right(item) else self.settings.wrong for item in completions]


def answers_of(columns: Mapping[str, Any]) -> list[str]:
    """All that counts as right; an empty text stands for what is no answer."""
    given = columns["answer"]
    every = given if isinstance(given, list) and given else [given]
    is_value = [isinstance(value, str | int | float) and not isinstance(value, bool) for value in every]
    return [str(value).strip() if known else "" for value, known in zip(every, is_value, strict=True)]


def is_right(completion: Completion) -> bool:
    said = final_answer(completion.text)
    return any(same_answer(gold, said) for gold in answers_of(completion.columns))
