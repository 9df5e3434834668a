"""`yulanmini train select`: which dialogues are worth training on for a purpose; registered by `train.py`."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from yulanmini.commands.train_start import Config, Set
from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_result, say


def select(
    config: Config,
    more: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE...]", help="Further changes of keys.")] = None,
    settings: Set = None,
    tasks: Annotated[int, typer.Option("--tasks", help="Measure so many files at the same time, one a GPU.")] = 1,
    executor: Annotated[str, typer.Option("--executor", help="Where tasks run: local, slurm or ray.")] = "local",
    executor_config: Annotated[
        Path | None, typer.Option("--executor-config", help="Settings of the executor, a YAML file.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Select dialogues whose gradients are like those of a few examples (LESS), and among these various ones (InsTag).

    Writes selected.jsonl, which `train sft` and recipes take, and scores.parquet; after a stop, give it again.
    """
    from data_recipes.executors.run import check_executor
    from train.config_file import find_config, load_config
    from train.selection.config import SelectConfig
    from train.selection.run import SELECTED, check
    from train.selection.run import select as select_dialogues

    checked = load_config(SelectConfig, find_config(config), [*(settings or []), *(more or [])])
    check_executor(executor, tasks, executor_config)
    if dry_run:
        _show_plan(check(checked), as_json)
        return
    summary = select_dialogues(
        checked, tasks=tasks, executor=cast(Any, executor), executor_config=executor_config, progress=True
    )
    out = checked.output_dir
    if summary is None:
        say(f"handed to Slurm; the last job writes {out / SELECTED}. The same command says how far it is.")
    elif as_json:
        emit_json(summary)
    else:
        emit_records(["source", "candidates", "selected", "mean_score:.3g"], summary["sources"])
        emit_records(["target", "selected"], summary["targets"])
        say(f"wrote {out / SELECTED}: {summary['selected']:,} of {summary['candidates']:,} dialogues")


def _show_plan(made_from: dict[str, Any], as_json: bool) -> None:
    config = made_from["config"]
    what = config["select"]
    amount = f"{what['count']:,} dialogues" if what["count"] is not None else f"{what['share']:.1%} of the dialogues"
    message = (
        f"would train adapters on {config['warm_up']['share']:.1%} of the candidates for {config['warm_up']['epochs']} "
        f"epochs, measure each candidate after each, and select {amount} for {', '.join(config['targets'])}"
    )
    emit_result(message, made_from, as_json)
