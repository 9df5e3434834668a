"""Where a loss leaves its band: for good, for a while, or never, and what a run is called by it."""

import random

from train.studies.early_warning.conditions import Condition
from train.studies.early_warning.even_losses import counterpart_of, even_losses
from train.studies.early_warning.outcomes import Outcome, band_exits, choose_width, falls_behind, outcome_of
from train.studies.early_warning.runs import WatchedRun
from train.studies.trials import Trial


def noisy(means: list[float], seed: int = 0) -> list[float]:
    draws = random.Random(seed)
    return [mean + draws.gauss(0, 0.3) for mean in means]


def run_of(losses: list[float | None], name: str = "made up") -> WatchedRun:
    records = [
        {"step": step + 1, "loss": loss, "grad_norm": 1.0, "phase": "1", "tokens": 64}
        for step, loss in enumerate(losses)
    ]
    return WatchedRun(Condition(name, "made up"), 0, Trial(records, None not in losses), 0)


def test_a_loss_that_rises_and_stays_has_left_at_its_first_step_up() -> None:
    losses = noisy([6.0] * 100 + [8.0] * 60)
    exits = band_exits(losses, 6.0, first=0)
    assert exits.for_good == exits.any == 101


def test_a_slow_rise_is_seen_and_dated_after_it_began() -> None:
    losses = noisy([6.0] * 100 + [6 + 0.05 * step for step in range(80)])
    assert 103 < (band_exits(losses, 6.0, first=0).for_good or 0) < 125


def test_a_loss_that_comes_back_has_left_for_a_while_only() -> None:
    exits = band_exits(noisy([6.0] * 100 + [9.0] * 15 + [6.0] * 60), 6.0, first=0)
    assert (exits.for_good, exits.any) == (None, 101)


def test_what_comes_before_the_cause_does_not_count() -> None:
    losses = noisy([6.0] * 60 + [9.0] * 15 + [6.0] * 100)
    assert band_exits(losses, 6.0, first=120).any is None


def test_a_loss_that_is_not_finite_is_an_exit_at_that_step_at_the_latest() -> None:
    assert band_exits([*noisy([6.0] * 50), None], 6.0, first=0).for_good == 51
    assert band_exits([*noisy([6.0] * 50 + [12.0] * 9, seed=3), None], 6.0, first=0).for_good == 51
    assert band_exits([None], 6.0, first=0).for_good == 1


def test_a_falling_loss_with_noise_never_leaves() -> None:
    losses = [noisy([8 - 0.02 * step for step in range(150)], seed) for seed in range(20)]
    assert all(band_exits(values, 6.0, first=0).any is None for values in losses)
    assert choose_width([(values, 0) for values in losses], most=0.05) <= 6.0


def outcome(losses: list[float]) -> Outcome:
    return outcome_of(run_of([*losses]), losses, 6.0)


def test_a_run_is_called_by_what_became_of_it() -> None:
    assert outcome(noisy([6.0] * 120)).state == "calm"
    disturbed = outcome(noisy([6.0] * 60 + [9.0] * 15 + [6.0] * 60))
    assert (disturbed.state, disturbed.event, disturbed.left) == ("disturbed", None, 61)
    diverged = outcome(noisy([6.0] * 60 + [9.0] * 60))
    assert (diverged.state, diverged.event, diverged.left) == ("diverged", 61, None)


def test_what_the_text_does_to_the_loss_is_taken_off_by_other_calm_runs_and_not_by_the_run_itself() -> None:
    text = noisy([0.0] * 120)
    calm = [run_of([level + hard for hard in text], name=f"calm {level}") for level in (5.0, 6.0, 7.0)]
    broken = run_of([6.0 + hard + (1.0 if step >= 80 else 0.0) for step, hard in enumerate(text)], name="broken")
    even = even_losses([*calm, broken], calm)[broken.name]
    assert max(even[20:72]) - min(even[20:72]) < 0.5 < max(text[20:72]) - min(text[20:72])
    assert band_exits(even, 6.0, first=0).for_good == 81

    alone = run_of([6.0 + hard for hard in text], name="alone")
    assert even_losses([alone], [alone])[alone.name] == alone.trial.losses


def test_a_loss_falls_behind_where_it_stays_above_a_calm_one_however_far_it_falls() -> None:
    calm = noisy([8 - 0.02 * step for step in range(150)])
    slower = [loss + max(0.0, 0.01 * (step - 60)) for step, loss in enumerate(calm)]
    assert band_exits(slower, 6.0, first=0).any is None
    # By 0.1 from step 71 on, in half of a window by then.
    assert falls_behind(slower, calm, first=0) == 68
    assert falls_behind(slower, calm, first=100) == 101, "what comes before the cause does not count"
    assert falls_behind([*slower[:120], *calm[120:]], calm, first=0) is None, "it has caught up"
    assert falls_behind(slower[:80], calm, first=0) is None, "for fewer steps than it has to stay"
    assert falls_behind(calm, calm, first=0) is None
    assert falls_behind([*slower[:148], None, None], calm, first=0) == 68


def test_a_run_is_held_against_a_calm_one_of_its_kind_that_learns_most() -> None:
    def run(name: str, level: float, *, seed: int = 0, **changes: object) -> WatchedRun:
        made = run_of([level] * 60, name=name)
        column = {"parametrization.name": "standard"}
        condition = Condition(
            name, "made up", {**column, **{key.replace("__", "."): value for key, value in changes.items()}}
        )
        return WatchedRun(condition, seed, made.trial, 0)

    calm = [
        run("slow", 6.0),
        run("good", 5.0),
        run("of another seed", 4.0, seed=1),
        run("of another column", 4.0, parametrization__name="minicpm"),
        run("wider", 4.0, model__hidden_size=96),
        WatchedRun(Condition("continued", "made up", begins="standard"), 0, run("", 4.0).trial, 0),
        run("on other rows", 4.0),
    ]
    calm[-1].trial.records[3]["phase"] = "2"
    found = counterpart_of(run("bad", 7.0, model__initializer_range=0.5), calm)
    assert found is calm[1]
    assert counterpart_of(run("bad", 7.0, seed=2), calm) is None
