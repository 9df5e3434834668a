"""`yulanmini train`: training, reports and exports of its runs, and the studies of training dynamics."""

from pathlib import Path
from typing import Annotated

import typer

from yulanmini.commands import train_start
from yulanmini.commands.studies import annealing, early_warning, instruct, parametrizations, proxies
from yulanmini.commands.train_select import select
from yulanmini.console import AsJson, DryRun, emit_json, emit_result, emit_table, new_group, say
from yulanmini.run_layout import PRETRAIN

app = new_group()


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
    instruct.instruct_study
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


app.command("coordinate-check", epilog="Example: yulanmini train coordinate-check --run runs/tiny --out studies")(
    proxies.coordinate_check
)
app.command("lr-transfer", epilog="Example: yulanmini train lr-transfer --run runs/tiny --out studies/lr-transfer")(
    proxies.lr_transfer
)
app.command(
    "annealing-study", epilog="Example: yulanmini train annealing-study --run runs/tiny --out studies/annealing"
)(annealing.annealing_study)
app.command(
    "averaging-study", epilog="Example: yulanmini train averaging-study --annealing studies/annealing --run runs/tiny"
)(annealing.averaging_study)
app.command(
    "stability-study", epilog="Example: yulanmini train stability-study --run runs/tiny --out studies/stability"
)(proxies.stability_study)
app.command(
    "parametrization-study",
    epilog="Example: yulanmini train parametrization-study --run runs/tiny --out studies/parametrizations",
)(parametrizations.parametrization_study)
app.command(
    "early-warning-study",
    epilog="Example: yulanmini train early-warning-study --run runs/tiny --out studies/early-warning --workers 2",
)(early_warning.early_warning_study)
