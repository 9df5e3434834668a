"""The studies of parametrizations and stability on proxies: coordinate check, transfer of rates, rows of Figure 6."""

from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from yulanmini.commands.studies.study_verbs import Inputs, Out, TrialsAtOnce, between, finish, numbers, own, would
from yulanmini.console import AsJson, DryRun, say
from yulanmini.run_layout import study_inputs

Widths = Annotated[str, typer.Option(help="Widths, multiples of 64.")]
Columns = Annotated[
    str, typer.Option(help="standard, minicpm, cerebras-gpt, depth-mup, yulanmini, yulanmini-corrected.")
]


def coordinate_check(
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/coordinate-check"),
    widths: Widths = "64,128,256,512",
    columns: Columns = "standard,cerebras-gpt,yulanmini,yulanmini-corrected",
    steps: Annotated[int, typer.Option(min=1, help="Updates to take.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Initialisations to average over.")] = 3,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """How far activations move in the first steps, over the width: flat under a right parametrization."""
    own(out, "coordinate-check", dry_run=True)
    inputs, sizes, names = sweep(run, widths, columns)
    own(out, "coordinate-check", dry_run=dry_run)
    if dry_run:
        would(f"check {columns} at widths {widths}, {steps} steps from {seeds} seeds", out)
        return
    from train.studies.coordinate_check import coordinate_check as study
    from train.studies.plots import plot_coordinate_check

    result = study(inputs, widths=sizes, columns=names, steps=steps, seeds=seeds, say=say)
    plot_coordinate_check(result, out / "coordinate-check.svg")
    places = list(next(iter(result["columns"].values()))["slope"])
    rows = [[name, *(f"{found['slope'][place]:+.2f}" for place in places)] for name, found in result["columns"].items()]
    finish(result, out / "coordinate-check.json", ["slope (0 is flat)", *places], rows, as_json)


def lr_transfer(
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/lr-transfer"),
    widths: Widths = "64,128,256",
    columns: Columns = "standard,cerebras-gpt,yulanmini,yulanmini-corrected",
    steps: Annotated[int, typer.Option(min=5, help="Steps of a training.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Initialisations at each rate; intervals need several.")] = 6,
    workers: TrialsAtOnce = 1,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """The best learning rate by width, with its interval: does it stay, or fall as models get wider?"""
    own(out, "lr-transfer", dry_run=True)
    inputs, sizes, names = sweep(run, widths, columns)
    own(out, "lr-transfer", dry_run=dry_run)
    if dry_run:
        would(f"sweep {columns} at widths {widths}, about 6 rates, {seeds} trainings of {steps} steps each", out)
        return
    from train.studies.lr_transfer import lr_transfer as study
    from train.studies.plots import plot_lr_transfer
    from train.studies.trials import Workers

    with Workers(workers) as pool:
        result = study(inputs, out, widths=sizes, columns=names, steps=steps, seeds=seeds, run=pool.run, say=say)
    plot_lr_transfer(result, out / "lr-transfer.svg")
    shown = list(next(iter(result["columns"].values()))["best_lr"])
    rows = [
        [
            name,
            *(between(found["best_lr"][width], found["best_lr_interval"][width], "#.2g") for width in shown),
            between(found["widest_over_narrowest"], found["widest_over_narrowest_interval"], ".2f"),
        ]
        for name, found in result["columns"].items()
    ]
    finish(result, out / "lr-transfer.json", ["best rate at width", *shown, "widest / narrowest"], rows, as_json)


def stability_study(
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/stability"),
    steps: Annotated[int, typer.Option(min=40, help="Steps of a training.")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="Initialisations of each row and rate.")] = 2,
    rates: Annotated[str, typer.Option(help="Learning rates that every row is trained at.")] = "0.002,0.016,0.128",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Train the rows of the report's Figure 6 at rising learning rates: which diverge, and what each costs."""
    from train.studies.stability import check_rates

    own(out, "stability-study", dry_run=True)
    inputs, learning_rates = study_inputs(run), numbers(rates, float)
    inputs.check()
    check_rates(learning_rates)
    own(out, "stability-study", dry_run=dry_run)
    if dry_run:
        would(f"train 6 rows at {len(learning_rates)} rates for {steps} steps, {seeds} times each", out)
        return
    from train.studies.plots import plot_stability
    from train.studies.stability import stability_study as study
    from train.studies.stability import without_curves

    result = study(inputs, out, steps=steps, learning_rates=learning_rates, seeds=seeds, say=say)
    plot_stability(result, out / "stability.svg")
    shown = list(next(iter(result["rows"].values()))["runs"])
    rows = [
        [name, *(shown_outcome(row["runs"][rate]) for rate in shown), f"{row['step_time']:.2f}x"]
        for name, row in result["rows"].items()
    ]
    headers = ["row", *(f"rate {rate}" for rate in shown), "step time"]
    finish(without_curves(result), out / "stability.json", headers, rows, as_json)


def shown_outcome(runs: list[dict[str, Any]]) -> str:
    from train.studies.plots import outcome

    losses = [run["final_loss"] for run in runs if run["final_loss"] is not None]
    return outcome(runs) + (f" {fmean(losses):.2f}" if losses else "")


def sweep(run: Path, widths: str, columns: str) -> tuple[Any, list[int], list[str]]:
    """Inputs, widths and parametrizations of a study, checked: before a folder is made, and in a dry run too."""
    from train.studies.lr_transfer import width_settings
    from train.studies.trials import parametrization_changes

    inputs, sizes, names = study_inputs(run), numbers(widths, int), columns.split(",")
    inputs.check()
    for width in sizes:
        width_settings(width)
    for name in names:
        parametrization_changes(name)
    return inputs, sizes, names
