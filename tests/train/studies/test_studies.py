"""The studies: their search, their measures, and one small pass of each over real rows."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pretrain_miniature import write_inputs

from train.config_file import CONFIGS
from train.errors import TrainError
from train.run.log import RunLog
from train.studies import lr_transfer as transfer
from train.studies.coordinate_check import coordinate_check, slope
from train.studies.lr_transfer import Sweep, sweep_all, width_settings
from train.studies.plots import outcome, plot_coordinate_check, plot_lr_transfer, plot_stability
from train.studies.stability import FIGURE_6, count_spikes, describe, stability_study, without_curves
from train.studies.trials import Inputs, Trial, parametrization_changes, run_job, run_trial, settings_of
from yulanmini.run_layout import study_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """What a study reads."""
    folder = write_inputs(tmp_path_factory.mktemp("inputs"))
    found = Inputs(tokenizer=folder / "tokenizer", data=folder / "data")
    for part in (found.tokenizer, found.data):
        manifest = part / "manifest.json"
        if not manifest.exists():
            manifest.write_text("{}")
    return found


def small_base(tmp_path: Path, name: str, **changes: Any) -> Path:
    """A proxy config cut down to what a test can wait for."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    config["data"]["phases"] = [1, 2]
    config |= {"tokens_per_step": 128, "threads": 1}
    config["model"] |= changes
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def noisy(exponent: float, truth: Callable[[float], float], noise: float, study: int = 0) -> list[float]:
    """Losses of six seeds about the true one."""
    generator = np.random.default_rng([study, int(exponent + 100)])
    return [truth(exponent) + noise * value for value in generator.standard_normal(6)]


