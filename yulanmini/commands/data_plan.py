"""`yulanmini data plan`: what a build will read, write and take; registered by `data.py`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yulanmini.console import AsJson, emit_json, emit_records, emit_table, say

if TYPE_CHECKING:
    from data_recipes.forecast.forecast import Forecast
    from data_recipes.packing.request import BuildRequest

Online = Annotated[
    bool | None,
    typer.Option("--online/--offline", help="Ask the Hub for sizes and access; default: if HF_HUB_OFFLINE is not set."),
]
Rate = Annotated[float | None, typer.Option("--rate", help="MB of text a second and worker; default: as measured.")]
# Places that a table shows; --json has all.
SHOWN_PLACES = 30


def plan(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE|PHASE...", help="Recipe files, phases (7, 26-4k), or ranges of phases (1-27)."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Where builds are, or will be.")] = None,
    store: Annotated[Path | None, typer.Option("--store", help="Tokenised sources; default OUT/store.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Folder; default: the recipe's, else the published one's size.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", help="Read every published subset from this folder's train/DOMAIN.jsonl instead."),
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Size relative to the recipe, e.g. 0.01.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens of each phase, instead of --scale.")] = None,
    context_length: Annotated[
        int | None,
        typer.Option("--context-length", help="Of the 4K phases (28K phases get 7 times as much), or of the recipe."),
    ] = None,
    dropout: Annotated[float, typer.Option("--bpe-dropout", help="Probability of omitting a merge, e.g. 0.1.")] = 0.0,
    missing: Annotated[
        str, typer.Option("--missing", help="Unreadable sources: fail (count them), skip, or substitute.")
    ] = "fail",
    workers: Annotated[int | None, typer.Option("--workers", help="On all machines together; default: cores.")] = None,
    rate: Rate = None,
    online: Online = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a build needs before anything is read: downloads, text, store, rows, hours, disk, epochs, gaps."""
    from typing import cast

    from data_recipes.packing.request import BuildRequest, NoPredecessor, load_recipes

    place = out or Path("data")
    sizes: dict[str, Any] = {"scale": scale, "tokens": tokens, "context_length": context_length, "corpus": corpus}
    try:
        asked, before = load_recipes(recipes, place, **sizes)
    except NoPredecessor as error:
        say(f"{error} Counted here as if it began its sources.")
        asked, before = load_recipes(recipes, place, alone=True, **sizes)
    request = BuildRequest(
        asked,
        place,
        before=before,
        tokenizer=tokenizer,
        store=store,
        dropout=dropout,
        missing=cast(Any, missing),
        workers=workers,
    )
    show_plan(request, online=online, rate=rate, as_json=as_json)


def show_plan(
    request: "BuildRequest", *, online: bool | None, rate: float | None, as_json: bool, refuse: bool = False
) -> None:
    """Print the forecast of a request; `refuse`: raise what its build would raise about sources."""
    from data_recipes.forecast import answer
    from data_recipes.forecast.forecast import forecast
    from data_recipes.forecast.sights import look_on_hub
    from data_recipes.recipes.source import resolve_source

    sights = {}
    if online or (online is None and not _hub_offline()):
        chain = [*request.recipes, *request.before]
        sources = [resolve_source(one.source, where=one.name) for recipe in chain for one in recipe.subsets]
        sights = look_on_hub(sources, progress=True)
        if not sights and any(source.hub is not None for source in sources):
            say("the Hub gave no answer: the figures are those of assumptions.")
    found = forecast(request, sights=sights, rate=rate, refuse=refuse)
    if as_json:
        emit_json(answer.as_json(found, asked_hub=bool(sights)))
        return
    _print_places(found)
    print()
    _print_totals(found)
    for line in answer.to_do(found, asked_hub=bool(sights)):
        say(f"- {line}")


def _hub_offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _print_places(found: "Forecast") -> None:
    from data_recipes.forecast import answer

    places = answer.by_place(found)
    columns = ["place", "state", "tokens", "tokenised", "download", "text", "store", "rows", "epochs"]
    rows = [
        [
            place.place,
            place.state,
            answer.tokens(place.total("drawn")),
            answer.tokens(place.total("tokenised")),
            *(
                answer.amount(place.total(name))
                for name in ("download_bytes", "text_bytes", "store_bytes", "row_bytes")
            ),
            "" if place.epochs is None else f"{place.epochs:.2f}",
        ]
        for place in places
    ]
    shown, rest = rows[:SHOWN_PLACES], places[SHOWN_PLACES:]
    if rest:
        sums = [sum(place.total(name) for place in rest) for name in ("drawn", "tokenised")]
        shown.append([f"{len(rest)} more places", "", *map(answer.tokens, sums), *[""] * 5])
    title = answer.listed_phases([item.recipe.key for item in found.mixes])
    emit_table(columns, shown, title=f"{title}: {found.total('drawn'):,} tokens of {len(found.sources)} sources")


def _print_totals(found: "Forecast") -> None:
    from data_recipes.forecast import answer

    result = answer.as_json(found, asked_hub=True)
    time, space, totals = result["time"], result["disk"], result["totals"]
    rate = f"{time['megabytes_per_second']:g} MB/s a worker, {time['encoder']}"
    lines = [
        ("tokens in rows", answer.tokens(totals["drawn"]), ""),
        ("tokenised", answer.tokens(totals["tokenised"]), "with the look-ahead of long-context phases"),
        ("download", answer.amount(totals["download_bytes"]), "of the files that the entries select"),
        ("text", answer.amount(totals["text_bytes"]), ""),
        ("token store", answer.amount(totals["store_bytes"]), f"{found.token_bytes} bytes a token, document tables"),
        ("rows", answer.amount(totals["row_bytes"]), "Arrow, int32"),
        ("text to rows", answer.hours(time["seconds"]), f"{time['workers']} workers at {rate}"),
        ("download time", answer.hours(time["download_seconds"]), "at the network rate assumed"),
        ("verify", answer.hours(time["verify_seconds"]), "store and rows read again at the disk rate assumed"),
        ("disk, all kept", answer.amount(space["all_kept"]), ""),
        ("disk, sources removed", answer.amount(space["sources_removed"]), "once they are tokenised"),
        ("disk, a phase of rows", answer.amount(space["one_phase_of_rows"]), "and rows removed when trained on"),
    ]
    emit_table(["in all", "", ""], lines)
    print()
    emit_records(
        ["resting on", "value:,.6g", "basis", "source"],
        [{"resting on": name, **figure} for name, figure in result["figures"].items() if _is_general(name)],
    )


def _is_general(name: str) -> bool:
    """Whether a figure is of a topic and no single source's."""
    return not name.startswith("source_tokens") and "/" not in name
