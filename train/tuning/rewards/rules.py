"""The rule penalties of the published run: unfinished sentences, language mixing, one-line filler answers.

The report names them (facts.md 7), not how they were computed or how much they cost; the rules (prose.py) and the
weights are ours. Each is -1 where it applies and 0 elsewhere, times its weight.
"""

from collections.abc import Sequence

from data_recipes.instruct.prose import is_one_line_filler, is_unfinished, mixes_languages
from train.tuning.rewards.base import Completion, Reward


class Unfinished(Reward):
    """-1 for an answer that was cut at the limit of tokens, is empty, or stops in the middle of a sentence."""

    name = "unfinished"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [-float(not answer.ended or is_unfinished(answer.text)) for answer in completions]


class LanguageMixing(Reward):
    """-1 for an answer with prose in a language that the question neither uses nor asks for."""

    name = "language_mixing"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [-float(mixes_languages(answer.question, answer.text)) for answer in completions]


class OneLineFiller(Reward):
    """-1 for an answer of one line that says nothing: only stock phrases, or the question again."""

    name = "one_line_filler"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [-float(is_one_line_filler(answer.question, answer.text)) for answer in completions]
