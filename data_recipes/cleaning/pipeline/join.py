"""The stages that make one document of the kept files of a repository, for training on long contexts.

First every unit lists its kept files with what they import, in parts by repository; then each part is put together.
`kept` stays as it is; the documents are in `joined`, each with the files that it is made of.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_recipes.cleaning.code_files import paths_of
from data_recipes.cleaning.pipeline.documents import batch_of
from data_recipes.cleaning.pipeline.run import Run, UnitPlace
from data_recipes.cleaning.pipeline.signals import kept_tables
from data_recipes.cleaning.pipeline.unit_files import (
    read_columns,
    read_record,
    unit_name,
    write_record,
    writing_parquet,
)
from data_recipes.cleaning.pipeline.verdicts import CorpusOfRun, judge
from data_recipes.cleaning.repositories import JoinSettings, cut, heading, imports_of, ordered
from data_recipes.manifest import fingerprint_of

JOINED_FOLDER = "joined"
MOST_PARTS = 256
"""However many units there are, so that listing and joining open no more files than parts times units."""
CHARACTERS_AT_ONCE = 64 * 2**20
INDEX = pa.schema(
    [
        ("part", pa.int64()),
        ("repository", pa.string()),
        ("path", pa.string()),
        ("file", pa.string()),
        ("file_row", pa.int64()),
        ("row", pa.int64()),
        ("characters", pa.int64()),
        ("imports", pa.list_(pa.string())),
    ]
)
FILES = pa.list_(pa.struct([("path", pa.string()), ("file", pa.string()), ("row", pa.int64())]))
JOINED = pa.schema([("text", pa.string()), ("source", pa.string()), ("repository", pa.string()), ("files", FILES)])


@dataclass(frozen=True)
class _File:
    """A kept file: where its text is, and what decides its place."""

    source: int
    repository: str | None
    path: str
    unit: int
    row: int
    origin: tuple[str, int]
    characters: int
    imports: list[str]

    @property
    def group(self) -> tuple[int, bool, str, int, int]:
        """The repository; a file of none is one of its own."""
        alone = self.repository is None
        return (self.source, alone, self.repository or "", self.unit if alone else 0, self.row if alone else 0)


def parts_of(run: Run) -> int:
    return min(len(run.units), MOST_PARTS)


def index_of(run: Run, unit: int) -> UnitPlace:
    folder = run.work / "repositories"
    return UnitPlace(folder / f"{unit_name(unit)}.parquet", folder / f"{unit_name(unit)}.json")


def joined_of(run: Run, part: int) -> UnitPlace:
    return UnitPlace(run.out / JOINED_FOLDER / f"{unit_name(part)}.parquet", joined_record(run, part))


def joined_record(run: Run, part: int) -> Path:
    return run.work / JOINED_FOLDER / f"{unit_name(part)}.json"


def read_joined_record(run: Run, part: int) -> dict | None:
    return read_record(joined_record(run, part), made_from=run.made_from(run.config.result))


def list_files(run: Run, rank: int, tasks: int) -> None:
    """The kept files of a task's units."""
    join = run.config.settings.join
    if run.is_finished or join is None:
        return
    made_from = run.made_from(fingerprint_of([run.config.chain[-1], "files", join.by]))
    for unit in run.share(rank, tasks):
        place = index_of(run, unit)
        if read_record(place.record, made_from=made_from) is not None:
            continue
        with writing_parquet(place.file, INDEX) as (sink, file):
            for table in _listed(run, unit, join):
                sink.write(table)
        write_record(place.record, made_from=made_from, files={place.file.name: file.record}, documents=sink.rows)


def _listed(run: Run, unit: int, join: JoinSettings) -> Iterator[pa.Table]:
    kept = judge(run, unit).kept
    source = run.units.source_name(unit)
    first = 0
    for table in kept_tables(run, unit):
        rows = np.flatnonzero(kept[first : first + len(table)])
        first += len(table)
        if not len(rows):
            continue
        chosen = table.take(rows)
        batch = batch_of(chosen, source)
        numbers = chosen["row"].to_pylist()
        paths = [
            path or f"{file}/{number}" for path, file, number in zip(paths_of(batch), batch.files, numbers, strict=True)
        ]
        if join.by is None:
            names = [_first_folder(file) for file in batch.files]
        else:
            names = [None if value in (None, "") else str(value) for value in batch.columns[join.by]]
        yield pa.table(
            [
                pa.array([_part(source, name, unit, parts_of(run)) for name in names], pa.int64()),
                pa.array(names, pa.string()),
                pa.array(paths, pa.string()),
                chosen["file"],
                chosen["row"],
                pa.array(first - len(table) + rows),
                chosen["characters"],
                pa.array(
                    [imports_of(path, text) for path, text in zip(paths, batch.texts, strict=True)], INDEX[7].type
                ),
            ],
            schema=INDEX,
        )


