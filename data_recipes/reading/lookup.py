"""Single documents of a source by file and row, and what columns its rows have: for a trace, and for messages.

Each file is gone through once, and only as far as needed.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.reading.files import ARROW, Part, SourceFile, json_form_of
from data_recipes.reading.formats import (
    arrow_batches,
    json_values_of,
    open_binary,
    parse_json,
    read_parts,
    texts_of_rows,
)
from data_recipes.recipes.source import Source

FIRST_LINES = 64


def documents_at(source: Source, said: dict[str, Any], file_name: str, rows: Collection[int]) -> dict[int, str]:
    """The texts of these rows by row number; without those that are no longer there.

    `said` is the source's entry in a phase's manifest: where its files were, or the Hub commit.
    """
    try:
        if said["location"] is None:
            return _hub_documents(source, said["revision"], file_name, rows)
        place = Path(said["location"])
        path = place if place.is_file() else place / file_name
        return file_documents(
            source, SourceFile(file_name, path, path.stat().st_size, "", json_form=json_form_of(path)), rows
        )
    except (DataError, OSError):
        return {}


def file_documents(source: Source, file: SourceFile, rows: Collection[int]) -> dict[int, str]:
    """The texts of these rows of one file."""
    if file.json_form:
        return dict(texts_of_rows(source, _json_rows(file, set(rows)), Counter()))
    parts = _row_groups(file, rows) if file.suffix == ".parquet" else [Part(0)]
    found: dict[int, str] = {}
    for batch in read_parts(source, [file], parts, Counter()):
        found.update(
            (row, str(text)) for row, text in zip(batch.rows.tolist(), batch.texts, strict=True) if row in rows
        )
        if len(found) == len(rows):
            break
    return found


def columns_of(files: Sequence[SourceFile]) -> list[str]:
    """The columns of the first file that has any: of its schema, or of its first JSON object."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        if file.json_form:
            rows = _json_rows(file, set(range(FIRST_LINES)))
            found = list(next(rows, (0, {}))[1])
        elif file.suffix == ".parquet":
            found = pq.read_schema(file.path).names
        elif file.suffix in ARROW:
            with pa.memory_map(str(file.path)) as stream:
                found = arrow_batches(stream)[0].names
        else:
            found = []
        if found:
            return found
    return []


def _json_rows(file: SourceFile, rows: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines are counted, not parsed, until one is wanted: ten times as fast."""
    if file.json_form != "lines":
        last = max(rows, default=-1)
        for number, value in json_values_of(file):
            if number in rows and isinstance(value, dict):
                yield number, value
            if number >= last:
                return
        return
    with open_binary(file) as stream:
        for number, line in enumerate(stream):
            if number not in rows:
                continue
            try:
                row = parse_json(line.removeprefix(b"\xef\xbb\xbf"))
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield number, row
            rows.discard(number)
            if not rows:
                return


def _row_groups(file: SourceFile, rows: Collection[int]) -> list[Part]:
    import pyarrow.parquet as pq

    parts = []
    with pq.ParquetFile(file.path) as parquet:
        first = 0
        for group in range(parquet.metadata.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            if any(first <= row < first + size for row in rows):
                parts.append(Part(0, group, group + 1, first))
            first += size
    return parts


def _hub_documents(source: Source, revision: str | None, file_name: str, rows: Collection[int]) -> dict[int, str]:
    from data_recipes.reading.hub import HubSupply

    if revision is not None:
        source = source.model_copy(update={"revision": revision})
    return HubSupply.find(source).documents(file_name, rows)
