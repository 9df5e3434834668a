"""The comparison of parametrizations: what is told apart, on which seeds, in how many steps; one training for real."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from test_studies import inputs, small_base  # noqa: F401 -- a fixture

from data_recipes.manifest import write_manifest
from train.errors import TrainError
from train.studies import parametrizations as study
from train.studies.intervals import Interval
from train.studies.lr_transfer import Sweep
from train.studies.parametrizations import Plan, compare, figures_of, findings, judged_job, steps_in_time, typical_of
from train.studies.trials import Inputs, run_job

PLAN = Plan(["standard", "cerebras-gpt", "yulanmini"], [64, 128], steps=50, choosing=3, judging=6)


def trials_of(width: int, better: dict[str, float], steps: int = 50) -> dict[str, dict[str, Any]]:
    """Trials whose loss varies far more between the seeds than between the columns."""
    return {
        f"{column}-{width}-{seed}": {
            "column": column,
            "width": width,
            "steps": steps,
            "seed": seed,
            "heldout": 5 + seed - by + 0.001 * ((seed * 7 + len(column)) % 5),
            "training": 4 + seed,
        }
        for column, by in better.items()
        for seed in range(3, 9)
    }


def test_columns_are_compared_within_the_seeds() -> None:
    better = {"standard": 0.0, "cerebras-gpt": 0.0, "yulanmini": 0.1}
    found = compare(trials_of(64, better), 64, dict.fromkeys(better, 50))
    heldout = found["heldout"]
    assert Interval(**heldout["over_standard"]["yulanmini"]).verdict == "below"
    assert Interval(**heldout["over_standard"]["cerebras-gpt"]).verdict == "not told apart"
    assert heldout["order"][0] == "yulanmini"
    low, high = heldout["loss"]["yulanmini"]["low"], heldout["loss"]["yulanmini"]["high"]
    assert high - low > 1, "over the seeds, a mean is far less certain than a difference"
    assert found["training"]["over_standard"]["yulanmini"]["value"] == 0


def test_a_seed_in_which_a_column_broke_down_counts_for_none() -> None:
    better = {"standard": 0.0, "yulanmini": 0.1}
    trials = trials_of(64, better)
    trials["yulanmini-64-4"]["heldout"] = trials["yulanmini-64-4"]["training"] = None
    found = compare(trials, 64, dict.fromkeys(better, 50))
    assert found["seeds"] == [3, 5, 6, 7, 8]
    assert found["broken_down"] == {"standard": 0, "yulanmini": 1}
    assert found["heldout"]["loss"]["standard"]["count"] == 5
    for trial in trials.values():
        trial["heldout"] = None
    with pytest.raises(TrainError, match="of 6 seeds 0 came through"):
        compare(trials, 64, dict.fromkeys(better, 50))


def test_equal_time_takes_the_trainings_of_as_many_steps_as_fit() -> None:
    trials = trials_of(64, {"standard": 0.0, "yulanmini": 0.0})
    trials |= {f"shorter {name}": trial for name, trial in trials_of(64, {"yulanmini": -0.2}, steps=45).items()}
    equal_steps = compare(trials, 64, {"standard": 50, "yulanmini": 50})
    equal_time = compare(trials, 64, {"standard": 50, "yulanmini": 45})
    assert Interval(**equal_steps["heldout"]["over_standard"]["yulanmini"]).verdict == "not told apart"
    assert Interval(**equal_time["heldout"]["over_standard"]["yulanmini"]).verdict == "above"


@pytest.mark.parametrize(
    ("time", "steps"),
    [
        (Interval(1.04, 1.02, 1.06, 8), 96),
        (Interval(1.04, 0.98, 1.10, 8), 100),  # noise gives and takes no steps
        (Interval(0.9, 0.85, 0.95, 8), 111),
        (Interval(1.0, 1.0, 1.0, 8), 100),
    ],
)
def test_steps_in_equal_time_follow_only_a_difference_that_is_told_apart(time: Interval, steps: int) -> None:
    assert steps_in_time(100, time) == steps


def test_a_pause_of_the_machine_does_not_lengthen_a_step() -> None:
    calm = [1.05, 1.04, 1.06, 1.05] * 20
    paused = [*calm[:30], *[9.0] * 4, *calm[34:]]
    assert typical_of(paused).value == pytest.approx(typical_of(calm).value, abs=0.005)


def test_a_pair_that_is_told_apart_in_opposite_directions_is_named() -> None:
    widths = {}
    for width, better in ((64, 0.1), (128, -0.1)):
        trials = trials_of(width, {"standard": 0.0, "cerebras-gpt": 0.0, "yulanmini": better})
        found = compare(trials, width, dict.fromkeys(PLAN.columns, 50))
        widths[str(width)] = {"equal_steps": found, "equal_time": found}
    over = findings(widths)["equal_steps"]["heldout"]
    assert over["turned_round"] == ["standard - yulanmini", "cerebras-gpt - yulanmini"]
    assert not over["same_order"]
    assert over["best"] == ["yulanmini", "standard"] or over["best"] == ["yulanmini", "cerebras-gpt"]
    assert over["added"]["cerebras-gpt"] == {"below": 0, "above": 0, "not told apart": 2}


def test_rates_are_judged_on_seeds_and_rows_that_none_was_chosen_on() -> None:
    judged = PLAN.judged("yulanmini", 64, 0.01, 45)
    assert not {training["seed"] for training in judged} & set(range(PLAN.choosing))
    assert len({training["phase"] for training in judged}) == PLAN.judging
    assert all(training["phase"] != 1 for training in judged)
    assert len({study.name_of(training) for training in judged}) == PLAN.judging


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(["yulanmini"], [64]), "standard"),
        (Plan(["standard", "foo"], [64]), "foo"),
        (Plan(["standard"], [70]), "70"),
        (Plan(["standard"], [64], judging=1), "at least 2"),
    ],
)
def test_a_plan_that_compares_nothing_is_refused(plan: Plan, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        plan.check()


def test_a_training_is_judged_by_held_out_text_after_its_last_step(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    data = tmp_path / "data"
    shutil.copytree(inputs.data, data)
    for phase in range(3, 26):
        (data / f"phase-{phase:02d}").symlink_to("phase-01")
    own, heldout = Inputs(inputs.tokenizer, data), tmp_path / "heldout"
    shutil.copytree(inputs.tokenizer.parent / "heldout", heldout)
    (data / "manifest.json").unlink()
    write_manifest(data, kind="data", inputs={}, config={}, counts={})
    base = small_base(tmp_path, "proxy-wide", vocab_size=300)
    first, second = Plan(["standard"], [64], steps=3, judging=2).judged("standard", 64, 0.01, 3)
    trials = [run_job(judged_job(own, heldout, tmp_path / "out", training, base=base)) for training in (first, second)]
    figures = figures_of(trials[0], first)
    assert set(figures["domains"]) == {"code", "math"}
    assert figures["heldout"] == pytest.approx(sum(figures["domains"].values()) / 2)
    assert figures["heldout"] != figures_of(trials[1], second)["heldout"]
    log = (tmp_path / "out/judging/standard-64-3steps-seed3/run/heldout.jsonl").read_text()
    assert log.count('"step": 3') == 2
    assert str(figures["domains"]["code"]) in log.splitlines()[-2]

    identity = judged_job(own, heldout, tmp_path / "out", first, base=base).identity
    (heldout / "code.jsonl").write_text('{"text": "other text"}\n')
    assert judged_job(own, heldout, tmp_path / "out", first, base=base).identity != identity


def test_step_times_are_measured_once_for_the_same_plan(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []

    def measure(inputs: Inputs, width: int, steps: int, base: Path) -> Interval:
        measured.append(width)
        return Interval(1.1, 1.0, 1.2, 8)

    monkeypatch.setattr(study, "_measured_time", measure)
    monkeypatch.setattr(study, "made_from", lambda *_: {"data": "these"})
    for plan in (PLAN, PLAN, Plan(PLAN.columns, PLAN.widths, steps=60)):
        found = study.scale_times(inputs, tmp_path, plan, base=study.BASE, say=lambda text: None)
        assert found == dict.fromkeys(PLAN.widths, Interval(1.1, 1.0, 1.2, 8))
    assert measured == [*PLAN.widths, *PLAN.widths]
    (tmp_path / "step-times.json").write_text('{"asked": ')
    study.scale_times(inputs, tmp_path, plan, base=study.BASE, say=lambda text: None)
    assert measured == [*PLAN.widths] * 3


def test_a_chosen_rate_carries_every_seed_it_was_chosen_on() -> None:
    sweep = Sweep(64, {-8.0: [5.1, 5.2], -7.0: [5.0, 5.05], -6.0: [5.2, float("inf")]})
    chosen = study._chosen(sweep)
    assert chosen["rates_tried"] == {"0.00390625": [5.1, 5.2], "0.0078125": [5.0, 5.05], "0.015625": [5.2, None]}
    assert chosen["bracketed"]
