"""`yulanmini data`: from text to packed rows, and back from a row to its text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yulanmini.commands.data_sources import sources
from yulanmini.console import emit_json, emit_table, say

if TYPE_CHECKING:
    from data_recipes.build_plan import PlannedMix
    from data_recipes.build_request import BuildRequest

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command(epilog="Example: yulanmini data sources 26    or: yulanmini data sources --online --json")(sources)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A built phase, such as data/phase-07.")]


@app.callback()
def data() -> None:
    """From text to packed rows: sources, tokenizer, build; and back: verify, trace, stats, publishing form."""


@app.command(
    epilog="Example: yulanmini data build my-anneal.yaml --out data    "
    "or: yulanmini data build 1-27 --corpus runs/tiny/01-corpus --tokenizer runs/tiny/02-tokenizer "
    "--scale 1e-6 --context-length 128 --out data"
)
def build(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE|PHASE...", help="Recipe files, phases (7, 26-4k), or ranges of phases (1-27)."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the built phases, one folder each.")],
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Folder or Hub id; default: the recipe's, else the published one.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="Where tokenised sources are kept for all builds; default OUT/store.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", help="Read every published subset from this folder's train/DOMAIN.jsonl instead."),
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Times the tokens of the recipe, e.g. 1e-6.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens of each phase, instead of --scale.")] = None,
    context_length: Annotated[
        int | None,
        typer.Option("--context-length", help="Of the 4K phases (28K phases: 7 times as much), or of the recipe."),
    ] = None,
    packing: Annotated[str, typer.Option("--packing", help="concat (the original's) or best_fit.")] = "concat",
    bos: Annotated[bool, typer.Option("--bos", help="Put BOS before every document.")] = False,
    dropout: Annotated[float, typer.Option("--bpe-dropout", help="Chance of leaving out a merge, e.g. 0.1.")] = 0.0,
    missing: Annotated[
        str, typer.Option("--missing", help="A source that cannot be read: fail, skip, or substitute.")
    ] = "fail",
    alone: Annotated[
        bool, typer.Option("--alone", help="Start at the beginning of each source, not where earlier phases end.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Default: the recipe's.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default: all cores.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be built; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Build packed rows in training order: read, tokenise, draw, pack, mix. The same command goes on after a stop."""
    from data_recipes.build_request import BuildRequest

    request = BuildRequest.of(
        recipes,
        out=out,
        tokenizer=tokenizer,
        store=store,
        corpus=corpus,
        scale=scale,
        tokens=tokens,
        context_length=context_length,
        packing=packing,
        bos=bos,
        dropout=dropout,
        missing=missing,
        alone=alone,
        seed=seed,
        workers=workers,
    )
    if dry_run:
        _show_plan(request.plan(), as_json)
        return
    _show_built(request, as_json)


def _show_plan(planned: "list[PlannedMix]", as_json: bool) -> None:
    rows = [
        {
            "recipe": item.recipe.key,
            "subset": subset.name,
            "domain": subset.domain,
            "source": store.source.label,
            "quota_tokens": subset.tokens,
            "rows": count,
            "input_bytes": store.supply.input_bytes,
        }
        for item in planned
        for subset, store, count in zip(item.mix.subsets, item.mix.stores, item.rows, strict=True)
    ]
    left_out = [{"recipe": item.recipe.key, **entry} for item in planned for entry in item.mix.left_out]
    if as_json:
        emit_json({"subsets": rows, "missing": left_out})
        return
    emit_table(
        ["recipe", "subset", "domain", "source", "tokens asked", "rows"],
        [
            [row["recipe"], row["subset"], row["domain"] or "", row["source"], row["quota_tokens"], row["rows"]]
            for row in rows
        ],
    )
    for entry in left_out:
        say(f"{entry['recipe']}: {entry['subset']} {entry['action']} ({entry['tokens']:,} tokens): {entry['reason']}")


def _show_built(request: "BuildRequest", as_json: bool) -> None:
    from data_recipes.manifest import read_manifest

    folders = request.run()
    manifests = [read_manifest(folder) for folder in folders]
    notes = _notes(manifests)
    if as_json:
        shown = ("name", "phase", "variant", "fingerprint", "counts", "subsets")
        emit_json(
            {
                "phases": [
                    {
                        "folder": str(folder),
                        **{key: manifest[key] for key in shown},
                        "missing": manifest["config"]["missing"],
                    }
                    for folder, manifest in zip(folders, manifests, strict=True)
                ],
                "notes": notes,
            }
        )
        return
    emit_table(
        ["folder", "rows", "context", "tokens", "documents", "padding", "subsets", "of these empty", "left out"],
        [
            [
                str(folder),
                manifest["counts"]["rows"],
                manifest["context_length"],
                manifest["counts"]["tokens"],
                manifest["counts"]["documents"],
                f"{manifest['counts']['padding'] / manifest['counts']['tokens']:.2%}",
                len(manifest["subsets"]),
                sum(subset["rows"] == 0 for subset in manifest["subsets"]),
                len(manifest["config"]["missing"]),
            ]
            for folder, manifest in zip(folders, manifests, strict=True)
        ],
    )
    for note in notes:
        say(note)


