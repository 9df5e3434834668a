"""`yulanmini eval`: score a model, compare runs."""

from pathlib import Path
from typing import Annotated

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_table, new_group, say
from yulanmini.run_layout import CORPUS, MERGED

app = new_group()


@app.callback()
def eval() -> None:
    """Scores with their method: held-out bits per byte, exact match on unseen problems."""


@app.command(epilog=f"Example: yulanmini eval run runs/tiny/{MERGED} --data runs/tiny/{CORPUS} --out scores/base")
def run(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id.")],
    data: Annotated[Path, typer.Option(help="Corpus folder with heldout/ and dialogues/.")],
    suite: Annotated[str, typer.Option(help="heldout, problems, or miniature (both and samples).")] = "miniature",
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the chat template (an instruct model).")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json.")] = None,
    context: Annotated[int | None, typer.Option(help="Window in tokens; default: the model's, at most 4096.")] = None,
    stride: Annotated[int | None, typer.Option(help="Targets a window advances by; default: half of it.")] = None,
    start: Annotated[str, typer.Option(help="Token before a text: eos, bos or none.")] = "eos",
    bytes_per_domain: Annotated[int | None, typer.Option(help="Held-out text of each domain; default: all.")] = None,
    per_kind: Annotated[
        int | None, typer.Option(help="Problems of each easy kind, a quarter of harder ones; default: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts generated together.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (float32 on CPU, bfloat16 on GPU), float32, ...")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score one model on the held-out part of a corpus folder."""
    from data_recipes.manifest import folder_state
    from eval import corpus_folder
    from eval.suites import KIND, SUITES, SuiteSettings, run_suite

    settings = SuiteSettings(
        suite=suite,
        prompt="chat" if chat else "question",
        start=start,
        context=context,
        stride=stride,
        bytes_per_domain=bytes_per_domain,
        per_kind=per_kind,
        batch_size=batch_size,
    )
    if dry_run:
        from eval.model_loading import check_folder

        settings.check()
        if out is not None:
            folder_state(out, kind=KIND)
        if Path(model).exists():
            check_folder(Path(model))
        parts = SUITES[suite]
        texts = corpus_folder.heldout_texts(data, bytes_per_domain=bytes_per_domain) if "heldout" in parts else {}
        problems = corpus_folder.unseen_problems(data, per_kind=per_kind) if "problems" in parts else []
        plan = {
            "model": model,
            "parts": list(parts),
            "heldout_documents": {domain: len(documents) for domain, documents in texts.items()},
            "problems": len(problems),
            "writes": str(out / "scores.json") if out else None,
        }
        if as_json:
            emit_json(plan)
        else:
            emit_table(["would run", ""], [[key, str(value)] for key, value in plan.items()])
        return
    result = run_suite(
        model,
        data=data,
        settings=settings,
        out=out,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        progress=True,
    )
    cut = sum(row["cut"] for row in result.get("levels", []))
    if cut:
        say(
            f"{cut} of {sum(row['count'] for row in result['levels'])} questions are longer than the model's context "
            "leaves room for beside the answer; it was asked without their beginnings (column 'cut')"
        )
    if as_json:
        emit_json(result)
        return
    if "heldout" in result:
        domains = [{"domain": domain, **row} for domain, row in result["heldout"].items()]
        columns = ["held-out text=domain", "bits/byte=bits_per_byte:.3f", "loss:.3f", "tokens", "bytes"]
        emit_records(columns, domains)
    if "problems" in result:
        columns = [
            "problem=kind",
            "level",
            "language",
            "exact match=exact_match:.1%",
            "chance:.1%",
            "problems=count",
            "cut",
        ]
        emit_records(columns, result["problems"])
    if out is not None:
        say(f"Wrote {out / 'scores.json'}")


@app.command(epilog="Example: yulanmini eval compare scores/base scores/instruct")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="scores.json files or their folders.")],
    as_json: AsJson = False,
) -> None:
    """Show the scores of several runs side by side."""
    from eval.compare import compare as side_by_side

    table = side_by_side(runs)
    if as_json:
        emit_json(table)
        return
    rows = [
        [row["measure"], row["group"], *("" if value is None else f"{value:.3f}" for value in row["values"])]
        for row in table["rows"]
    ]
    emit_table(["measure", "of", *table["runs"]], rows)
    if not table["same_data"]:
        say("The runs were scored on different corpora: bits per byte and exact match are not comparable.")