def _first_folder(file: str) -> str | None:
    parts = PurePosixPath(file).parts
    return parts[0] if len(parts) > 1 else None


def _part(source: str, repository: str | None, unit: int, parts: int) -> int:
    if repository is None:
        return unit % parts
    name = f"{source}\n{repository}".encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(name).digest()[:8], "big") % parts


def join_files(run: Run, rank: int, tasks: int) -> None:
    """The documents of a task's share of the parts."""
    join = run.config.settings.join
    if run.is_finished or join is None:
        return
    for part in range(rank, parts_of(run), tasks):
        if read_joined_record(run, part) is not None:
            continue
        place = joined_of(run, part)
        with writing_parquet(place.file, JOINED) as (sink, file):
            for documents in _batches(_documents(run, part, join)):
                sink.write(_written(run, documents, join))
        write_record(
            place.record,
            made_from=run.made_from(run.config.result),
            files={f"../../{JOINED_FOLDER}/{place.file.name}": file.record},
            documents=sink.rows,
        )


def _documents(run: Run, part: int, join: JoinSettings) -> Iterator[list[_File]]:
    """The documents of a part as their files in order, by source and repository."""
    files = sorted((file for unit in range(len(run.units)) for file in _of_part(run, unit, part)), key=_group)
    for _, group in groupby(files, key=_group):
        members = list(group)
        order = ordered([file.path for file in members], [file.imports for file in members], join.order)
        members = [members[place] for place in order]
        for places in cut([file.characters for file in members], join.longest):
            yield [members[place] for place in places]


def _group(file: _File) -> tuple[int, bool, str, int, int]:
    return file.group


def _of_part(run: Run, unit: int, part: int) -> Iterator[_File]:
    place = index_of(run, unit)
    table = read_columns(place.file, place.record)
    source = run.units.source(unit)
    for row in table.filter(pc.equal(table["part"], part)).to_pylist():
        origin = (row["file"], row["file_row"])
        yield _File(source, row["repository"], row["path"], unit, row["row"], origin, row["characters"], row["imports"])


def _batches(documents: Iterator[list[_File]]) -> Iterator[list[list[_File]]]:
    """Documents whose texts are held at once."""
    held: list[list[_File]] = []
    size = 0
    for document in documents:
        held.append(document)
        size += sum(file.characters for file in document)
        if size >= CHARACTERS_AT_ONCE:
            yield held
            held, size = [], 0
    if held:
        yield held


def _written(run: Run, documents: list[list[_File]], join: JoinSettings) -> pa.Table:
    texts = _texts(run, [file for document in documents for file in document])
    joined = []
    for document in documents:
        pieces = [texts[file.unit, file.row] for file in document]
        if join.headings and document[0].repository is not None:
            pieces = [heading(file.path) + piece for file, piece in zip(document, pieces, strict=True)]
        joined.append(join.separator.join(pieces))
    origins = [
        [{"path": file.path, "file": file.origin[0], "row": file.origin[1]} for file in document]
        for document in documents
    ]
    sources = [run.units.sources[document[0].source] for document in documents]
    names = [document[0].repository for document in documents]
    columns = [joined, sources, names, origins]
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, JOINED, strict=True)], schema=JOINED
    )


def _texts(run: Run, files: list[_File]) -> dict[tuple[int, int], str]:
    """The texts of files, by unit and row."""
    wanted: dict[int, list[int]] = {}
    for file in files:
        wanted.setdefault(file.unit, []).append(file.row)
    found: dict[tuple[int, int], str] = {}
    for unit, rows in sorted(wanted.items()):
        texts = CorpusOfRun(run, 0).texts(unit, sorted(rows))
        found |= {(unit, row): text for row, text in zip(sorted(rows), texts, strict=True)}
    return found
