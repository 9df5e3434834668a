"""Rules that warn: their first warnings in each run, the choice among them on one half of the runs, and the judgement.

A rule is any-of: each signal it uses has a limit (train/monitors/early_warning.py, which computes all values here).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import median, quantiles
from typing import Any, NamedTuple

from train.config import Limit
from train.monitors.early_warning import Signals, Streak
from train.studies.early_warning.conditions import CALM
from train.studies.early_warning.outcomes import Outcome
from train.studies.early_warning.runs import WatchedRun
from train.studies.intervals import median_of, rate_of, share_of

GOAL, MOST_FALSE_ALARMS = 0.8, 0.05  # of the runs that diverge, and of the calm ones
# What is tried of each signal: limits, and measurements in a row.
FAMILY: Mapping[str, tuple[Sequence[float], Sequence[int]]] = {
    "variance_growth": ((1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0), (1, 2, 3)),
    "grad_norm": ((2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0), (1, 2, 3, 5)),
    "attention_logit": ((10.0, 20.0, 30.0, 50.0, 100.0, 200.0), (1, 2)),
    "attention_growth": ((1.5, 2.0, 3.0, 5.0, 10.0), (1, 2, 3)),
}


class Past(NamedTuple):
    """How many measurements what is usual is the median of, and how many there must be."""

    history: int
    at_least: int


PASTS = (Past(4, 4), Past(8, 4), Past(16, 4), Past(16, 8), Past(16, 16))
SUDDEN = 4  # steps, as many as between two measurements of the layers
GRADIENT_WINDOW = 64
YESTERDAY = {"variance_growth": Limit(above=10.0)}  # the default before this study, of a full history
YESTERDAY_PAST = Past(16, 16)

Rule = Mapping[str, Limit]


@dataclass(frozen=True)
class Watched:
    """A run with its outcome and the signals in it; `every`: of its measurements, each so-many-th is taken."""

    run: WatchedRun
    outcome: Outcome
    past: Past
    every: int = 1

    @cached_property
    def signals(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value of each signal, from the first step of the run."""
        signals = Signals(history=self.past.history, at_least=self.past.at_least, window=GRADIENT_WINDOW)
        found: dict[str, list[tuple[int, float]]] = {}
        for record in thinned(self.run.trial.records, self.every):
            for name, value in signals.of(record).items():
                found.setdefault(name, []).append((record["step"], value))
        return found

    def warnings(self, signal: str, limit: Limit) -> list[int]:
        """The steps after the calm beginning at which the signal begins to warn."""
        streak = Streak(limit)
        fired = [step for step, value in self.signals.get(signal, []) if streak.feed(value)]
        return [step for step in fired if step > self.run.calm_steps]

    def first(self, rule: Rule) -> int | None:
        """The step of the rule's first warning."""
        firsts = [steps[0] for name, limit in rule.items() if (steps := self.warnings(name, limit))]
        return min(firsts, default=None)

    def is_warned_of(self, first: int | None) -> bool:
        """Whether a first warning at this step is one before the loss showed it (if it ever did)."""
        return first is not None and (self.outcome.shown is None or first < self.outcome.shown)

    @property
    def is_sudden(self) -> bool:
        """Whether the loss left its band within `SUDDEN` steps of the cause: no layer need be measured in between."""
        return self.outcome.event is not None and self.outcome.event <= self.run.calm_steps + SUDDEN

    @property
    def watched_steps(self) -> int:
        return len(self.run.trial.records) - self.run.calm_steps


def thinned(records: Sequence[Mapping[str, Any]], every: int) -> list[Mapping[str, Any]]:
    """The records with the measurements of layers in each `every`-th of those that have them only."""
    measured, found = 0, []
    for record in records:
        if record.get("hidden_state_variance"):
            measured += 1
            if measured % every:
                record = {key: record[key] for key in ("step", "grad_norm") if key in record}
        found.append(record)
    return found


def options(signal: str) -> list[Limit]:
    """All limits of a signal that are tried."""
    return [Limit(above=above, in_a_row=row) for above, row in product(*FAMILY[signal])]


