"""The question to show a model with, chosen from its scores: one that it answered right, of the kind it does best."""

from collections.abc import Mapping
from typing import Any

from eval.scores import SEPARATOR, is_share


def demonstration(scores: Mapping[str, Any]) -> dict[str, Any] | None:
    """A sample that the model answered right, with `row`, the index in `rows` of its kind's score; None where no
    sample is right.

    The kind that lies farthest above chance: a model that guesses between two answers is right half of the time.
    """
    kinds = {row["group"]: index for index, row in enumerate(scores["rows"]) if is_share(row)}
    right = [
        sample | {"row": kinds[kind_of(sample)]}
        for sample in scores["samples"]
        if sample.get("correct") and kind_of(sample) in kinds
    ]

    def above_chance(sample: Mapping[str, Any]) -> float:
        row = scores["rows"][sample["row"]]
        return row["value"] - (row["chance"] or 0)

    return max(right, key=above_chance, default=None)


def kind_of(sample: Mapping[str, Any]) -> str | None:
    """The group of the rows that score a sample's kind; None for a sample of a task without levels and kinds."""
    if "kind" not in sample or "level" not in sample:
        return None
    return kind_group(sample["level"], sample["kind"])


def kind_group(level: int, kind: str) -> str:
    """The group of a kind of problem, such as "level 1 / last digit"."""
    return SEPARATOR.join((f"level {level}", kind.replace("-", " ")))


def was_right_nowhere(scores: Mapping[str, Any]) -> bool:
    """Whether a model was asked questions and answered none of them right."""
    values = [row["value"] for row in scores["rows"] if is_share(row)]
    return bool(values) and not any(values)
