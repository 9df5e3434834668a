"""Do hidden-state variance, gradient norm and attention logits warn before the loss, and which rule on them does?

Runs with many causes, and calm ones, are trained; the rule is chosen on one half of the conditions and judged on the
other. The report's claim is that of its Figures 3 to 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from train.config import WarningSettings
from train.config_file import changed_settings
from train.errors import TrainError
from train.studies.early_warning import outcomes, rules
from train.studies.early_warning.conditions import BEGINNINGS, CALM, CONDITIONS, RISES, Condition
from train.studies.early_warning.even_losses import counterpart_of, even_losses
from train.studies.early_warning.rules import FAMILY, Past, Rule, Watched
from train.studies.early_warning.runs import BASE, Lengths, RunJobs, Trainings, WatchedRun, folder_name
from train.studies.intervals import rounded
from train.studies.stability import describe
from train.studies.trials import Inputs

STUDY = "early-warning"
QUICK = Lengths(from_scratch=48, beginning=40, continued=24, bad_rows=20)
QUICK_EACH = 6  # every sixth condition
# Of one core; what goes on around the steps of a trial is starting it, and its last checkpoint.
SECONDS_A_STEP, SECONDS_A_TRIAL = 0.055, 2.0
DEFAULT_EVERY = 5  # of measurements: the default interval of 20 steps, where the study measures at each fourth
NAMES = {"variance_growth": "hidden-state variance", "grad_norm": "gradient norm", "attention": "attention logits"}
ALONE = {
    "variance_growth": ("variance_growth",),
    "grad_norm": ("grad_norm",),
    "attention": ("attention_logit", "attention_growth"),
}


def conditions_of(*, quick: bool) -> tuple[Sequence[Condition], Lengths]:
    """What is trained, and for how long."""
    return (CONDITIONS[::QUICK_EACH], QUICK) if quick else (CONDITIONS, Lengths())


def trials_of(conditions: Sequence[Condition], seeds: int) -> list[tuple[Condition, int]]:
    """Each condition from `seeds` seeds; from one more those with nothing wrong, as false alarms are to be rare, and
    those whose rate rises slowly, as few causes else let a loss leave its band slowly."""
    more = [condition for condition in conditions if condition.cause in (CALM, RISES)]
    return [*((c, seed) for seed in range(seeds) for c in conditions), *((c, seeds) for c in more)]


def forecast(conditions: Sequence[Condition], lengths: Lengths, seeds: int, workers: int) -> str:
    """What the study would train, and for how long."""
    trials = trials_of(conditions, seeds)
    begun = {(condition.begins, seed) for condition, seed in trials if condition.begins}
    steps = len(begun) * lengths.beginning
    steps += sum(lengths.continued if condition.begins else lengths.from_scratch for condition, _ in trials)
    hours = (steps * SECONDS_A_STEP + (len(trials) + len(begun)) * SECONDS_A_TRIAL) / workers / 3600
    return f"run {len(begun) + len(trials)} trainings, {steps:,} steps, about {hours:.1f} hours on cores of their own"


def early_warning_study(
    inputs: Inputs, out: Path, *, conditions: Sequence[Condition], lengths: Lengths, seeds: int, run_jobs: RunJobs
) -> dict[str, Any]:
    """Train the conditions from `seeds` initialisations, trials in `out`; choose a rule and judge it."""
    runs = Trainings(inputs, out, lengths).run(run_jobs, trials_of(conditions, seeds))
    return {"study": STUDY, "settings": settings_of_study(lengths, seeds), **findings(runs)}


def repeat(
    inputs: Inputs, out: Path, names: Sequence[str], *, lengths: Lengths, run_jobs: RunJobs
) -> dict[str, dict[str, Any]]:
    """The final figures of single trials by their names in a result; trained where they are not in `out` yet."""
    by_folder = {folder_name(condition.name): condition for condition in CONDITIONS}
    wanted = []
    for name in names:
        condition, _, seed = name.rpartition("-")
        if condition not in by_folder or not seed.isdigit():
            raise TrainError(f"--only {name}: the result is of another version of the study; it has no such condition.")
        wanted.append((by_folder[condition], int(seed)))
    return {run.name: figures_of(run) for run in Trainings(inputs, out, lengths).run(run_jobs, wanted)}


def settings_of_study(lengths: Lengths, seeds: int) -> dict[str, Any]:
    """All that was chosen, by name."""
    base = changed_settings(BASE, {})
    return {
        "seeds": seeds,
        "more_seeds": seeds + 1,
        "steps": asdict(lengths),
        "model": base["model"],
        "tokens_per_step": base["tokens_per_step"],
        "interval": base["monitors"]["interval"],
        "default_interval": base["monitors"]["interval"] * DEFAULT_EVERY,
        "beginnings": {name: asdict(beginning) for name, beginning in BEGINNINGS.items()},
        "goal": rules.GOAL,
        "most_false_alarms": rules.MOST_FALSE_ALARMS,
        "family": {name: {"above": above, "in_a_row": row} for name, (above, row) in FAMILY.items()},
        "pasts": [past._asdict() for past in rules.PASTS],
        "gradient_window": rules.GRADIENT_WINDOW,
        "sudden": rules.SUDDEN,
        "band": {"window": outcomes.WINDOW, "before": outcomes.BEFORE, "stays": outcomes.STAYS},
        "behind": outcomes.BEHIND,
        "yesterday": {"above": rules.YESTERDAY["variance_growth"].above, **rules.YESTERDAY_PAST._asdict()},
    }


def findings(runs: Sequence[WatchedRun]) -> dict[str, Any]:
    """What the study found in finished runs: the chosen rule, how it and others are judged, and every run's figures."""
    halves = halves_of([run.condition for run in runs])
    calm = [run for run in runs if run.condition.cause == CALM]
    losses = even_losses(runs, calm)
    undisturbed = [run for run in calm if halves[run.condition.name] == "choosing"]

    def width_of(by_run: Mapping[str, Sequence[float | None]]) -> float:
        some = [(by_run[run.name], run.unmoved_steps) for run in undisturbed]
        return outcomes.choose_width(some, most=rules.MOST_FALSE_ALARMS)

    width = width_of(losses)
    found = {run.name: outcomes.outcome_of(run, losses[run.name], width) for run in runs}
    for run in runs:
        if found[run.name].state == "exploding" and (other := counterpart_of(run, calm)):
            behind = outcomes.falls_behind(run.trial.losses, other.trial.losses, first=run.calm_steps)
            found[run.name] = replace(found[run.name], behind=behind)

    # What who has only the log sees: the same outcomes, from losses that jump with the text.
    raw = {run.name: run.trial.losses for run in runs}
    wider = width_of(raw)
    logged = {run.name: outcomes.outcome_of(run, raw[run.name], wider) for run in runs}

    def watched(half: str, past: Past, *, every: int = 1) -> list[Watched]:
        mine = [run for run in runs if halves[run.condition.name] == half]
        return [Watched(run, found[run.name], past, every) for run in mine]

    choosing = {past: watched("choosing", past) for past in rules.PASTS}

    def best(signals: Sequence[str]) -> tuple[Past, Rule]:
        chosen = {past: rules.choose(some, signals) for past, some in choosing.items()}
        past = max(chosen, key=lambda key: chosen[key][0])
        return past, chosen[past][1]

    past, rule = best(list(FAMILY))
    alone = {name: best(signals) for name, signals in ALONE.items()}
    judging = watched("judging", past)
    judged = {
        "chosen": rules.judge(judging, rule),
        "chosen, default interval": rules.judge(watched("judging", past, every=DEFAULT_EVERY), rule),
        **{name: rules.judge(watched("judging", own), limits) for name, (own, limits) in alone.items()},
        "chosen, loss as logged": rules.judge([replace(run, outcome=logged[run.run.name]) for run in judging], rule),
        "yesterday": rules.judge(watched("judging", rules.YESTERDAY_PAST), rules.YESTERDAY),
    }
    return {
        "band_width": width,
        "rule": {**past._asdict(), "limits": plain(rule)},
        "alone": {name: {**own._asdict(), "limits": plain(limits)} for name, (own, limits) in alone.items()},
        "on_choosing_half": rules.judge(choosing[past], rule),
        "judged": judged,
        "order": order_in(runs, found, alone),
        "is_default": is_default(past, rule),
        "counts": counts(runs, found, halves),
        "example": example(judging, losses, rule),
        "trials": {
            run.run.name: {
                "condition": run.run.condition.name,
                "cause": run.run.condition.cause,
                "half": halves[run.run.condition.name],
                "watched_after": run.run.calm_steps,
                "steps": len(run.run.trial.records),
                "event": run.outcome.event,
                "left": run.outcome.left,
                "behind": run.outcome.behind,
                "first_warning": run.first(rule),
                "state": run.outcome.state,
                **figures_of(run.run),
            }
            for run in [*choosing[past], *judging]
        },
    }


