"""`yulanmini train parametrization-study`: which parametrization learns most for the same compute."""

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
    numbers,
    own,
    recorded,
    show_repeated,
    would,
)
from yulanmini.console import AsJson, DryRun, say
from yulanmini.run_layout import CORPUS, study_inputs

KIND = "parametrization-study"
COLUMNS = "standard,minicpm,cerebras-gpt,depth-mup,yulanmini,yulanmini-corrected"


def parametrization_study(
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/parametrizations"),
    widths: Annotated[str, typer.Option(help="Widths, multiples of 64.")] = "64,128,256",
    columns: Annotated[str, typer.Option(help="Parametrizations to compare; standard is one of them.")] = COLUMNS,
    steps: Annotated[int, typer.Option(min=5, help="Steps of a training.")] = 100,
    choosing_seeds: Annotated[int, typer.Option(min=2, help="Seeds that the rates are chosen on.")] = 3,
    seeds: Annotated[int, typer.Option(min=2, help="Other seeds, which the columns are judged on.")] = 8,
    workers: TrialsAtOnce = 2,
    quick: Quick = False,
    only: Only = None,
    against: Against = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Which parametrization learns most for the same compute, each at its own best rate, and does it stay so in wider
    models? --quick: widths 64 and 128, 10 steps, 2 seeds each."""
    from train.studies.parametrizations import STUDY, Plan, forecast, made_from

    own(out, KIND, dry_run=True)
    inputs, heldout = study_inputs(run), run / CORPUS / "heldout"
    names = list(dict.fromkeys(columns.split(",")))
    if quick:
        plan = Plan(names, [64, 128], steps=10, choosing=2, judging=2, timed_steps=16)
    else:
        plan = Plan(names, sorted(set(numbers(widths, int))), steps, choosing_seeds, seeds)
    plan.check()
    inputs.check()
    trials = None if only is None else recorded(against or out / f"{STUDY}.json", STUDY, only)
    made_from(inputs, heldout)
    own(out, KIND, dry_run=dry_run)
    if dry_run:
        would(forecast(inputs, plan) if trials is None else f"train {', '.join(trials)} again", out)
        return
    from train.studies.parametrization_plots import plot_parametrizations
    from train.studies.parametrizations import figures_of, judged_job, parametrization_study
    from train.studies.trials import Workers

    with Workers(workers) as pool:
        if trials is not None:
            done = pool.run([judged_job(inputs, heldout, out, trial) for trial in trials.values()])
            figures = {name: figures_of(trial, trials[name]) for name, trial in zip(trials, done, strict=True)}
            show_repeated(trials, figures, as_json)
            return
        result = parametrization_study(inputs, heldout, out, plan, run=pool.run, say=say)
    plot_parametrizations(result, out / f"{STUDY}.svg")
    finish(result, out / f"{STUDY}.json", ["column", *result["widths"]], rows(result), as_json)


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Held-out loss of each column by width, after as many steps and in as much time as the standard one."""
    from train.studies.pages import between

    shown = []
    for kind, called in (("equal_steps", "as many steps"), ("equal_time", "as much time")):
        for column in result["settings"]["columns"]:
            losses = [width[kind]["heldout"]["loss"][column] for width in result["widths"].values()]
            shown.append([f"{column}, {called}", *(between(loss, 3) for loss in losses)])
    return shown