def search(losses_at: Callable[[float], list[float]], start: float) -> Any:
    """Losses by exponent of the search of one width from `start`."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(transfer, "FIRST_EXPONENT", start)
        found = sweep_all(["column"], [64], lambda points: [losses_at(point.exponent) for point in points])
    return found["column"][0].losses


def test_the_search_brackets_the_minimum_wherever_it_begins() -> None:
    for start in (-12.0, -7.0, -2.0):
        losses = search(lambda exponent: [(exponent + 6.3) ** 2] * 2, start)
        sweep = Sweep(64, losses)
        assert {-7.0, -6.0, -5.0} <= set(losses)
        assert sweep.best_exponent == pytest.approx(-6.3)
        assert sweep.bracketed


def test_the_search_goes_on_where_the_next_rate_is_worse_by_less_than_the_seeds_differ() -> None:
    # What was once reported as the best rate at width 128: a step to the left is worse by less than noise, and the
    # true best lies beyond it.
    curve = {-5.0: 5.92, -6.0: 5.85, -7.0: 5.87, -8.0: 5.84, -9.0: 5.70, -10.0: 5.80, -11.0: 5.95}
    losses = search(lambda exponent: noisy(exponent, lambda at: curve.get(at, 6.1), 0.03), -6.0)
    assert Sweep(128, losses).best_exponent == pytest.approx(-9, abs=0.5)


def test_the_search_does_not_go_beyond_a_rate_that_broke_down() -> None:
    losses = search(lambda exponent: [math.inf if exponent > -5 else -exponent] * 2, -8.0)
    assert max(losses) == -4
    assert Sweep(64, losses).best_exponent == -5
    assert Sweep(64, losses).bracketed


def test_a_wider_model_begins_at_the_best_rate_of_the_narrower_one_and_the_columns_take_turns() -> None:
    asked: list[list[tuple[str, int, float]]] = []

    def losses_of(points: list[transfer.Point]) -> list[list[float]]:
        asked.append([(point.column, point.width, point.exponent) for point in points])
        best = {"one": -5.0, "other": -9.0}
        return [[(point.exponent - best[point.column]) ** 2] * 2 for point in points]

    found = sweep_all(["one", "other"], [128, 64], losses_of)
    assert asked[0] == [("one", 64, -7.0), ("other", 64, -7.0)]
    firsts = {column: next(p for points in asked for p in points if p[:2] == (column, 128)) for column in found}
    assert firsts == {"one": ("one", 128, -5.0), "other": ("other", 128, -9.0)}
    assert [sweep.width for sweep in found["one"]] == [64, 128]
    assert len(asked) < sum(map(len, asked))


def test_a_column_that_no_rate_trains_is_named() -> None:
    with pytest.raises(TrainError, match=r"standard, width 64: training broke down at every rate down to 2\^-15"):
        sweep_all(["standard"], [64], lambda points: [[math.inf] * 2 for _ in points])


def test_one_seed_that_broke_down_makes_the_rate_no_candidate() -> None:
    sweep = Sweep(64, search(lambda exponent: [exponent**2, math.inf if exponent > -3 else exponent**2], -4.0))
    assert sweep.best_exponent == -3


def test_the_search_stays_in_its_range_and_says_so() -> None:
    losses = search(lambda exponent: [exponent] * 2, -13.0)
    assert min(losses) == transfer.LOWEST
    assert not Sweep(64, losses).bracketed


def test_the_interval_holds_the_true_best_rate_as_often_as_six_seeds_allow() -> None:
    truth, studies = -6.3, 200
    held, widths = 0, []
    for study in range(studies):
        sweep = Sweep(64, {e: noisy(e, lambda at: 0.1 * (at - truth) ** 2, 0.05, study) for e in range(-9, -3)})
        low, high = np.percentile(sweep.resampled, transfer.INTERVAL)
        held += low <= truth <= high
        widths.append(high - low)
    assert 0.8 * studies <= held < studies  # nominally 95 %; of six seeds the bootstrap makes it narrower
    assert 0.2 < float(np.median(widths)) < 1


@pytest.mark.parametrize("width", [32, 96, 100])
def test_widths_that_do_not_fit_the_heads_are_refused(width: int) -> None:
    with pytest.raises(TrainError, match="multiple of 64"):
        width_settings(width)


def test_slope_is_the_exponent_of_a_power_law() -> None:
    assert slope([64, 128, 256], [3 * width**0.5 for width in (64, 128, 256)]) == pytest.approx(0.5)


def test_spikes_are_counted_against_the_steps_before() -> None:
    norms: list[float | None] = [1.0] * 40 + [11.0] + [1.0] * 10 + [None] + [9.0] + [50.0] * 2
    assert count_spikes(norms) == 4
    assert count_spikes([1.0, 100.0]) == 0, "too few steps before to say what is usual"


def records_of(losses: list[float | None]) -> list[dict[str, Any]]:
    return [{"step": step + 1, "loss": loss, "grad_norm": 1.0} for step, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "finished", "state"),
    [
        ([8 - 0.05 * step for step in range(60)], True, "stable"),
        ([8 - 0.05 * step for step in range(40)] + [7.5] * 20, True, "diverged"),
        ([8.0] * 20 + [None], False, "diverged"),
    ],
)
def test_a_loss_that_rises_again_or_is_not_finite_is_a_divergence(
    losses: list[float | None], finished: bool, state: str
) -> None:
    assert describe(Trial(records_of(losses), finished), 60)["state"] == state


def test_exploding_hidden_states_are_seen_though_the_loss_is_calm() -> None:
    records = records_of([6.0] * 60)
    for at, variance in ((10, 1.0), (59, 2e4)):
        records[at] |= {
            "hidden_state_variance": [1.0, variance],
            "norm_output_variance": [1.0, 1.0],
            "attention_logit_max": [3.0, None],
        }
    found = describe(Trial(records, True), 60)
    assert found["state"] == "exploding"
    assert found["curves"]["attention_logit_max"] == [3.0, 3.0]
    assert (found["last_hidden_state_variance"], found["last_attention_logit"]) == (2e4, 3.0)
    records[59]["hidden_state_variance"] = [1.0, 2.0]
    assert describe(Trial(records, True), 60)["state"] == "stable"


def test_a_trial_is_run_once_and_again_when_its_settings_change(inputs: Inputs, tmp_path: Path) -> None:
    base = small_base(tmp_path, "proxy-wide")
    settings = settings_of(base, inputs, {"max_steps": 3, "optimizer.lr": 0.001})
    trial = run_trial(tmp_path / "trial", settings)
    assert trial.finished
    assert len(trial.losses) == 3
    log = tmp_path / "trial" / "run" / "metrics.jsonl"
    written = log.stat().st_mtime_ns
    assert run_trial(tmp_path / "trial", settings).losses == trial.losses
    assert log.stat().st_mtime_ns == written
    assert not (tmp_path / "trial" / "run" / "checkpoints").exists()
    changed = settings_of(base, inputs, {"max_steps": 3, "optimizer.lr": 0.1})
    assert run_trial(tmp_path / "trial", changed).losses != trial.losses


def test_a_trial_that_breaks_down_is_a_result(inputs: Inputs, tmp_path: Path) -> None:
    base = small_base(tmp_path, "proxy-wide")
    trial = run_trial(tmp_path / "trial", settings_of(base, inputs, {"max_steps": 12, "optimizer.lr": 1e30}))
    assert not trial.finished
    assert trial.final_loss(2) is None
    assert run_trial(tmp_path / "trial", settings_of(base, inputs, {"max_steps": 12, "optimizer.lr": 1e30})) == trial


def test_inputs_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"no 02-tokenizer.*yulanmini reproduce"):
        settings_of(transfer.BASE, study_inputs(tmp_path), {})


def test_an_outcome_counts_the_states_of_its_seeds() -> None:
    assert outcome([{"state": "stable"}, {"state": "stable"}]) == "stable"
    assert outcome([{"state": "spiking"}, {"state": "stable"}, {"state": "spiking"}]) == "2 spiking, 1 stable"


def test_an_unknown_parametrization_is_named() -> None:
    with pytest.raises(TrainError, match=r"no parametrization 'foo'\. Known: standard"):
        parametrization_changes("foo")


def test_coordinate_check_is_flat_under_mup_and_steep_without(inputs: Inputs, tmp_path: Path) -> None:
    result = coordinate_check(
        inputs,
        widths=[64, 128, 256],
        columns=["standard", "cerebras-gpt"],
        steps=2,
        seeds=1,
        base=small_base(tmp_path, "proxy-wide"),
        say=lambda text: None,
    )
    for place in ("layer 0", "layer 1", "residual stream", "logits"):
        assert abs(result["columns"]["cerebras-gpt"]["slope"][place]) < 0.35, place
        assert result["columns"]["standard"]["slope"][place] > 0.6, place
    plot_coordinate_check(result, tmp_path / "check.svg")
    assert (tmp_path / "check.svg").stat().st_size > 5000


def test_lr_transfer_sweeps_each_width_and_draws(inputs: Inputs, tmp_path: Path) -> None:
    result = transfer.lr_transfer(
        inputs,
        tmp_path / "out",
        widths=[64],
        columns=["standard"],
        steps=5,
        seeds=2,
        run=lambda jobs: [run_job(job) for job in jobs],
        base=small_base(tmp_path, "proxy-wide", vocab_size=300),
        say=lambda text: None,
    )
    found = result["columns"]["standard"]
    assert found["widest_over_narrowest"] == 1
    assert found["widest_over_narrowest_interval"] == [1, 1]
    low, high = found["best_lr_interval"]["64"]
    assert low <= found["best_lr"]["64"] <= high
    losses = found["losses"]["64"]
    assert len(losses) >= 3
    assert all(len(of_seeds) == 2 for of_seeds in losses.values())
    assert found["best_loss"]["64"] == min(sum(seeds) / 2 for seeds in losses.values() if None not in seeds)
    trials = {path.name.rpartition("-seed")[0]: path for path in (tmp_path / "out").iterdir() if path.is_dir()}
    for name in trials:
        first, second = (RunLog(tmp_path / "out" / f"{name}-seed{seed}/run/metrics.jsonl").lines() for seed in (0, 1))
        assert first[0]["loss"] != second[0]["loss"], "two seeds are the same training"
    plot_lr_transfer(json.loads(json.dumps(result)), tmp_path / "transfer.svg")


def test_stability_study_trains_every_row_and_draws(inputs: Inputs, tmp_path: Path) -> None:
    result = stability_study(
        inputs,
        tmp_path / "out",
        steps=4,
        learning_rates=[1e-3],
        seeds=2,
        timed_steps=1,
        base=small_base(tmp_path, "proxy-deep", num_hidden_layers=2),
        say=lambda text: None,
    )
    assert list(result["rows"]) == list(FIGURE_6)
    losses = [run["curves"]["loss"] for row in result["rows"].values() for run in row["runs"]["0.001"]]
    assert all(len(loss) == 4 for loss in losses)
    assert len({tuple(loss) for loss in losses}) == 2 * len(FIGURE_6), "two rows or seeds are the same training"
    assert result["rows"]["baseline"]["step_time"] == 1
    assert all(
        len(row["runs"]["0.001"][0]["curves"]["hidden_state_variance"][0]) == 2 for row in result["rows"].values()
    )
    table = without_curves(result)["rows"]["+ WeSaR"]
    assert set(table["runs"]["0.001"][0]) == {
        *("state", "final_loss", "lowest_loss", "spikes", "last_hidden_state_variance", "last_attention_logit"),
    }
    plot_stability(json.loads(json.dumps(result)), tmp_path / "stability.svg")