def choose(runs: Sequence[Watched], signals: Sequence[str]) -> tuple[tuple[float, ...], Rule]:
    """Of the rules with a limit for some of the signals: that which warns of most bad runs of these, with false alarms
    in at most `MOST_FALSE_ALARMS` of the calm ones; among equals that with the longest lead, then the fewest signals,
    then the highest limits. With its score.
    """
    bad = [run for run in runs if run.outcome.is_bad]
    calm = [run for run in runs if run.outcome.is_calm]
    allowed = math.floor(MOST_FALSE_ALARMS * len(calm))
    # Which calm runs a limit alarms in, and when it first warns of each bad one; of equal limits, the highest.
    tried: dict[str, dict[tuple[frozenset[int], tuple[float, ...]], Limit | None]] = {}
    for signal in signals:
        tried[signal] = {}
        for limit in options(signal):
            alarms = frozenset(at for at, run in enumerate(calm) if run.warnings(signal, limit))
            firsts = tuple(next(iter(run.warnings(signal, limit)), math.inf) for run in bad)
            if len(alarms) <= allowed:
                tried[signal][alarms, firsts] = limit
        tried[signal][frozenset(), (math.inf,) * len(bad)] = None
    best: tuple[tuple[float, ...], Rule] = ((-1.0,), {})
    for combination in product(*(found.items() for found in tried.values())):
        if len(frozenset[int]().union(*(alarms for (alarms, _), _ in combination))) > allowed:
            continue
        firsts = tuple(map(min, zip(*(firsts for (_, firsts), _ in combination), strict=True)))
        leads = [lead_of(run, first) for run, first in zip(bad, firsts, strict=True) if run.is_warned_of(_step(first))]
        rule = {name: limit for name, (_, limit) in zip(tried, combination, strict=True) if limit}
        height = sum(FAMILY[name][0].index(limit.above) for name, limit in rule.items())
        score = (len(leads), sum(leads) / max(len(leads), 1), -len(rule), height)
        best = max(best, (score, rule), key=lambda pair: pair[0])
    return best


def _step(first: float) -> int | None:
    return None if math.isinf(first) else int(first)


def lead_of(run: Watched, first: float) -> float:
    """Steps between the first warning and the loss's showing it, or the end of a run whose loss never did."""
    return (run.outcome.shown or len(run.run.trial.records)) - first


def judge(runs: Sequence[Watched], rule: Rule) -> dict[str, Any]:
    """Shares, leads and false alarms of a rule in these runs, with intervals; the shares by cause too."""
    firsts = [(run, run.first(rule)) for run in runs]
    bad = [(run, first) for run, first in firsts if run.outcome.is_bad]
    left = [pair for pair in bad if pair[0].outcome.event is not None]
    behind = [pair for pair in bad if pair[0].outcome.behind is not None]
    stayed = [pair for pair in bad if pair[0].outcome.shown is None]
    gradual = [pair for pair in left if not pair[0].is_sudden]
    calm = [run for run, _ in firsts if run.outcome.is_calm]
    disturbed = [(run, first) for run, first in firsts if run.outcome.state == "disturbed"]
    leads = _leads(left)
    leads_behind = _leads(behind)
    alarms = [sum(len(run.warnings(name, limit)) for name, limit in rule.items()) for run in calm]
    causes = dict.fromkeys(run.run.condition.cause for run, _ in bad)
    return {
        "bad": _warned(bad),
        "left_band": _warned(left),
        "left_band_gradually": _warned(gradual),
        "loss_stayed": _warned(stayed),
        "disturbed": _warned(disturbed),
        "fell_behind": _warned(behind),
        "fell_behind_lead": median_of(leads_behind).as_json() if leads_behind else None,
        "lead": median_of(leads).as_json() if leads else None,
        "lead_quartiles": [round(value, 1) for value in quantiles(leads, n=4, method="inclusive")]
        if len(leads) > 1
        else None,
        "false_alarms": share_of(sum(count > 0 for count in alarms), len(calm)).as_json(),
        "false_alarms_nothing_wrong": share_of(
            sum(count > 0 for run, count in zip(calm, alarms, strict=True) if run.run.condition.cause == CALM),
            sum(run.run.condition.cause == CALM for run in calm),
        ).as_json(),
        "false_alarms_per_1000_steps": rate_of(sum(alarms), sum(run.watched_steps for run in calm) / 1000).as_json(),
        "by_cause": {
            cause: {
                kind: _warned([pair for pair in pairs if pair[0].run.condition.cause == cause])
                for kind, pairs in (("left_band", left), ("fell_behind", behind), ("loss_stayed", stayed))
            }
            for cause in causes
        },
    }


def _leads(pairs: Sequence[tuple[Watched, int | None]]) -> list[float]:
    """Of the warnings in time."""
    return [lead_of(run, first) for run, first in pairs if first is not None and run.is_warned_of(first)]


def _warned(pairs: Sequence[tuple[Watched, int | None]]) -> dict[str, Any]:
    hits = sum(run.is_warned_of(first) for run, first in pairs)
    return {"warned": hits, **share_of(hits, len(pairs)).as_json()}


def order_of(firsts: Sequence[Mapping[str, int]], signals: Sequence[str]) -> dict[str, Any]:
    """Which signal warns first, from the step of each one's warning in time, run by run."""
    warned = [steps for steps in firsts if steps]
    first, together = dict.fromkeys(signals, 0), 0
    behind: dict[str, list[int]] = {name: [] for name in signals}
    for steps in warned:
        earliest = [name for name, step in steps.items() if step == min(steps.values())]
        together += len(earliest) > 1
        if len(earliest) == 1:
            first[earliest[0]] += 1
        for name, step in steps.items():
            behind[name].append(step - min(steps.values()))
    return {
        "runs": len(firsts),
        "warned": len(warned),
        "first": first,
        "together": together,
        "in_time": {name: len(steps) for name, steps in behind.items()},
        "median_steps_behind": {name: median(steps) if steps else None for name, steps in behind.items()},
    }
