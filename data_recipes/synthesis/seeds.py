"""Seeds: the rows of the inputs with the columns that a kind needs, counted once and cut into shards."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from data_recipes.cleaning.pipeline.inputs import InputSource, Inventory, Units, write_if_changed
from data_recipes.errors import DataError, nearest
from data_recipes.manifest import fingerprint_of
from data_recipes.reading.documents import Row
from data_recipes.reading.files import list_files
from data_recipes.reading.formats import unhashed
from data_recipes.reading.source_file import DamagedFile, Part, SourceFile
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import column_value

SHARD_SEEDS = 1000
"""What a kill costs at most: the checks of so many samples are made again, no answer is asked for again."""
SEEDS_FILE = "seeds.json"
LOOKED_AT = 3


@dataclass(frozen=True)
class Seed:
    """A row of an input. `values` are its columns, or the reason why it is none."""

    source: str
    file: str
    row: int
    values: Row


@dataclass(frozen=True)
class Shard:
    """Seeds `first` to `last` (exclusive) of a unit of the inputs."""

    number: int
    unit: int
    first: int
    last: int
    units: str
    """Fingerprint of the inputs and how they are cut."""

    @property
    def count(self) -> int:
        return self.last - self.first

    @property
    def seeds(self) -> list[Any]:
        """Names the seeds, for fingerprints."""
        return [self.units, self.unit, self.first, self.last]


def seeds_of(units: Units | Inventory, unit: int, names: Sequence[str], columns: Mapping[str, str]) -> Iterator[Seed]:
    """The seeds of a unit. `names`: the columns that are needed; `columns` says what some are called in the inputs."""
    for file, part in units.parts(unit):
        for row, values in _rows(file, part, names, columns):
            yield Seed(units.source_name(unit), file.name, row, values)


def _rows(file: SourceFile, part: Part, names: Sequence[str], columns: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    """Numbered rows with their columns under the kind's names. What follows damage in a file counts as one row."""
    next_row = part.first_row
    try:
        for row, values in _read(file, part, {columns.get(name, name) for name in names}):
            next_row = row + 1
            yield row, values if isinstance(values, str) else _renamed(values, names, columns)
    except DamagedFile as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno is not None:
            raise cause from None  # the disk's fault, which may be gone the next time
        yield next_row, "damaged file"


def _read(file: SourceFile, part: Part, wanted: set[str]) -> Iterator[tuple[int, Row]]:
    if file.format.has_columns:
        yield from file.format.rows(file, part, wanted)
        return
    drops: Counter[str] = Counter()
    for row, text in file.format.documents(Source(path=str(file.path)), file, part, drops):
        yield row, {"text": str(text)}
    for reason in drops:
        yield 0, reason


def _renamed(row: Mapping[str, Any], names: Sequence[str], columns: Mapping[str, str]) -> Row:
    found = {}
    for name in names:
        try:
            found[name] = column_value(row, columns.get(name, name))
        except KeyError:
            continue  # the kind says what it cannot do without
    return found


def check_columns(
    sources: Sequence[InputSource], needed: Sequence[str], optional: Sequence[str], columns: Mapping[str, str]
) -> None:
    """`DataError` where the first files of a source have no column that a kind needs, or `columns` names none."""
    for name in columns:
        if name not in {*needed, *optional}:
            raise DataError(
                f"--column {name}={columns[name]}: no column of the seeds is called '{name}'."
                f"{nearest(name, [*needed, *optional])}"
            )
    for one in sources:
        files = [unhashed(path) for path in list_files(one.source)[:LOOKED_AT]]
        for file in files:
            there = list(file.format.columns(file)) if file.format.has_columns else ["text"]
            for name in needed:
                column = columns.get(name, name)
                if there and column not in there and column.split(".")[0] not in there:
                    raise DataError(
                        f"--in {one.name}: no column '{column}' in {file.path.name}.{nearest(column, there)} "
                        f"Say which holds it: --column {name}=COLUMN."
                    )


def count_seeds(units: Units, work: Path, names: Sequence[str], columns: Mapping[str, str], limit: int | None) -> None:
    """Count the seeds of each unit, at most `limit` in all, and keep the numbers."""
    asked = {"units": units.fingerprint, "limit": limit}
    try:
        if _content(work)["asked"] == asked:
            return
    except (OSError, ValueError, KeyError):
        pass
    counts, left = [], limit
    for unit in range(len(units)):
        seeds = seeds_of(units, unit, names, columns)
        counts.append(sum(1 for _ in (seeds if left is None else islice(seeds, left))))
        left = None if left is None else left - counts[-1]
    content: dict[str, Any] = {"asked": asked, "counts": counts, "shard_seeds": SHARD_SEEDS}
    content["check"] = fingerprint_of(content)
    write_if_changed(work / SEEDS_FILE, json.dumps(content).encode() + b"\n")


def _content(work: Path) -> dict[str, Any]:
    content = json.loads((work / SEEDS_FILE).read_text())
    if content.pop("check", None) != fingerprint_of(content):
        raise ValueError("not what was written there")
    return content


def read_shards(work: Path) -> list[Shard]:
    """The shards of a run whose seeds were counted."""
    try:
        stat = (work / SEEDS_FILE).stat()
        return _shards(work, (stat.st_ino, stat.st_mtime_ns, stat.st_size))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{work / SEEDS_FILE}: missing or damaged ({error}). Give the same command again.") from error


@lru_cache(maxsize=4)
def _shards(work: Path, state: tuple[int, ...]) -> list[Shard]:
    content = _content(work)
    units = content["asked"]["units"]
    found: list[Shard] = []
    for unit, count in enumerate(content["counts"]):
        for first in range(0, count, content["shard_seeds"]):
            found.append(Shard(len(found), unit, first, min(first + content["shard_seeds"], count), units))
    return found
