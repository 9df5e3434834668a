"""Where a token store gets its documents from: a source cut into units that can be read again; here of local files."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from data_recipes.manifest import fingerprint_of
from data_recipes.reading.documents import Documents
from data_recipes.reading.files import Unit, content_fingerprint, reading_notes, units_of
from data_recipes.reading.formats import read_parts
from data_recipes.reading.source_file import Part, SourceFile
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import template_named


class Supply:
    """The documents of one source, cut into units; the same unit always gives the same documents.

    `unit_count` is None while only reading further tells how many there are. `sequential`: units come in their own
    order the first time. `readable_units`: so many can be had now, in any order; None where they can only be had in
    order, `streams` of them at a time: `place_after` gives where one ended, for another run's `continue_after`.
    `revision`: the Hub commit, if any. `location`: where the files are, if they are on this machine. `notes`: the
    formats of files whose names do not give them. `file_ids`: equal for two files, of any source, with equal content.
    """

    source: Source
    fingerprint: str
    file_names: list[str]
    file_ids: list[str]
    notes: list[str]
    input_bytes: int | None = None
    revision: str | None = None
    location: str | None = None
    sequential = False
    streams = 1

    @property
    def unit_count(self) -> int | None:
        raise NotImplementedError

    @property
    def readable_units(self) -> int | None:
        return None if self.sequential else self.unit_count

    def files_wanted(self, units: int) -> list[str]:
        """The files to fetch next, so that about so many units can be read; none where all are here."""
        return []

    def fetch(self, name: str) -> None:
        """Bring one of the files here; `look` takes it in."""

    def look(self) -> None:
        """Take in what was fetched since."""

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        """The documents of a unit in batches; rows that give none are counted in `drops`."""
        raise NotImplementedError

    def unit_identity(self) -> object:
        """How the units are cut, for the store's name."""
        raise NotImplementedError

    def place_after(self, number: int) -> dict[str, Any] | None:
        """Where a unit ended, for its record; None where units can be read in any order."""
        return None

    def continue_after(self, number: int, place: Mapping[str, Any]) -> None:
        """Take over where a unit ended that another run, or another process, has made."""

    def columns(self) -> list[str]:
        """The columns of its rows, for a message; empty where there are none, or they were checked on opening."""
        return []


def text_identity(source: Source) -> dict[str, object]:
    """The part of a source's entry that changes its documents: what a template makes of a row, not its name."""
    identity: dict[str, object] = source.model_dump(include={"text", "template", "fields", "filters"}, mode="json")
    if source.decode_with is not None:
        identity["decode_with"] = source.decode_with
    if source.template is not None:
        identity["template"] = template_named(source.template).identity
    return identity


class LocalSupply(Supply):
    """Files on this machine, which can be read from any place.

    `units`: as they were cut from these files before, where the caller knows; of the large ones the ends of lines or
    of row groups need not be looked up again.
    """

    def __init__(self, source: Source, files: list[SourceFile], units: list[Unit] | None = None) -> None:
        self.source = source
        self.location = str(source.location)
        self.files = files
        self.file_names = [file.name for file in files]
        self.file_ids = [file.content for file in files]
        self.notes = reading_notes(files)
        self.units: list[Unit] = units_of(files) if units is None else units
        self.input_bytes = sum(file.size for file in files)
        self.fingerprint = fingerprint_of([content_fingerprint(files), text_identity(source)])

    @property
    def unit_count(self) -> int:
        return len(self.units)

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        yield from read_parts(self.source, self.files, self.units[number], drops)

    def unit_identity(self) -> object:
        return [[[part.file, part.start, part.stop] for part in unit] for unit in self.units]

    def columns(self) -> list[str]:
        """Those of the first file that has any."""
        return next(filter(None, (file.format.columns(file) for file in self.files)), [])


def documents_of_file(source: Source, file: SourceFile, rows: Collection[int]) -> dict[int, str]:
    """The texts of these rows of one file by row number; nothing behind the last of them is read."""
    found = file.format.documents(source, file, Part(0), Counter(), rows)
    return {row: str(text) for row, text in found}