def _notes(manifests: list[dict[str, Any]]) -> list[str]:
    """What a user should know of the sources: rows that gave nothing, repeats, a slower back end."""
    about: dict[str, set[str]] = {}
    epochs: dict[str, float] = {}
    for source in (source for manifest in manifests for source in manifest["sources"]):
        dropped = [f"{count:,} rows gave no document ({reason})" for reason, count in source["drops"].items()]
        for note in [*source["notes"], *dropped]:
            about.setdefault(note, set()).add(source["name"])
        epochs[source["name"]] = max(source["epochs"] or 0, epochs.get(source["name"], 0))
    repeated = [f"{name}: gone through {times:.2f} times" for name, times in sorted(epochs.items()) if times > 1]
    return [f"{', '.join(sorted(names))}: {note}" for note, names in sorted(about.items())] + repeated


@app.command(epilog="Example: yulanmini data verify data/phase-07    or all of them: yulanmini data verify data")
def verify(folder: Folder, as_json: Json = False) -> None:
    """Re-check every checksum and count of a built phase, or of all finished folders directly below DIR."""
    from data_recipes.verify import finished_folders
    from data_recipes.verify import verify as verify_folder

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
    as_json: Json = False,
) -> None:
    """Show the documents of a row or of a training step: source, file, row, token span, and their very text."""
    from data_recipes.trace import trace_rows

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
    emit_table(
        ["row", "subset", "source", "file", "document", "from token", "to"],
        [
            [
                one["row"],
                one["subset"],
                document["source"],
                document["file"],
                document["row"],
                document["start"],
                document["end"],
            ]
            for one in found
            for document in one["documents"]
        ],
    )


@app.command(epilog="Example: yulanmini data stats data/phase-07 --plot phase-07.svg")
def stats(
    folder: Folder,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw them: a .svg or .png file.")] = None,
    as_json: Json = False,
) -> None:
    """Show tokens, documents, fill, lengths, and the share of each domain and subset."""
    from data_recipes.stats import phase_stats, plot_stats

    figures = phase_stats(folder)
    if plot is not None:
        plot_stats(figures, plot)
        say(f"wrote {plot}")
    if as_json:
        emit_json(figures)
        return
    emit_table(
        ["rows", "context", "tokens", "documents", "pieces", "fill"],
        [
            [figures[key] for key in ("rows", "context_length", "tokens", "documents", "pieces")]
            + [f"{figures['fill']:.3%}"]
        ],
        title=figures["name"],
    )
    emit_table(
        ["domain", "tokens", "share"],
        [[name, entry["tokens"], f"{entry['share']:.2%}"] for name, entry in figures["domains"].items()],
    )
    emit_table(
        ["subset", "domain", "source", "rows", "tokens", "share", "documents", "epochs"],
        [
            [
                subset["name"],
                subset["domain"] or "",
                subset["source"],
                subset["rows"],
                subset["tokens"],
                f"{subset['share']:.2%}",
                subset["documents"],
                "" if subset["epochs"] is None else f"{subset['epochs']:.2f}",
            ]
            for subset in figures["subsets"]
        ],
    )
    emit_table(["tokens of a piece", "pieces"], [[bound, count] for bound, count in figures["piece_lengths"].items()])


@app.command(epilog="Example: yulanmini data publish data --out hub/yulanmini-data")
def publish(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A built phase, or the folder of several.")],
    out: Annotated[Path, typer.Option("--out", help="The dataset's folder; must not exist.")],
    title: Annotated[str, typer.Option("--title", help="Title of the card.")] = "yulanmini-data",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written.")] = False,
    as_json: Json = False,
) -> None:
    """Write built phases as a Hub dataset: Parquet shards, one config a phase, card from the manifests. No upload."""
    from data_recipes.publish_parquet import phases_in
    from data_recipes.publish_parquet import publish as publish_folder
    from data_recipes.reader import PackedRows

    if dry_run:
        phases = [PackedRows(one) for one in phases_in(folder)]
        result: dict[str, Any] = {
            "folder": str(out),
            "configs": [{"name": phase.folder.name, "rows": phase.num_rows} for phase in phases],
        }
    else:
        manifest = publish_folder(folder, out, title=title)
        result = {"folder": str(out), "fingerprint": manifest["fingerprint"], "counts": manifest["counts"]}
    if as_json:
        emit_json(result)
        return
    if dry_run:
        emit_table(["config", "rows"], [[config["name"], config["rows"]] for config in result["configs"]])
    else:
        say(f"wrote {out}: {result['counts']['phases']} configs, {result['counts']['tokens']:,} tokens")


@app.command(epilog="Example: yulanmini data tokenizer runs/tiny/01-corpus --out tokenizer --vocab-size 3000")
def tokenizer(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus folder, as the main job makes it.")],
    out: Annotated[Path, typer.Option("--out", help="The tokenizer's folder; must not exist.")],
    vocab_size: Annotated[int, typer.Option("--vocab-size", help="Special and byte tokens counted.")] = 3000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the corpus; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train a tokenizer on a corpus folder: BPE with byte fallback, digits split, YuLan-Mini's special tokens."""
    from data_recipes.manifest import read_manifest

    counts = read_manifest(corpus, kind="corpus")["counts"]
    if dry_run:
        say(f"would train {vocab_size:,} tokens on {corpus} into {out}")
        emit_json({"corpus": counts, "vocab_size": vocab_size}) if as_json else None
        return
    from data_recipes.tokenizer import train_tokenizer

    manifest = train_tokenizer(corpus, out, vocab_size=vocab_size, seed=seed, progress=True)
    if as_json:
        emit_json({"folder": str(out), "fingerprint": manifest["fingerprint"], "counts": manifest["counts"]})
        return
    say(f"wrote {out}")
    emit_table(["", "value"], [[name, value] for name, value in manifest["counts"].items()])
