"""`yulanmini train`: training, reports and exports of its runs, and the studies of training dynamics."""

import json
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from yulanmini.commands import train_start, train_study
from yulanmini.commands.train_select import select
from yulanmini.console import AsJson, DryRun, emit_json, emit_result, emit_table, new_group, say
from yulanmini.run_layout import PRETRAIN, study_inputs

app = new_group()

Inputs = Annotated[Path, typer.Option("--run", help="Folder of `yulanmini reproduce`: its tokenizer and packed rows.")]
Out = Annotated[Path, typer.Option(help="Folder for results and trials; a stopped study resumes in the same one.")]
Widths = Annotated[str, typer.Option(help="Widths, multiples of 64.")]
Columns = Annotated[str, typer.Option(help="standard, minicpm, cerebras-gpt, yulanmini, yulanmini-corrected.")]


@app.callback()
def train() -> None:
    """Pretrain and tune, report on runs, export checkpoints, study what keeps training stable."""


app.command(epilog="Example: yulanmini train pretrain tiny --set output_dir=runs/again max_steps=100")(
    train_start.pretrain
)
app.command(epilog="Example: yulanmini train sft sft-lora --set model=merged dialogues=mine.jsonl output_dir=tuned")(
    train_start.sft
)
app.command(epilog="Example: yulanmini train dpo dpo-tiny --set model=tuned pairs=pairs.jsonl output_dir=preferred")(
    train_start.dpo
)
app.command("on-policy", epilog="Example: yulanmini train on-policy on-policy-tiny --set output_dir=rewarded")(
    train_start.on_policy
)
app.command(epilog="Example: yulanmini train anneal YuLan-Mini-Before-Annealing --data mine.yaml --out runs/mine")(
    train_start.anneal
)
app.command(epilog="Example: yulanmini train select select-tiny --set targets.mine=examples.jsonl output_dir=selected")(
    select
)
app.command(epilog="Example: yulanmini train instruct-study --run runs/tiny --out studies/instruct --seeds 3")(
    train_study.instruct_study
)
app.command(epilog="Example: yulanmini train config sft-lora > mine.yaml")(train_start.config)


@app.command(epilog=f"Example: yulanmini train report runs/tiny/{PRETRAIN} --out dynamics.html")
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a pretraining run.")],
    out: Annotated[Path | None, typer.Option(help="Page to write, .html.", show_default="RUN/report.html")] = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Draw a run's dynamics from its log: loss, gradient norm, hidden-state variance, attention logits, ..."""
    from data_recipes.manifest import check_new_file
    from yulanmini.report import collect_training, write_training_report

    if out is not None:
        check_new_file(out, endings=(".html",))
    figures = collect_training(run)
    if dry_run:
        say(f"would draw {figures['pretraining']['steps']:,} steps")
    else:
        say(f"Wrote {write_training_report(run, out)}")
    if as_json:
        emit_json(figures)
    else:
        numbers = [(key, value) for key, value in figures["pretraining"].items() if isinstance(value, int | float)]
        emit_table(["figure", ""], [(key.replace("_", " "), f"{value:,.7g}") for key, value in numbers])


