"""Verdicts by limits on columns: what the steps that filter by rules share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from data_recipes.cleaning.steps.base import OfStep, Step, Threshold

Limit = Annotated[float | None, Threshold()]
"""A limit in a config; null switches its rule off."""


@dataclass(frozen=True)
class Rule:
    """Drops what has less than `lowest` or more than `highest` in a column, neither if both are None."""

    column: str
    reason: str
    lowest: float | None = None
    highest: float | None = None

    def breaks(self, signals: pa.Table) -> np.ndarray:
        """bool, a value a row; a row without a value breaks no rule."""
        values = signals[self.column].cast(pa.float64()).to_numpy()
        broken = np.zeros(len(values), dtype=bool)
        if self.lowest is not None:
            broken |= values < self.lowest
        if self.highest is not None:
            broken |= values > self.highest
        return broken


def rules_of(settings: BaseModel, prefix: str, reasons: Mapping[str, str]) -> list[Rule]:
    """The rules of a step, in the order of `reasons`: by field of its settings what to say when the limit is passed.

    `min_words` is the least of the column `words` behind the prefix, `max_words` the most.
    """
    rules = []
    for field, reason in reasons.items():
        end, _, column = field.partition("_")
        limit = getattr(settings, field)
        if limit is not None:
            bounds = {"lowest" if end == "min" else "highest": limit}
            rules.append(Rule(prefix + column, reason.format(limit), **bounds))
    return rules


def first_reasons(rules: Sequence[Rule], signals: pa.Table) -> list[str | None]:
    """For each row the reason of the first rule that it breaks."""
    reasons = np.full(signals.num_rows, None, dtype=object)
    for rule in reversed(rules):
        reasons[rule.breaks(signals)] = rule.reason
    return reasons.tolist()


def limits_of(rules: Sequence[Rule]) -> dict[str, list[float]]:
    """The limits of each column, for a report to draw."""
    limits: dict[str, list[float]] = {}
    for rule in rules:
        limits.setdefault(rule.column, []).extend(limit for limit in (rule.lowest, rule.highest) if limit is not None)
    return {column: sorted(found) for column, found in limits.items() if found}


class RuleStep(Step[OfStep]):
    """A step whose every reason is a limit of its settings on a column of its own."""

    prefix: ClassVar[str]
    reasons_by_limit: ClassVar[Mapping[str, str]]

    def __init__(self, settings: OfStep) -> None:
        super().__init__(settings)
        self.rules = rules_of(settings, self.prefix, self.reasons_by_limit)

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        return first_reasons(self.rules, signals)

    def limits(self) -> dict[str, list[float]]:
        return limits_of(self.rules)
