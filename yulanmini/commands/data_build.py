"""`yulanmini data build`: from recipes to packed rows; registered by `data.py`."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, say

if TYPE_CHECKING:
    from data_recipes.packing.request import BuildRequest

MANY = 40


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
        Path | None, typer.Option("--store", help="Tokenised sources; builds can share them; default OUT/store.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", help="Read every published subset from this folder's train/DOMAIN.jsonl instead."),
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Size relative to the recipe, e.g. 1e-6.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens of each phase, instead of --scale.")] = None,
    context_length: Annotated[
        int | None,
        typer.Option("--context-length", help="Of the 4K phases (28K phases get 7 times as much), or of the recipe."),
    ] = None,
    packing: Annotated[str, typer.Option("--packing", help="concat (the original's) or best_fit.")] = "concat",
    bos: Annotated[bool, typer.Option("--bos", help="Put BOS before every document.")] = False,
    dropout: Annotated[float, typer.Option("--bpe-dropout", help="Probability of omitting a merge, e.g. 0.1.")] = 0.0,
    missing: Annotated[
        str, typer.Option("--missing", help="A source that cannot be read: fail, skip, or substitute.")
    ] = "fail",
    alone: Annotated[
        bool, typer.Option("--alone", help="Start at the beginning of each source, not where earlier phases end.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Default: the recipe's.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default: all cores.")] = None,
    executor: Annotated[
        str | None,
        typer.Option("--executor", help="Build by tasks on local processes, slurm or ray; the same bytes."),
    ] = None,
    tasks: Annotated[int, typer.Option("--tasks", help="With --executor: so many tasks at the same time.")] = 1,
    executor_config: Annotated[
        Path | None, typer.Option("--executor-config", help="Settings of the executor, a YAML file.")
    ] = None,
    fetched: Annotated[
        Path | None,
        typer.Option(
            "--fetched", help="Fetch Hub files to this folder, do not stream them; default of --executor: OUT/fetched."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Build packed rows in training order: read, tokenise, draw, pack, mix. The same command resumes after a stop.

    More than one machine: --executor slurm --tasks 500 --executor-config slurm.yaml, on a disk that all share.
    """
    from data_recipes.errors import DataError
    from data_recipes.executors.run import check_executor
    from data_recipes.packing.request import BuildRequest, load_recipes

    if executor is not None:
        check_executor(executor, tasks, executor_config)
    elif tasks != 1 or executor_config is not None:
        raise DataError("--tasks and --executor-config go with --executor local, slurm or ray. Threads: --workers.")

    asked, before = load_recipes(
        recipes, out, scale=scale, tokens=tokens, context_length=context_length, corpus=corpus, alone=alone
    )
    request = BuildRequest(
        asked,
        out,
        before=before,
        tokenizer=tokenizer,
        store=store,
        seed=seed,
        bos=bos,
        dropout=dropout,
        packing=cast(Any, packing),
        missing=cast(Any, missing),
        fetched=fetched,
        workers=workers,
    )
    if dry_run:
        _show_plan(request, as_json)
    else:
        _show_built(request, as_json, executor=executor, tasks=tasks, executor_config=executor_config)


def _show_plan(request: "BuildRequest", as_json: bool) -> None:
    from data_recipes.packing.build import check_places
    from yulanmini.commands.data_plan import show_plan

    check_places(request)
    show_plan(request, online=None, rate=None, as_json=as_json, refuse=True)


def _show_built(request: "BuildRequest", as_json: bool, *, executor: str | None, **on_executor: Any) -> None:
    from data_recipes.errors import DataError
    from data_recipes.manifest import read_manifest
    from data_recipes.packing.build import build as build_request
    from data_recipes.packing.ledger import drawn_again
    from data_recipes.packing.on_executors import build_on

    try:
        if executor is None:
            folders = build_request(request)
        else:
            done = build_on(request, executor=cast(Any, executor), **on_executor)
            if done is None:
                say(f"handed to Slurm; the last job finishes {request.out}. The same command says how far it is.")
                return
            folders = done
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataError(
            f"{request.out}: {error.strerror}. Make room and give the same command again: what is finished is kept."
        ) from error
    manifests = [read_manifest(folder) for folder in folders]
    notes = [*_notes(manifests), *drawn_again(request.out, manifests)]
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
    built = [
        {
            **manifest,
            "folder": str(folder),
            "padding": manifest["counts"]["padding"] / manifest["counts"]["tokens"],
            "subsets": len(manifest["subsets"]),
            "empty": sum(subset["rows"] == 0 for subset in manifest["subsets"]),
            "missing": len(manifest["config"]["missing"]),
        }
        for folder, manifest in zip(folders, manifests, strict=True)
    ]
    columns = [
        "folder",
        "rows=counts.rows",
        "context=context_length",
        "tokens=counts.tokens",
        "documents=counts.documents",
    ]
    emit_records([*columns, "padding:.2%", "subsets", "of these empty=empty", "left out=missing"], built)
    for note in notes:
        say(note)
    _say_left_out(
        [{"recipe": manifest["name"], **entry} for manifest in manifests for entry in manifest["config"]["missing"]]
    )


def _say_left_out(entries: list[dict[str, Any]]) -> None:
    """Which subsets could not be read, what was done, and why; the manifests have them all."""
    for entry in entries[:MANY]:
        say(f"{entry['recipe']}: {entry['subset']} {entry['action']} ({entry['tokens']:,} tokens): {entry['reason']}")
    if len(entries) > MANY:
        say(f"... and {len(entries) - MANY} more subsets")


def _notes(manifests: list[dict[str, Any]]) -> list[str]:
    """What a user should know of the sources: rows that gave no document, repeats, a slower back end."""
    about: dict[str, set[str]] = {}
    epochs: dict[str, float] = {}
    for source in (source for manifest in manifests for source in manifest["sources"]):
        dropped = [f"{count:,} rows gave no document ({reason})" for reason, count in source["drops"].items()]
        for note in [*source["notes"], *dropped]:
            about.setdefault(note, set()).add(source["name"])
        epochs[source["name"]] = max(source["epochs"] or 0, epochs.get(source["name"], 0))
    repeated = [f"{name}: gone through {times:.2f} times" for name, times in sorted(epochs.items()) if times > 1]
    twice = [
        f"{manifest['name']}: {' and '.join(each['subsets'])} have drawn the same {each['documents']:,} documents of "
        f"{each['files']:,} files that both read: they are used twice. "
        "Narrow their globs or filters, or let them share one source."
        for manifest in manifests
        for each in manifest["overlaps"]
    ]
    about_sources = [f"{', '.join(sorted(names))}: {note}" for note, names in sorted(about.items())]
    return about_sources + repeated + twice
