"""`yulanmini data clean`: raw text to training text; registered by `data.py`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_result, say

if TYPE_CHECKING:
    from data_recipes.cleaning.config import CleaningConfig
    from data_recipes.cleaning.pipeline.inputs import Inventory


def clean(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="A file, or a shipped config: web-en, web-zh, code, math, books, mixed."),
    ],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--in",
            metavar="[NAME=]PATH",
            help="A file, a folder or a pattern ('crawl/**/*.jsonl'); several, the most trusted first.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for kept/, dropped/ and the report.")],
    tasks: Annotated[int, typer.Option("--tasks", help="Work on so many units at the same time.")] = 1,
    executor: Annotated[str, typer.Option("--executor", help="Where tasks run: local, slurm or ray.")] = "local",
    executor_config: Annotated[
        Path | None, typer.Option("--executor-config", help="Settings of the executor, a YAML file.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Clean text in steps: duplicates, rules, scores. Every dropped document is kept aside with its reason.

    Give the same command with a changed threshold: what was computed is judged again. After a stop it goes on.
    """
    from data_recipes.cleaning.clean import clean as clean_text
    from data_recipes.cleaning.clean import plan
    from data_recipes.cleaning.config import load_cleaning_config
    from data_recipes.cleaning.pipeline.inputs import parse_inputs
    from data_recipes.cleaning.pipeline.summary import read_summary
    from data_recipes.executors.run import check_executor
    from yulanmini.report.cleaning import cleaning_page

    checked = load_cleaning_config(config)
    sources = parse_inputs(inputs)
    check_executor(executor, tasks, executor_config)
    if dry_run:
        _show_plan(checked, plan(checked, sources, out), as_json)
        return
    manifest = clean_text(
        checked,
        sources,
        out,
        tasks=tasks,
        executor=cast(Any, executor),
        executor_config=executor_config,
        report=cleaning_page,
        progress=True,
    )
    if manifest is None:
        say(f"handed to Slurm; the last job writes {out / 'report.html'}. The same command says how far it is.")
        return
    summary = read_summary(out)
    if as_json:
        shown = {key: summary[key] for key in ("sources", "steps", "funnel")}
        emit_json({"folder": str(out), "fingerprint": manifest["fingerprint"], "counts": manifest["counts"], **shown})
        return
    emit_records(
        ["source", "step", "documents=documents_in", "dropped=documents_dropped", "kept=documents_kept"],
        [row for row in summary["funnel"] if row["documents_in"]],
    )
    say(f"wrote {out}: {summary['kept_documents']:,} of {summary['documents']:,} documents kept")


def _show_plan(config: "CleaningConfig", inventory: "Inventory", as_json: bool) -> None:
    units = [unit["source"] for unit in inventory.units]
    sources = [
        {
            "source": one.name,
            "path": one.path,
            "files": len(files),
            "bytes": sum(file.size for file in files),
            "units": units.count(number),
        }
        for number, (one, files) in enumerate(zip(inventory.sources, inventory.files, strict=True))
    ]
    message = f"would clean {inventory.bytes:,} bytes in {len(units):,} units by {len(config.steps)} steps"
    emit_result(message, {"sources": sources, "units": len(units), "config": config.resolved}, as_json)
    if not as_json:
        emit_records(["source", "files", "bytes", "units"], sources)
        emit_records(["step"], [{"step": label} for label in config.labels()])
