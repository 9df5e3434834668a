"""`yulanmini data`: from text to packed rows, and back from a row to its text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.commands.data_build import build
from yulanmini.commands.data_clean import clean
from yulanmini.commands.data_instruct import instruct
from yulanmini.commands.data_plan import plan
from yulanmini.commands.data_sources import sources
from yulanmini.commands.data_synthesize import synthesize
from yulanmini.commands.data_topic import train_topic
from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_result, emit_table, new_group, say
from yulanmini.run_layout import CORPUS, TOKENIZER

app = new_group()
app.command(
    epilog="Example: yulanmini data build my-anneal.yaml --out data    "
    f"or: yulanmini data build 1-27 --corpus runs/tiny/{CORPUS} --tokenizer runs/tiny/{TOKENIZER} "
    "--scale 1e-6 --context-length 128 --out data"
)(build)
app.command(
    epilog="Example: yulanmini data clean web-en --in wiki=wiki.parquet --in crawl=crawl --out cleaned --tasks 2"
)(clean)
app.command(
    epilog="Example: yulanmini data instruct mixture.yaml --endpoint http://localhost:8000/v1 --out dialogues    "
    "or: yulanmini data instruct published --out dialogues --dry-run"
)(instruct)
app.command(
    epilog="Example: yulanmini data plan 1-27 --workers 64    or: yulanmini data plan my-anneal.yaml --rate 50 --json"
)(plan)
app.command(
    epilog="Example: yulanmini data synthesize math-documents --in seeds.jsonl --out math --endpoint "
    "http://localhost:8000/v1 --model Qwen/Qwen2.5-7B-Instruct    "
    "or, without a model: yulanmini data synthesize programs --count 100000 --out problems"
)(synthesize)
app.command(
    epilog="Example: yulanmini data train-topic seeds/math.jsonl --against web.jsonl --topic math --out topics/math"
)(train_topic)
app.command(epilog="Example: yulanmini data sources 26    or: yulanmini data sources --online --json")(sources)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A built phase, such as data/phase-07.")]


@app.callback()
def data() -> None:
    """From text to packed rows: sources, tokenizer, build; and back: verify, trace, stats, publishing form."""


@app.command(epilog="Example: yulanmini data verify data/phase-07    or all of them: yulanmini data verify data")
def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Re-check every checksum and count of a built phase, or of all finished folders directly below DIR."""
    from data_recipes.rows.verify import finished_folders
    from data_recipes.rows.verify import verify as verify_folder

    problems = {}
    for one in finished_folders(folder):
        problems[str(one)] = verify_folder(one)
        if not as_json:
            say(f"{one}: {'sound' if not problems[str(one)] else f'{len(problems[str(one)])} problems'}")
    if as_json:
        emit_json({"sound": not any(problems.values()), "folders": problems})
    else:
        for problem in (line for lines in problems.values() for line in lines):
            print(problem)
    if any(problems.values()):
        raise typer.Exit(2)


