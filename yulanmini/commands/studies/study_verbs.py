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
Only = Annotated[
    str | None, typer.Option("--only", help="Run these trials of a result alone, NAME[,NAME]: figures side by side.")
]
Against = Annotated[
    Path | None, typer.Option("--against", help="Result that --only takes trials from.", show_default="that of --out")
]


def own(out: Path, study: str, *, dry_run: bool) -> None:
    """Refuse a folder that holds anything but this study; make it the study's own before anything is trained."""
    from data_recipes.manifest import claim_folder, folder_state

    (folder_state if dry_run else claim_folder)(out, kind=study)


def would(what: str, out: Path) -> None:
    say(f"would {what}, and write to {out}")


def finish(result: dict[str, Any], path: Path, headers: list[str], rows: list[list[str]], as_json: bool) -> None:
    """Keep a study's result beside its figure, with its page where it has one, and show it."""
    from data_recipes.files import write_whole
    from train.studies.pages import page_of, study_names

    write_whole(path, json.dumps(result) + "\n")
    if path.stem in study_names():
        write_whole(path.with_suffix(".md"), page_of(path.stem, result, figure=f"{path.stem}.svg"))
    emit_result(f"Wrote {path.parent}", result, as_json)
    if not as_json:
        emit_table(headers, rows)


def recorded(result: Path, study: str, only: str) -> dict[str, dict[str, Any]]:
    """The trials of a study's result that `only` names, with what they are made of and their figures."""
    from data_recipes.errors import nearest
    from train.errors import TrainError

    try:
        found = json.loads(result.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TrainError(
            f"{result}: --only repeats trials of a finished study's result, which cannot be read here. Name it with "
            f"--against: docs/results/{study}.json of this project's repository, or another."
        ) from error
    if not isinstance(found, dict) or found.get("study") != study or not isinstance(found.get("trials"), dict):
        raise TrainError(
            f"{result}: expected the result of the {study} study, found another file. Name it by --against."
        )
    for name in only.split(","):
        if name not in found["trials"]:
            raise TrainError(f"--only {name}: no trial of {result} has that name.{nearest(name, found['trials'])}")
    return {name: found["trials"][name] for name in only.split(",")}


def show_repeated(before: dict[str, Any], now: dict[str, Any], as_json: bool) -> None:
    """The figures of repeated trials beside those of the result."""
    emit_result("", {"repeated": {name: {"result": before[name], "now": now[name]} for name in now}}, as_json)
    if not as_json:
        rows = [
            [name, figure, _figure(before[name].get(figure)), _figure(value)]
            for name, figures in now.items()
            for figure, value in figures.items()
            if not isinstance(value, dict | list)
        ]
        emit_table(["trial", "figure", "result", "now"], rows)


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def between(value: float, interval: list[float], form: str) -> str:
    low, high = interval
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def numbers(text: str, kind: type) -> list[Any]:
    from train.errors import TrainError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise TrainError(f"'{text}': expected numbers with commas between them.") from error
