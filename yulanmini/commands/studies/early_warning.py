"""`yulanmini train early-warning-study`: which signals warn before the loss does, and by which rule."""

from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.commands.studies.study_verbs import (
    Against,
    Inputs,
    Only,
    Out,
    Quick,
    TrialsAtOnce,
    finish,
    own,
    recorded,
    show_repeated,
    would,
)
from yulanmini.console import AsJson, DryRun
from yulanmini.run_layout import study_inputs

KIND = "early-warning-study"


def early_warning_study(
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/early-warning"),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each condition; calm ones have one more.")] = 2,
    workers: TrialsAtOnce = 2,
    quick: Quick = False,
    only: Only = None,
    against: Against = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Make runs diverge by many causes, and others not: what warns before the loss leaves its band, how early, and how
    often for nothing? --quick: every sixth condition, for a few dozen steps."""
    from train.studies.early_warning.study import STUDY, conditions_of, early_warning_study, forecast, repeat

    own(out, KIND, dry_run=True)
    inputs = study_inputs(run)
    inputs.check()
    conditions, lengths = conditions_of(quick=quick)
    trials = None if only is None else recorded(against or out / f"{STUDY}.json", STUDY, only)
    own(out, KIND, dry_run=dry_run)
    if dry_run:
        asked = forecast(conditions, lengths, seeds, workers)
        would(asked if trials is None else f"train {', '.join(trials)} again", out)
        return
    from train.studies.early_warning.plots import plot_early_warning
    from train.studies.trials import Workers

    with Workers(workers) as pool:
        if trials is not None:
            show_repeated(trials, repeat(inputs, out, list(trials), lengths=lengths, run_jobs=pool.run), as_json)
            return
        result = early_warning_study(
            inputs, out, conditions=conditions, lengths=lengths, seeds=seeds, run_jobs=pool.run
        )
    plot_early_warning(result, out / f"{STUDY}.svg")
    finish(result, out / f"{STUDY}.json", ["rule", "warned of in time", "lead", "false alarms"], rows(result), as_json)


def rows(result: dict[str, Any]) -> list[list[str]]:
    """How each rule is judged on the other half."""
    from train.studies.pages import between, share

    return [
        [
            name,
            share(judged["left_band"]),
            between(judged["lead"], 0) if judged["lead"] else "-",
            share(judged["false_alarms"]),
        ]
        for name, judged in result["judged"].items()
    ]