def halves_of(conditions: Sequence[Condition]) -> dict[str, str]:
    """Which half each condition is in: of the severities of a cause, one by one."""
    halves: dict[str, str] = {}
    taken: dict[str, int] = {}
    for condition in {condition.name: condition for condition in conditions}.values():
        place = taken.setdefault(condition.cause, 0)
        halves[condition.name] = ("choosing", "judging")[place % 2]
        taken[condition.cause] += 1
    return halves


def order_in(
    runs: Sequence[WatchedRun], found: Mapping[str, outcomes.Outcome], alone: Mapping[str, tuple[Past, Rule]]
) -> dict[str, Any]:
    """Which of the signals warns first, each by its own rule, in all bad runs."""
    firsts = []
    for run in runs:
        outcome = found[run.name]
        if outcome.is_bad:
            by_signal = {name: Watched(run, outcome, own).first(rule) for name, (own, rule) in alone.items()}
            in_time = outcome.shown or len(run.trial.records) + 1
            firsts.append({name: step for name, step in by_signal.items() if step is not None and step < in_time})
    return rules.order_of(firsts, list(alone))


def is_default(past: Past, rule: Rule) -> bool:
    """Whether a run warns by this rule unless its config says otherwise."""
    settings = WarningSettings()
    mine = (*past, rules.GRADIENT_WINDOW)
    return settings.limits == dict(rule) and (settings.history, settings.at_least, settings.window) == mine