@app.command(epilog=f"Example: yulanmini train export runs/tiny/{PRETRAIN}/checkpoints/step-00000875 exported")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of a run: RUN/checkpoints/step-N.")],
    dst: Annotated[Path, typer.Argument(help="New model folder; must not exist.")],
    dtype: Annotated[str, typer.Option(help="Dtype of the stored weights: float32 or bfloat16.")] = "float32",
    optimizer: Annotated[
        bool, typer.Option("--optimizer", help="With the optimizer's state, for `model import-optimizer`.")
    ] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Write the model of a training checkpoint in the Hugging Face layout."""
    from data_recipes.manifest import check_new_folder
    from train.checkpoints.export import export_checkpoint
    from train.checkpoints.sharded import read_trainer
    from train.checkpoints.training_state import write_training_state
    from train.errors import TrainError

    if optimizer and dtype != "float32":
        raise TrainError(f"--dtype {dtype} with --optimizer: the state goes with the weights as they are trained.")
    if dtype not in ("float32", "bfloat16"):
        raise TrainError(f"--dtype {dtype}: expected float32 or bfloat16.")
    check_new_folder(dst)
    step = read_trainer(checkpoint)["step"]
    if not dry_run and optimizer:
        write_training_state(checkpoint, dst, progress=True)
    elif not dry_run:
        export_checkpoint(checkpoint, dst, dtype=dtype)
    message = f"{'would write' if dry_run else 'Wrote'} the model of step {step:,} to {dst}"
    emit_result(message, {"step": step, "path": str(dst), "dtype": dtype}, as_json)


@app.command("coordinate-check", epilog="Example: yulanmini train coordinate-check --run runs/tiny --out studies")
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
    _own(out, "coordinate-check", dry_run=True)
    inputs, sizes, names = _sweep(run, widths, columns)
    _own(out, "coordinate-check", dry_run=dry_run)
    if dry_run:
        _would(f"check {columns} at widths {widths}, {steps} steps from {seeds} seeds", out)
        return
    from train.studies.coordinate_check import coordinate_check as study
    from train.studies.plots import plot_coordinate_check

    result = study(inputs, widths=sizes, columns=names, steps=steps, seeds=seeds, say=say)
    plot_coordinate_check(result, out / "coordinate-check.svg")
    places = list(next(iter(result["columns"].values()))["slope"])
    rows = [[name, *(f"{found['slope'][place]:+.2f}" for place in places)] for name, found in result["columns"].items()]
    _finish(result, out / "coordinate-check.json", ["slope (0 is flat)", *places], rows, as_json)


@app.command("lr-transfer", epilog="Example: yulanmini train lr-transfer --run runs/tiny --out studies/lr-transfer")
def lr_transfer(
    run: Inputs = Path("runs/tiny"),
    out: Out = Path("studies/lr-transfer"),
    widths: Widths = "64,128,256",
    columns: Columns = "standard,cerebras-gpt,yulanmini,yulanmini-corrected",
    steps: Annotated[int, typer.Option(min=5, help="Steps of a training.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Initialisations at each rate; intervals need several.")] = 6,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """The best learning rate by width, with its interval: does it stay, or fall as models get wider?"""
    _own(out, "lr-transfer", dry_run=True)
    inputs, sizes, names = _sweep(run, widths, columns)
    _own(out, "lr-transfer", dry_run=dry_run)
    if dry_run:
        _would(f"sweep {columns} at widths {widths}, about 6 rates, {seeds} trainings of {steps} steps each", out)
        return
    from train.studies.lr_transfer import lr_transfer as study
    from train.studies.plots import plot_lr_transfer

    result = study(inputs, out, widths=sizes, columns=names, steps=steps, seeds=seeds, say=say)
    plot_lr_transfer(result, out / "lr-transfer.svg")
    shown = list(next(iter(result["columns"].values()))["best_lr"])
    rows = [
        [
            name,
            *(_between(found["best_lr"][width], found["best_lr_interval"][width], "#.2g") for width in shown),
            _between(found["widest_over_narrowest"], found["widest_over_narrowest_interval"], ".2f"),
        ]
        for name, found in result["columns"].items()
    ]
    _finish(result, out / "lr-transfer.json", ["best rate at width", *shown, "widest / narrowest"], rows, as_json)


@app.command(
    "stability-study", epilog="Example: yulanmini train stability-study --run runs/tiny --out studies/stability"
)
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

    _own(out, "stability-study", dry_run=True)
    inputs, learning_rates = study_inputs(run), _list(rates, float)
    inputs.check()
    check_rates(learning_rates)
    _own(out, "stability-study", dry_run=dry_run)
    if dry_run:
        _would(f"train 6 rows at {len(learning_rates)} rates for {steps} steps, {seeds} times each", out)
        return
    from train.studies.plots import plot_stability
    from train.studies.stability import stability_study as study
    from train.studies.stability import without_curves

    result = study(inputs, out, steps=steps, learning_rates=learning_rates, seeds=seeds, say=say)
    plot_stability(result, out / "stability.svg")
    shown = list(next(iter(result["rows"].values()))["runs"])
    rows = [
        [name, *(_outcome(row["runs"][rate]) for rate in shown), f"{row['step_time']:.2f}x"]
        for name, row in result["rows"].items()
    ]
    headers = ["row", *(f"rate {rate}" for rate in shown), "step time"]
    _finish(without_curves(result), out / "stability.json", headers, rows, as_json)


def _between(value: float, interval: list[float], form: str) -> str:
    low, high = interval
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def _outcome(runs: list[dict[str, Any]]) -> str:
    from train.studies.stability import outcome

    losses = [run["final_loss"] for run in runs if run["final_loss"] is not None]
    return outcome(runs) + (f" {fmean(losses):.2f}" if losses else "")


def _list(text: str, kind: type) -> list[Any]:
    from train.errors import TrainError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise TrainError(f"'{text}': expected numbers with commas between them.") from error


def _sweep(run: Path, widths: str, columns: str) -> tuple[Any, list[int], list[str]]:
    """Inputs, widths and parametrizations of a study, checked: before a folder is made, and in a dry run too."""
    from train.studies.lr_transfer import width_settings
    from train.studies.trials import parametrization_changes

    inputs, sizes, names = study_inputs(run), _list(widths, int), columns.split(",")
    inputs.check()
    for width in sizes:
        width_settings(width)
    for name in names:
        parametrization_changes(name)
    return inputs, sizes, names


def _own(out: Path, study: str, *, dry_run: bool) -> None:
    """Refuse a folder that holds anything but this study; make it the study's own before anything is trained."""
    from data_recipes.manifest import claim_folder, folder_state

    (folder_state if dry_run else claim_folder)(out, kind=study)


def _would(what: str, out: Path) -> None:
    say(f"would {what}, and write to {out}")


def _finish(result: dict[str, Any], path: Path, headers: list[str], rows: list[list[str]], as_json: bool) -> None:
    """Keep a study's result beside its figure, and show it."""
    from data_recipes.files import write_whole

    write_whole(path, json.dumps(result) + "\n")
    emit_result(f"Wrote {path.parent}", result, as_json)
    if not as_json:
        emit_table(headers, rows)
