"""`yulanmini data sources`: where the tokens come from; registered by `data.py`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yulanmini.console import AsJson, emit_json, emit_records, emit_table, say

if TYPE_CHECKING:
    from data_recipes.reading.hub_status import HubStatus
    from data_recipes.recipes.shares import SubsetUse


def sources(
    phase: Annotated[
        str | None, typer.Argument(help="1 to 27, 26-4k, or a recipe file; default: all phases of the 28K path.")
    ] = None,
    subsets: Annotated[bool, typer.Option("--subsets", help="A line for each subset, not for each place.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Ask the Hub: moved, gated, gone, size, revision.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where the tokens come from, with the share of each source and what access to it takes."""
    from data_recipes.reading.hub_status import check_on_hub
    from data_recipes.recipes.recipe import load_recipe
    from data_recipes.recipes.shares import as_json as shares_json
    from data_recipes.recipes.shares import subset_uses, trained_recipes

    recipes = [load_recipe(phase)] if phase is not None else trained_recipes()
    uses = subset_uses(recipes)
    statuses = check_on_hub({use.source_name: use.source for use in uses}) if online else []
    if as_json:
        result: dict[str, Any] = {"phase": phase, **shares_json(uses)}
        if online:
            result["hub"] = [asdict(status) for status in statuses]
        emit_json(result)
        _stop_without_hub(statuses)
        return
    title = f"{recipes[0].name}" if phase is not None else "Phases 1 to 27 (28K path)"
    if subsets:
        _print_subsets(uses, title)
    else:
        _print_places(uses, title)
    if online:
        print()
        _print_hub(statuses)
        _stop_without_hub(statuses)


def _stop_without_hub(statuses: "list[HubStatus]") -> None:
    """Raise an error, after the table was printed, when the Hub gave no answer for any dataset."""
    from data_recipes.errors import DataError

    if statuses and all(status.unanswered for status in statuses):
        raise DataError(
            f"the Hub cannot be asked: {statuses[0].message}. Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; "
            "without --online the table needs no network."
        )


def _print_places(uses: "list[SubsetUse]", title: str) -> None:
    from data_recipes.recipes.shares import ACCESS_MEANS, place_uses, tokens_by_access, tokens_by_readable

    total = sum(use.tokens for use in uses)
    emit_table(
        ["place", "access", "build reads it", "subsets", "tokens (B)", "share", "licence"],
        [
            [item.place, item.access, item.readable, len(item.subsets), *_tokens(item.tokens, total), licences]
            for item in place_uses(uses)
            for licences in [", ".join(item.licences) or "unknown"]
        ],
        title=f"{title}: {total:,} tokens, {len(uses)} subsets",
    )
    print()
    emit_table(
        ["access", "tokens (B)", "share", "meaning"],
        [
            [access, *_tokens(tokens, total), ACCESS_MEANS[access]]
            for access, tokens in tokens_by_access(uses).items()
            if tokens or any(use.source.access == access for use in uses)
        ],
    )
    print()
    rows = [[readable, *_tokens(tokens, total)] for readable, tokens in tokens_by_readable(uses).items()]
    emit_table(["build reads it", "tokens (B)", "share"], rows)


def _tokens(tokens: int, total: int) -> list[str]:
    return [f"{tokens / 1e9:.3f}", f"{tokens / total:.2%}"]


def _print_subsets(uses: "list[SubsetUse]", title: str) -> None:
    total = sum(use.tokens for use in uses)
    verified = {True: "yes", False: "no", None: ""}
    rows = [{**vars(use), "share": use.tokens / total, "verified": verified[use.source.verified]} for use in uses]
    columns = ["subset=name", "tokens", "share:.3%", "access=source.access", "build reads it=source.readable"]
    title = f"{title}: {total:,} tokens, {len(uses)} subsets"
    emit_records([*columns, "from=source.label", "verified"], rows, title=title)


def _print_hub(statuses: "list[HubStatus]") -> None:
    if all(status.unanswered for status in statuses):
        return
    rows = [
        {**vars(status), "state": _state(status), "size": status.bytes / 1e9 if status.bytes else None}
        for status in statuses
    ]
    emit_records(["dataset=hub", "on the Hub=state", "revision to pin=revision", "size (GB)=size:.2f", "licence"], rows)
    for status in statuses:
        for line in status.missing:
            print(f"{status.hub}: {line}")
    counts = {name: sum(status.status == name for status in statuses) for name in ("ok", "moved", "gated", "gone")}
    unreachable = sum(status.status == "unreachable" for status in statuses)
    say(
        f"{len(statuses)} datasets asked: "
        + ", ".join(f"{count} {name}" for name, count in counts.items())
        + (f", {unreachable} could not be asked" if unreachable else "")
        + "."
    )


def _state(status: "HubStatus") -> str:
    if status.status == "moved":
        return f"moved to {status.now}{', gated' if status.gated else ''}"
    return f"{status.status}: {status.message}" if status.message else status.status