def counts(
    runs: Sequence[WatchedRun], found: Mapping[str, outcomes.Outcome], halves: Mapping[str, str]
) -> dict[str, Any]:
    """Runs by state, in all, by half and by cause."""

    def by_state(some: Sequence[WatchedRun]) -> dict[str, int]:
        states = [found[run.name].state for run in some]
        return {state: states.count(state) for state in (*outcomes.BAD, "disturbed", "calm")}

    causes = dict.fromkeys(run.condition.cause for run in runs)
    return {
        "all": by_state(runs),
        "choosing": by_state([run for run in runs if halves[run.condition.name] == "choosing"]),
        "judging": by_state([run for run in runs if halves[run.condition.name] == "judging"]),
        "by_cause": {cause: by_state([run for run in runs if run.condition.cause == cause]) for cause in causes},
    }


def example(runs: Sequence[Watched], losses: Mapping[str, Sequence[float | None]], rule: Rule) -> dict[str, Any] | None:
    """Curves of a bad run that is warned of in time: of those whose loss fell behind, if any, that of the median
    warning."""
    warned: list[tuple[bool, int, Watched]] = []
    for run in runs:
        first = run.first(rule)
        if run.outcome.is_bad and first is not None and run.is_warned_of(first):
            warned.append((run.outcome.behind is None, first, run))
    if not warned:
        return None
    alike = [item for item in warned if item[0] == min(left for left, *_ in warned)]
    run = sorted(alike, key=lambda item: item[1])[len(alike) // 2][2]
    return {
        "trial": run.run.name,
        "losses": rounded(losses[run.run.name]),
        "signals": {name: rounded(run.signals.get(name, [])) for name in rule},
    }


def figures_of(run: WatchedRun) -> dict[str, Any]:
    """A run's final figures, as they stand in the result."""
    figures = describe(run.trial, len(run.trial.records))
    return rounded({key: value for key, value in figures.items() if key not in ("curves", "state")})


def plain(rule: Rule) -> dict[str, Any]:
    return {name: limit.model_dump() for name, limit in rule.items()}
