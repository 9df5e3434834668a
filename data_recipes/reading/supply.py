"""Where a token store gets its documents from: local files, or a Hub dataset, in units that can be read again."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from data_recipes.manifest import fingerprint_of
from data_recipes.reading.files import (
    SourceFile,
    SourceMissing,
    Unit,
    content_fingerprint,
    examine,
    recognised,
    units_of,
)
from data_recipes.reading.formats import Documents, read_parts
from data_recipes.reading.lookup import columns_of
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import template_named

WHY_NOT = {
    "off-hub": "off-hub, fetch it and give it as a path",
    "not-public": "nothing to read",
    "ids-only": "ids-only, the Hub has no text to read",
    "script-based": "script-based, and the entry does not name its files",
}


class Supply(Protocol):
    """The documents of one source, cut into units; the same unit always gives the same documents.

    `unit_count` is None where only reading on tells how many there are. `sequential`: units can only be had in order,
    `streams` of them at a time; `place_after` says where one ended, and `continue_after` takes that over. `revision` is
    the Hub commit, if any. `notes`: how files were read whose names do not tell. `file_ids`: the same for two files, of
    whatever source, that hold the same.
    """

    source: Source
    fingerprint: str
    file_names: list[str]
    file_ids: list[str]
    input_bytes: int | None
    revision: str | None
    sequential: bool
    streams: int
    notes: list[str]

    @property
    def unit_count(self) -> int | None: ...

    def place_after(self, number: int) -> dict[str, Any] | None: ...

    def continue_after(self, number: int, place: Mapping[str, Any]) -> None: ...

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        """The documents of a unit in batches; rows that give none are counted in `drops`."""
        ...

    def unit_identity(self) -> object:
        """What says how the units are cut, for the store's name."""
        ...


def open_supply(source: Source, *, workers: int = 1, memory: Path | None = None, seed: int = 0) -> Supply:
    """Look at a source: list and hash its files, or find its revision. `SourceMissing` when it cannot be read.

    `seed` orders the files of a Hub dataset.
    """
    if source.path is not None:
        return LocalSupply(source, examine(source, workers=workers, memory=memory))
    if source.readable == "no":
        raise SourceMissing(f"{source.label}: {WHY_NOT[source.access]}{f' ({source.note})' if source.note else ''}.")
    from data_recipes.reading.hub import HubSupply

    return HubSupply.find(source, seed=seed)


def columns_said(supply: Supply) -> str:
    """What columns the rows of local files have, as a sentence for a message; empty where there are none."""
    columns = columns_of(supply.files) if isinstance(supply, LocalSupply) else []
    return f" Its rows have the columns {', '.join(columns[:20])}." if columns else ""


def how_rows_become_text(source: Source) -> dict[str, object]:
    """The part of a source's entry that changes its documents: what a template makes of a row, not how it is called."""
    said: dict[str, object] = source.model_dump(include={"text", "template", "fields", "filters"}, mode="json")
    if source.decode_with is not None:
        said["decode_with"] = source.decode_with
    if source.template is not None:
        said["template"] = template_named(source.template).identity
    return said


class LocalSupply:
    """Files on this machine."""

    unit_count: int | None
    revision: str | None = None
    sequential = False
    streams = 1

    def __init__(self, source: Source, files: list[SourceFile]) -> None:
        self.source = source
        self.files = files
        self.file_names = [file.name for file in files]
        self.file_ids = [file.sha256 for file in files]
        self.notes = recognised(files)
        self.units: list[Unit] = units_of(files)
        self.unit_count = len(self.units)
        self.input_bytes: int | None = sum(file.size for file in files)
        self.fingerprint = fingerprint_of([content_fingerprint(files), how_rows_become_text(source)])

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        yield from read_parts(self.source, self.files, self.units[number], drops)

    def place_after(self, number: int) -> None:
        """Files can be read from anywhere."""

    def continue_after(self, number: int, place: Mapping[str, Any]) -> None:
        pass

    def unit_identity(self) -> object:
        return [[[part.file, part.start, part.stop] for part in unit] for unit in self.units]