@app.command(
    epilog="Example: yulanmini data trace data/phase-07 12 --text    "
    "or a whole training step: yulanmini data trace data/phase-07 --step 3 --batch-size 8"
)
def trace(
    folder: Folder,
    row: Annotated[int | None, typer.Argument(metavar="ROW", help="Row number, from 0.")] = None,
    text: Annotated[bool, typer.Option("--text", help="With the text of each document's span.")] = False,
    step: Annotated[int | None, typer.Option("--step", help="All rows of a step of this phase, from 1.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Rows a step, with --step.")] = None,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="Where the tokenizer is, if it moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the documents of a row or of a training step: source, file, row, token span, and their exact text."""
    from data_recipes.rows.trace import trace_rows

    found = trace_rows(folder, row=row, step=step, batch_size=batch_size, text=text, tokenizer=tokenizer)
    if as_json:
        if step is None:
            emit_json(found[0])
        else:
            documents = [{"in_row": one["row"], **document} for one in found for document in one["documents"]]
            emit_json({"step": step, "rows": found, "documents": documents})
        return
    _print_trace(found)


def _print_trace(found: list[dict[str, Any]]) -> None:
    if any("text" in document for one in found for document in one["documents"]):
        for one in found:
            for document in one["documents"]:
                where = f"{document['source']} {document['file']} row {document['row']}"
                origin = "" if document["text_from"] == "source" else "  (decoded from the tokens)"
                print(f"--- row {one['row']}  {where}  tokens {document['start']}-{document['end']}{origin}")
                print(document["text"])
        return
    emit_records(
        ["row=in_row", "subset", "source", "file", "document=row", "from token=start", "to=end"],
        [{**document, "in_row": one["row"], "subset": one["subset"]} for one in found for document in one["documents"]],
    )


@app.command(epilog="Example: yulanmini data stats data/phase-07 --plot phase-07.svg")
def stats(
    folder: Folder,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw them, as a .svg file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show tokens, documents, fill, lengths, and the share of each domain and subset."""
    from data_recipes.manifest import check_new_file
    from data_recipes.rows.stats import phase_stats

    if plot is not None:
        check_new_file(plot, endings=(".svg",))
    figures = phase_stats(folder)
    if plot is not None:
        from yulanmini.report.pictures import draw_phase

        draw_phase(plot, figures)
        say(f"wrote {plot}")
    if as_json:
        emit_json(figures)
        return
    columns = ["rows", "context=context_length", "tokens", "documents", "pieces", "fill:.3%"]
    emit_records(columns, [figures], title=figures["name"])
    domains = [{"domain": name, **entry} for name, entry in figures["domains"].items()]
    emit_records(["domain", "tokens", "share:.2%"], domains)
    columns = ["subset=name", "domain", "source", "rows", "tokens", "share:.2%", "documents", "epochs:.2f"]
    emit_records(columns, figures["subsets"])
    emit_table(["tokens of a piece", "pieces"], figures["piece_lengths"].items())


@app.command(epilog="Example: yulanmini data publish data --out hub/yulanmini-data")
def publish(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A built phase, or the folder of several.")],
    out: Annotated[Path, typer.Option("--out", help="The dataset's folder; an earlier one is brought up to date.")],
    repo_id: Annotated[str | None, typer.Option(help="NAMESPACE/NAME; default: your-name/ and OUT's.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title of the card.")] = None,
    licence: Annotated[str | None, typer.Option(help="As the Hub spells it; by default that of the sources.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Folder or Hub id; default: where the phases were built with it.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write built phases as a Hub dataset: Parquet shards, one config per phase, card from the manifests. No upload."""
    from hub_cards.layout.sources import phases_repo
    from hub_cards.layout.swap import lay_out_draft, place_state

    asked = {"title": title, "licence": licence, "tokenizer": tokenizer, "progress": True}
    draft = phases_repo(folder, out, repo_id=repo_id, **asked)
    configs = list(draft.inputs)
    if dry_run:
        place_state(out, draft)
        emit_result(f"would write {out}: {len(configs)} configs", {"folder": str(out), "configs": configs}, as_json)
        if not as_json:
            emit_records(["=config"], [{"config": name} for name in configs])
        return
    done = lay_out_draft(out, draft)
    emit_result(
        f"{'wrote' if done.written else 'kept'} {out}: {len(configs)} configs, {draft.counts['tokens']:,} tokens",
        {"folder": str(out), "written": done.written, "configs": configs, "counts": draft.counts},
        as_json,
    )


@app.command(epilog="Example: yulanmini data restore hub/yulanmini-data phase-20 phase-21 --out data")
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A published data set, downloaded.")],
    out: Annotated[Path, typer.Option("--out", help="Where the phases go; those there already are kept.")],
    phases: Annotated[list[str] | None, typer.Argument(metavar="PHASE...", help="Default: all of them.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make of a published data set the phases that were built, byte for byte, for `train pretrain` to read."""
    from data_recipes.packing.restore import restore_phases

    folders = [str(path) for path in restore_phases(folder, out, phases or (), progress=True, dry_run=dry_run)]
    emit_result(f"{'would restore' if dry_run else 'restored'} {', '.join(folders)}", {"folders": folders}, as_json)


@app.command(epilog=f"Example: yulanmini data tokenizer runs/tiny/{CORPUS} --out tokenizer --vocab-size 3000")
def tokenizer(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus folder, as in `yulanmini reproduce`.")],
    out: Annotated[Path, typer.Option("--out", help="The tokenizer's folder; must not exist.")],
    vocab_size: Annotated[int, typer.Option("--vocab-size", help="Tokens, special and byte tokens included.")] = 3000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a tokenizer on a corpus folder: BPE with byte fallback, digits split, YuLan-Mini's special tokens."""
    from data_recipes.tokens.train import check_training, train_tokenizer

    counts = check_training(corpus, out, vocab_size=vocab_size)["counts"]
    if dry_run:
        message = f"would train {vocab_size:,} tokens on {corpus} into {out}"
        emit_result(message, {"corpus": counts, "vocab_size": vocab_size}, as_json)
        return
    manifest = train_tokenizer(corpus, out, vocab_size=vocab_size, seed=seed, progress=True)
    result = {"folder": str(out), "fingerprint": manifest["fingerprint"], "counts": manifest["counts"]}
    emit_result(f"wrote {out}", result, as_json)
    if not as_json:
        emit_table(["", "value"], manifest["counts"].items())
