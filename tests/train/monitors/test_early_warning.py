"""The early warning: each signal against what was usual, once for each stretch, the same in a run and from its log."""

import json
import math
import random
from types import SimpleNamespace
from typing import Any

import pytest

from train.config import Limit, WarningSettings
from train.monitors.early_warning import EarlyWarning, EarlyWarningMonitor, Signals


def rule(**limits: Any) -> EarlyWarning:
    nothing = dict.fromkeys(("variance_growth", "grad_norm", "attention_logit", "attention_growth"))
    return EarlyWarning(WarningSettings.model_validate({**nothing, "at_least": 4, **limits}))


def measured(*variances: float | None, logits: list[float | None] | None = None) -> dict[str, Any]:
    return {"grad_norm": 1.0, "hidden_state_variance": list(variances), "attention_logit_max": logits or [1.0, None]}


def test_growth_is_that_of_the_layer_that_grew_most_over_its_own_median() -> None:
    signals = Signals(history=16, at_least=4, window=64)
    for _ in range(3):
        assert "variance_growth" not in signals.of(measured(1.0, 2.0, 4.0))
    signals.of(measured(1.0, 2.0, 4.0))
    assert signals.of(measured(1.5, 50.0, 8.0))["variance_growth"] == 25.0
    assert signals.layer == 1
    assert signals.of(measured(1.0, 2.0, 4.0))["variance_growth"] == 1.0, "one outlier does not move the median"


def test_what_is_usual_is_of_the_last_measurements_only() -> None:
    signals = Signals(history=4, at_least=4, window=64)
    for value in [1.0] * 10 + [8.0] * 4:
        signals.of(measured(value))
    assert signals.of(measured(16.0))["variance_growth"] == 2.0


def test_a_gradient_norm_is_told_by_its_logarithm_and_not_by_its_tail() -> None:
    draws = random.Random(0)
    signals, values = Signals(history=16, at_least=4, window=64), []
    for _ in range(400):
        values.append(signals.of({"grad_norm": math.exp(draws.gauss(0, 0.3))}).get("grad_norm", 0.0))
    assert 2 < max(values) < 6
    assert signals.of({"grad_norm": math.exp(0.3 * 10)})["grad_norm"] == pytest.approx(10, rel=0.3)


@pytest.mark.parametrize(
    ("record", "signal"),
    [
        (measured(1.0, None), "variance_growth"),
        (measured(1.0, math.inf), "variance_growth"),
        ({"grad_norm": None}, "grad_norm"),
        ({"grad_norm": math.nan}, "grad_norm"),
        (measured(1.0, 1.0, logits=[None, None]), "attention_logit"),
    ],
)
def test_what_is_not_finite_warns_at_once_and_leaves_what_is_usual_as_it_was(
    record: dict[str, Any], signal: str
) -> None:
    early = rule(**{signal: {"above": 1e6}})
    for _ in range(20):
        assert early.feed(measured(1.0, 1.0))[1] == []
    assert early.feed(record)[1] == [signal]
    values, warned = early.feed(measured(1.0, 1.0))
    assert (values["variance_growth"], warned) == (1.0, [])


def test_a_stretch_above_the_limit_warns_once_when_it_is_long_enough() -> None:
    early = rule(attention_logit={"above": 30.0, "in_a_row": 2})
    fed = [31.0, 10.0, 31.0, 32.0, 33.0, 34.0, 10.0, 35.0, 36.0]
    warned = [early.feed(measured(1.0, logits=[logit]))[1] for logit in fed]
    assert [at for at, names in enumerate(warned) if names] == [3, 8]


def test_a_run_that_was_stopped_warns_where_one_that_was_not_does_and_so_does_its_log() -> None:
    limits = {
        "variance_growth": Limit(above=3.0, in_a_row=2),
        "grad_norm": Limit(above=4.0),
        "attention_growth": Limit(above=2.0),
        "at_least": 4,
    }
    config = SimpleNamespace(warnings=WarningSettings.model_validate(limits))
    draws = random.Random(1)
    records = []
    for step in range(1, 200):
        grown = 1.1 ** max(step - 120, 0)
        record = {"step": step, "grad_norm": math.exp(draws.gauss(0, 0.2)) * grown}
        if step % 4 == 0:
            record |= {"hidden_state_variance": [1.0, grown], "attention_logit_max": [2.0 * grown, None]}
        records.append(record)
    records[60] = {"step": 61, "loss": None, "grad_norm": None, "skipped": True}
    copies = json.loads(json.dumps(records))

    whole = EarlyWarningMonitor(None, None, None, config)
    said = whole.on_records(records)
    assert len(said) >= 3
    assert all("divergence often begins" in text for text in said)

    first, second = (EarlyWarningMonitor(None, None, None, config) for _ in range(2))
    before = first.on_records(copies[:133])  # in the middle of a streak
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + second.on_records(copies[133:]) == said
    assert copies == records

    log = EarlyWarning(config.warnings)
    warned = {r["step"]: names for r in records if not r.get("skipped") and (names := log.feed(r)[1])}
    assert warned == {record["step"]: record["warnings"] for record in records if "warnings" in record}
    assert min(warned) > 120


def test_a_limit_that_is_null_is_none() -> None:
    assert rule().feed(measured(1e30, logits=[1e30]))[1] == []
    assert WarningSettings().limits
