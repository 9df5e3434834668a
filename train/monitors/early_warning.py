"""The early warning: signals that leave their usual range before the loss does, as a rule over a run's records.

One implementation, of plain values, for a run in progress (the monitor below) and for the logs of finished ones (the
early-warning study, which its limits follow from: docs/studies/early-warning.md).
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from train.config import Limit, WarningSettings
from train.monitors.base import Monitor

NORMS_AT_LEAST = 16  # steps without which no gradient norm is usual yet
NARROWEST = 0.05  # the least that the logarithm of a gradient norm is taken to vary by
# A median of the absolute deviations is this share of a normal distribution's standard deviation.
MAD_OF_SIGMA = 0.6745

ADVICE = "divergence often begins like this (watch grad_norm, consider a lower rate)"
TEXTS: Mapping[str, str] = {
    "variance_growth": "hidden-state variance of layer {layer} is {value:.1f} times its recent median",
    "grad_norm": "the logarithm of the gradient norm is {value:.1f} deviations above its recent median",
    "attention_logit": "the largest attention logit is {value:.0f}",
    "attention_growth": "the largest attention logit is {value:.1f} times its recent median",
}


class Signals:
    """The signals of a run, record by record, each against what was usual before.

    `variance_growth`: the largest ratio, over the layers, of hidden-state variance to its median in the last `history`
    measurements, once there are `at_least`; `grad_norm`: deviations of its logarithm above the median of the last
    `window` steps; `attention_logit`: the largest of all layers; `attention_growth`: it over its median. What is not
    finite is infinite.
    """

    def __init__(self, *, history: int, at_least: int, window: int) -> None:
        self._history, self._window, self._at_least = history, window, at_least
        self.layer = 0  # the layer of the last variance_growth
        self._past: dict[str, list[Any]] = {"variances": [], "norms": [], "logits": []}

    def of(self, record: Mapping[str, Any]) -> dict[str, float]:
        """The values that this record gives; it is part of the past from now on."""
        found: dict[str, float] = {}
        if "grad_norm" in record:
            found |= self._of_norm(_number(record["grad_norm"]))
        if record.get("hidden_state_variance"):
            found |= self._of_variances([_number(value) for value in record["hidden_state_variance"]])
        if record.get("attention_logit_max"):
            # A layer without one did not run its attention here; all without one overflowed.
            logits = [_number(value) for value in record["attention_logit_max"] if value is not None]
            found |= self._of_logit(max(logits, default=math.inf))
        return found

    def _of_norm(self, norm: float) -> dict[str, float]:
        if not math.isfinite(norm):
            return {"grad_norm": math.inf}
        value, past = math.log(max(norm, 1e-30)), self._past["norms"]
        found = {}
        if len(past) >= NORMS_AT_LEAST:
            usual = median(past)
            deviation = median(abs(other - usual) for other in past) / MAD_OF_SIGMA
            found = {"grad_norm": (value - usual) / max(deviation, NARROWEST)}
        self._remember("norms", value, self._window)
        return found

    def _of_variances(self, variances: list[float]) -> dict[str, float]:
        if not all(map(math.isfinite, variances)):
            self.layer = next(layer for layer, value in enumerate(variances) if not math.isfinite(value))
            return {"variance_growth": math.inf}
        found, past = {}, self._past["variances"]
        if len(past) >= self._at_least:
            growth = [
                value / max(median(old), 1e-30) for value, old in zip(variances, zip(*past, strict=True), strict=True)
            ]
            self.layer = max(range(len(growth)), key=growth.__getitem__)
            found = {"variance_growth": growth[self.layer]}
        self._remember("variances", variances, self._history)
        return found

    def _of_logit(self, logit: float) -> dict[str, float]:
        found, past = {"attention_logit": logit}, self._past["logits"]
        if len(past) >= self._at_least:
            found["attention_growth"] = logit / max(median(past), 1e-30)
        if math.isfinite(logit):
            self._remember("logits", logit, self._history)
        return found

    def _remember(self, kind: str, value: Any, most: int) -> None:
        self._past[kind] = [*self._past[kind][1 - most :], value] if most > 1 else [value]

    def state_dict(self) -> dict[str, Any]:
        return {**self._past}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._past = {kind: list(values) for kind, values in state.items()}


class Streak:
    """Whether a signal is above its limit for as many measurements in a row as it says: once for each such stretch."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.length = 0

    def feed(self, value: float) -> bool:
        """Whether the warning is given with this measurement."""
        self.length = self.length + 1 if value > self._limit.above else 0
        return self.length == self._limit.in_a_row


class EarlyWarning:
    """The rule: any of the signals that have a limit is above it for long enough."""

    def __init__(self, settings: WarningSettings) -> None:
        self.signals = Signals(history=settings.history, at_least=settings.at_least, window=settings.window)
        self._streaks = {name: Streak(limit) for name, limit in settings.limits.items()}

    def feed(self, record: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
        """The signals' values in this record, and those that begin to warn with it."""
        values = self.signals.of(record)
        return values, [name for name, streak in self._streaks.items() if name in values and streak.feed(values[name])]

    def state_dict(self) -> dict[str, Any]:
        lengths = {name: streak.length for name, streak in self._streaks.items()}
        return {"past": self.signals.state_dict(), "lengths": lengths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.signals.load_state_dict(state["past"])
        for name, streak in self._streaks.items():
            streak.length = state["lengths"].get(name, 0)


class EarlyWarningMonitor(Monitor):
    """Warns by `warnings` of the config from what the other monitors have measured; writes `variance_growth` into the
    record, and `warnings`, the signals that warned, where there are any."""

    name = "early_warning"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._rule = EarlyWarning(self.config.warnings)

    def on_records(self, records: Sequence[dict[str, Any]]) -> list[str]:
        said = []
        for record in records:
            if record.get("skipped"):
                continue
            values, warned = self._rule.feed(record)
            if "variance_growth" in values:
                record["variance_growth"] = values["variance_growth"]
            if warned:
                record["warnings"] = warned
            for name in warned:
                text = TEXTS[name].format(value=values[name], layer=self._rule.signals.layer)
                said.append(f"step {record['step']}: {text}; {ADVICE}")
        return said

    def state_dict(self) -> dict[str, Any]:
        return self._rule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rule.load_state_dict(state)


def _number(value: float | None) -> float:
    """What is missing from a log was not finite."""
    return math.inf if value is None or not math.isfinite(value) else value
