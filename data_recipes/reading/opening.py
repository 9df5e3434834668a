"""Open a source of either kind, local files or a Hub dataset: for a build, or for single documents of a built row."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.reading.fetched import FetchedSupply
from data_recipes.reading.files import SourceMissing, examine
from data_recipes.reading.formats import unhashed
from data_recipes.reading.hub import HubSupply
from data_recipes.reading.supply import LocalSupply, Supply, documents_of_file
from data_recipes.recipes.source import Source

WHY_NOT = {
    "off-hub": "off-hub, fetch it and give it as a path",
    "not-public": "nothing to read",
    "ids-only": "ids-only, the Hub has no text to read",
    "script-based": "script-based, and the entry does not name its files",
}


def open_supply(
    source: Source, *, workers: int = 1, memory: Path | None = None, seed: int = 0, fetched: Path | None = None
) -> Supply:
    """Look at a source: list and hash its files, or find its revision. `SourceMissing` when it cannot be read.

    `seed` orders the files of a Hub dataset; they are streamed, or with `fetched` read from where they are fetched to.
    """
    if source.path is not None:
        return LocalSupply(source, examine(source, workers=workers, memory=memory))
    check_access(source)
    return HubSupply.find(source, seed=seed) if fetched is None else FetchedSupply.find(source, fetched, seed=seed)


def check_access(source: Source) -> None:
    """`SourceMissing` where the entry itself says that there is nothing to read."""
    if source.readable == "no":
        raise SourceMissing(f"{source.label}: {WHY_NOT[source.access]}{f' ({source.note})' if source.note else ''}.")


def fetch_documents(entry: Mapping[str, Any], file_name: str, rows: Collection[int]) -> dict[int, str]:
    """The texts of these rows of a source's file by row number; without those that are no longer there.

    `entry`: the source's in a phase's manifest, with the source as the recipe had it, the place where its files were,
    and the Hub commit.
    """
    source = Source.model_validate(entry["entry"])
    try:
        if entry["location"] is None:
            revision = entry["revision"] or source.revision
            return HubSupply.find(source.model_copy(update={"revision": revision})).documents(file_name, rows)
        place = Path(entry["location"])
        if source.hub is not None:
            file_name = file_name.removeprefix(f"{source.hub}@{entry['revision']}/")
        file = unhashed(place if place.is_file() else place / file_name)
        return documents_of_file(source, file, rows)
    except (DataError, OSError):
        return {}
