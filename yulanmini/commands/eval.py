"""`yulanmini eval`: score a model, compare runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_table, new_group, say
from yulanmini.run_layout import CORPUS, MERGED

app = new_group()


@app.callback()
def eval() -> None:
    """Score models on tasks (held-out bits per byte, exact match on unseen problems), and compare."""


@app.command(epilog=f"Example: yulanmini eval run runs/tiny/{MERGED} --data runs/tiny/{CORPUS} --out scores/base")
def run(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id.")],
    data: Annotated[Path, typer.Option(help="Corpus folder with heldout/ and dialogues/.")],
    suite: Annotated[str, typer.Option(help="A task (heldout, problems, ...), or miniature: all of these.")] = (
        "miniature"
    ),
    chat: Annotated[bool, typer.Option("--chat", help="Prompt through the chat template (instruct models).")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the tasks, such as context=1024; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (float32 on CPU, bfloat16 on GPU), float32, ...")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score one model on the held-out part of a corpus folder."""
    from eval.model_loading import check_folder
    from eval.scores import SCORES_NAME, value_format
    from eval.suites import prepare, run_suite
    from train.config_file import apply_override

    settings: dict[str, Any] = {"prompt": "chat"} if chat else {}
    for change in changes or ():
        apply_override(settings, change)
    if dry_run:
        inputs = {task.name: len(read) for task, read in prepare(data, suite, settings, out)}
        if Path(model).exists():
            check_folder(Path(model))
        plan = {"model": model, "tasks": inputs, "writes": str(out / SCORES_NAME) if out else None}
        if as_json:
            emit_json(plan)
        else:
            emit_table(["would run", ""], [[key, str(value)] for key, value in plan.items()])
        return
    scores = run_suite(
        model,
        data=data,
        suite=suite,
        settings=settings,
        out=out,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        progress=True,
    )
    for note in scores["notes"]:
        say(note)
    if as_json:
        emit_json(scores)
        return
    rows = [row | {"value": format(row["value"], value_format(row))} for row in scores["rows"]]
    emit_records(["task", "measure", "of=group", "value", "chance:.1%", "count"], rows)
    if out is not None:
        say(f"Wrote {out / SCORES_NAME}")


@app.command(epilog="Example: yulanmini eval compare scores/base scores/instruct")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="scores.json files or their folders.")],
    as_json: AsJson = False,
) -> None:
    """Show the scores of several runs side by side."""
    from eval.scores import compare as compare_runs
    from eval.scores import value_format

    table = compare_runs(runs)
    if as_json:
        emit_json(table)
        return
    rows = []
    for row in table["rows"]:
        values = ["" if value is None else format(value, value_format(row)) for value in row["values"]]
        rows.append([row["task"], row["measure"], row["group"], *values])
    emit_table(["task", "measure", "of", *table["runs"]], rows)
    if not table["same_data"]:
        say("The runs were scored on different data: their scores are not comparable.")
