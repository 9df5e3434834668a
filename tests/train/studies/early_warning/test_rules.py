"""The choice of a rule on one half and its judgement on the other, from made-up runs of which all is known."""

from typing import Any

import pytest

from train.config import Limit
from train.studies.early_warning.conditions import CALM, CONDITIONS, Condition
from train.studies.early_warning.outcomes import Outcome
from train.studies.early_warning.rules import Past, Watched, choose, judge, order_of, thinned
from train.studies.early_warning.runs import WatchedRun, folder_name
from train.studies.early_warning.study import halves_of
from train.studies.trials import Trial


def watched(
    state: str,
    *,
    variance: list[float],
    logit: float = 2.0,
    event: int | None = None,
    cause: str = "made up",
    behind: int | None = None,
    calm_steps: int = 0,
) -> Watched:
    """A run measured at every step."""
    records = [
        {"step": step, "grad_norm": 1.0, "hidden_state_variance": [1.0, value], "attention_logit_max": [logit]}
        for step, value in enumerate(variance, start=1)
    ]
    run = WatchedRun(Condition(f"{state} {variance[-1]}", cause), 0, Trial(records, True), calm_steps)
    return Watched(run, Outcome(state, event, None, behind), Past(16, 4))


GROWS = [1.0] * 20 + [1.3**step for step in range(1, 21)]
CALM_RUN = [1.0, 1.4, 1.2, 1.0] * 10


def test_the_rule_that_warns_without_false_alarms_is_chosen_and_its_lead_counted() -> None:
    runs = [
        *(watched("diverged", variance=GROWS, event=38) for _ in range(4)),
        *(watched("calm", variance=CALM_RUN, logit=25.0) for _ in range(20)),
    ]
    score, rule = choose(runs, ["variance_growth", "attention_logit"])
    assert rule == {"variance_growth": Limit(above=1.5)}, "the lowest limit has the longest lead"
    assert score[0] == 4
    judged = judge(runs, rule)
    assert (judged["left_band"]["warned"], judged["left_band"]["count"]) == (4, 4)
    assert judged["lead"]["value"] == 38 - 22
    assert judged["false_alarms"]["value"] == judged["false_alarms_per_1000_steps"]["value"] == 0
    assert judged["false_alarms"]["high"] == pytest.approx(0.168, abs=0.001)


def test_a_signal_that_alarms_in_calm_runs_is_not_chosen_however_early_it_warns() -> None:
    noisy_calm = [1.0] * 20 + [4.0] * 20
    runs = [
        watched("diverged", variance=GROWS, event=38),
        *(watched("calm", variance=noisy_calm) for _ in range(2)),
        *(watched("calm", variance=CALM_RUN) for _ in range(17)),
    ]
    _, rule = choose(runs, ["variance_growth"])
    assert rule["variance_growth"].above >= 4.0
    alarmed = judge(runs, {"variance_growth": Limit(above=2.0)})
    assert alarmed["false_alarms"]["value"] == pytest.approx(2 / 19)
    assert alarmed["false_alarms_per_1000_steps"]["value"] == pytest.approx(2 / (19 * 40 / 1000))


def test_a_warning_at_or_after_the_event_is_none_but_an_explosion_may_be_warned_of_at_any_time() -> None:
    rule = {"variance_growth": Limit(above=5.0)}
    first = watched("diverged", variance=GROWS).first(rule)
    assert first is not None
    assert GROWS[first - 1] > 5
    runs = [
        watched("diverged", variance=GROWS, event=first),
        watched("diverged", variance=GROWS, event=first + 1),
        watched("exploding", variance=GROWS),
        watched("disturbed", variance=GROWS),
    ]
    judged = judge(runs, rule)
    assert (judged["left_band"]["warned"], judged["loss_stayed"]["warned"], judged["disturbed"]["warned"]) == (1, 1, 1)
    assert (judged["bad"]["warned"], judged["bad"]["count"]) == (2, 3)
    assert judged["lead"]["value"] == 1
    assert {kind: share["warned"] for kind, share in judged["by_cause"]["made up"].items()} == {
        "left_band": 1,
        "fell_behind": 0,
        "loss_stayed": 1,
    }


def test_an_explosion_is_warned_of_in_time_where_it_is_before_the_loss_falls_behind() -> None:
    rule = {"variance_growth": Limit(above=5.0)}
    first = watched("exploding", variance=GROWS).first(rule) or 0
    runs = [watched("exploding", variance=GROWS, behind=behind) for behind in (first, first + 4, None)]
    judged = judge(runs, rule)
    assert (judged["fell_behind"]["warned"], judged["fell_behind"]["count"]) == (1, 2)
    assert judged["fell_behind_lead"]["value"] == 4
    assert (judged["loss_stayed"]["warned"], judged["loss_stayed"]["count"]) == (1, 1)
    # A rule is chosen by what it warns of in time: a limit that comes too late for one run is none for it.
    score, rule = choose(runs[1:2], ["variance_growth"])
    assert (score[0], rule["variance_growth"].above) == (1, 1.5)


def test_a_warning_in_the_calm_beginning_is_no_warning() -> None:
    twice = [1.0] * 10 + [20.0, 1.0] + [1.0] * 20 + [20.0] * 4
    run = watched("diverged", variance=twice, event=40, calm_steps=20)
    assert run.first({"variance_growth": Limit(above=10.0)}) == 33


def test_measurements_are_thinned_to_the_default_interval_and_gradient_norms_are_not() -> None:
    run = watched("calm", variance=[float(step) for step in range(1, 21)])
    kept = thinned(run.run.trial.records, 5)
    assert [record["step"] for record in kept if "hidden_state_variance" in record] == [5, 10, 15, 20]
    assert len([record for record in kept if "grad_norm" in record]) == 20


def test_all_seeds_of_a_condition_are_in_one_half_and_each_cause_is_in_both() -> None:
    halves = halves_of([*CONDITIONS, *CONDITIONS])
    assert len(halves) == len(CONDITIONS) == len({folder_name(condition.name) for condition in CONDITIONS})
    for cause in {condition.cause for condition in CONDITIONS}:
        mine = [halves[condition.name] for condition in CONDITIONS if condition.cause == cause]
        assert abs(mine.count("choosing") - mine.count("judging")) <= 1
    assert sum(condition.cause == CALM for condition in CONDITIONS) >= 20
    assert sum(condition.cause != CALM for condition in CONDITIONS) >= 20


def test_the_signal_that_warns_first_is_counted_and_ties_are_not() -> None:
    firsts: list[dict[str, Any]] = [{"a": 10, "b": 20}, {"a": 30, "b": 30}, {"b": 5}, {}]
    found = order_of(firsts, ["a", "b"])
    assert found["first"] == {"a": 1, "b": 1}
    assert (found["runs"], found["warned"], found["together"]) == (4, 3, 1)
    assert found["median_steps_behind"] == {"a": 0, "b": 0}
