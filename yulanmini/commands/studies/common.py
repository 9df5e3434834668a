"""What the verbs of studies share: their options, the folder that is theirs, and how a result is shown and kept."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.console import emit_result, emit_table, say

Inputs = Annotated[Path, typer.Option("--run", help="Folder of `yulanmini reproduce`: its tokenizer and packed rows.")]
Out = Annotated[Path, typer.Option(help="Folder for results and trials; a stopped study resumes in the same one.")]
TrialsAtOnce = Annotated[int, typer.Option("--workers", min=1, help="Trials at a time, each on a core of its own.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A small version, in minutes: does it run? Its figures say little.")
]


def own(out: Path, study: str, *, dry_run: bool) -> None:
    """Refuse a folder that holds anything but this study; make it the study's own before anything is trained."""
    from data_recipes.manifest import claim_folder, folder_state

    (folder_state if dry_run else claim_folder)(out, kind=study)


def would(what: str, out: Path) -> None:
    say(f"would {what}, and write to {out}")


def finish(result: dict[str, Any], path: Path, headers: list[str], rows: list[list[str]], as_json: bool) -> None:
    """Keep a study's result beside its figure, and show it."""
    from data_recipes.files import write_whole

    write_whole(path, json.dumps(result) + "\n")
    emit_result(f"Wrote {path.parent}", result, as_json)
    if not as_json:
        emit_table(headers, rows)


def between(value: float, interval: list[float], form: str) -> str:
    low, high = interval
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def numbers(text: str, kind: type) -> list[Any]:
    from train.errors import TrainError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise TrainError(f"'{text}': expected numbers with commas between them.") from error
