"""The documents of a unit, read and rewritten, in batches of a few MiB: with the reason where a row gives none."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from data_recipes.cleaning.config import CleaningConfig
from data_recipes.cleaning.steps.base import Batch, Rewrite
from data_recipes.reading.documents import BATCH_CHARACTERS, BATCH_DOCUMENTS, Row, is_usable
from data_recipes.reading.source_file import DamagedFile, Part, SourceFile
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import column_value

READING = "reading"
"""The step that documents are dropped by which are none: empty, too long, not UTF-8."""
COLUMN = "column: "
"""What the names of kept input columns begin with in the texts' files."""

Documents = tuple[int, str | None, str | None, Mapping[str, Any]]


@dataclass
class Rows:
    """Documents of a unit in the making: columns of the texts' file."""

    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    steps: list[str | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    columns: dict[str, list[bytes | None]] = field(default_factory=dict)


def texts_schema(reads: Sequence[str]) -> pa.Schema:
    """The columns of `work/texts`; `step` and `reason` of documents that reading or rewriting has dropped. Input
    columns are kept as JSON, whatever their type."""
    own = [("file", pa.string()), ("row", pa.int64()), ("text", pa.string()), ("characters", pa.int64())]
    dropped = [("step", pa.string()), ("reason", pa.string())]
    return pa.schema([*own, *dropped, *((COLUMN + name, pa.binary()) for name in reads)])


def read_batches(parts: list[tuple[SourceFile, Part]], source: str, config: CleaningConfig) -> Iterator[pa.Table]:
    """The documents of a unit as tables of `texts_schema`, each of a few MiB, rewritten."""
    schema = texts_schema(config.reads)
    rewrites = [step for step in config.steps if isinstance(step, Rewrite)]
    held = _empty(config)
    size = 0
    for file, part in parts:
        for row, text, reason, columns in numbered_documents(file, part, config):
            held.files.append(file.name)
            held.rows.append(row)
            held.texts.append(text)
            held.characters.append(len(text or ""))
            held.steps.append(None if reason is None else READING)
            held.reasons.append(reason)
            for name in config.reads:
                held.columns[name].append(_as_json(columns, name))
            size += len(text or "")
            if size >= BATCH_CHARACTERS or len(held.texts) >= BATCH_DOCUMENTS:
                yield _table(held, source, rewrites, schema)
                held, size = _empty(config), 0
    if held.texts:
        yield _table(held, source, rewrites, schema)


def numbered_documents(file: SourceFile, part: Part, config: CleaningConfig) -> Iterator[Documents]:
    """Row, text, the reason why there is none, and the row's columns, for every row of a part.

    What follows damage in a file cannot be read; it counts as one row.
    """
    next_row = part.first_row
    read = _rows_with_columns if file.format.has_columns else _plain_file
    try:
        for document in read(file, part, config):
            next_row = document[0] + 1
            yield document
    except DamagedFile as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno is not None:
            raise cause from None  # the disk's fault, which may be gone the next time
        yield next_row, None, "damaged file", {}


def _rows_with_columns(file: SourceFile, part: Part, config: CleaningConfig) -> Iterator[Documents]:
    name = config.settings.text
    for number, row in file.format.rows(file, part, {name, *config.reads}):
        text, reason = text_of(row, name, config.settings.max_document_bytes)
        yield number, text, reason, {} if isinstance(row, str) else row


def text_of(row: Row, column: str, most_bytes: int) -> tuple[str | None, str | None]:
    """The text of a row, and the reason where it is no document."""
    if isinstance(row, str):
        return None, row
    try:
        text = column_value(row, column)
    except KeyError:
        return None, f"no column '{column}'"
    if not isinstance(text, str):
        return None, "null" if text is None else "not text"
    if _is_longer(text, most_bytes):
        return None, f"longer than {most_bytes:,} bytes"
    drops: Counter[str] = Counter()
    if not is_usable(text, drops):
        return None, next(iter(drops))
    return text, None


def _is_longer(text: str, most_bytes: int) -> bool:
    if len(text) > most_bytes or 4 * len(text) <= most_bytes or text.isascii():
        return len(text) > most_bytes
    return len(text.encode("utf-8", "surrogatepass")) > most_bytes


def _plain_file(file: SourceFile, part: Part, config: CleaningConfig) -> Iterator[Documents]:
    most_bytes = config.settings.max_document_bytes
    drops: Counter[str] = Counter()
    for row, text in file.format.documents(Source(path=str(file.path)), file, part, drops):
        long = len(text) > most_bytes or _is_longer(str(text), most_bytes)
        yield row, None if long else str(text), f"longer than {most_bytes:,} bytes" if long else None, {}
    for reason in drops:
        yield 0, None, reason, {}


def _as_json(row: Mapping[str, Any], name: str) -> bytes | None:
    try:
        value = column_value(row, name)
    except KeyError:
        return None
    return None if value is None else orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)


def _empty(config: CleaningConfig) -> Rows:
    return Rows(columns={name: [] for name in config.reads})


def _table(held: Rows, source: str, rewrites: Sequence[Rewrite], schema: pa.Schema) -> pa.Table:
    for step in rewrites:
        if source in step.settings.only.get("source", (source,)):
            _rewrite(held, source, step)
    columns = [held.files, held.rows, held.texts, held.characters, held.steps, held.reasons, *held.columns.values()]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _rewrite(held: Rows, source: str, step: Rewrite) -> None:
    """A step's new texts in place of the old ones. A document that it drops keeps its text, to be looked at."""
    places = [place for place, reason in enumerate(held.reasons) if reason is None]
    texts = [str(held.texts[place]) for place in places]
    columns = {name: [_value(values[place]) for place in places] for name, values in held.columns.items()}
    new_texts = step.rewrite(Batch(source, [held.files[place] for place in places], texts, columns))
    if len(new_texts) != len(texts):
        raise ValueError(f"step '{step.settings.step}': {len(new_texts)} texts for {len(texts)} documents.")
    for place, old, new in zip(places, texts, new_texts, strict=True):
        if new is old:
            continue
        if new is None or not is_usable(new, Counter()):
            held.steps[place], held.reasons[place] = step.settings.step, step.dropped_as
        else:
            held.texts[place], held.characters[place] = new, len(new)


def _value(stored: bytes | None) -> Any:
    return None if stored is None else orjson.loads(stored)


def batch_of(table: pa.Table, source: str) -> Batch:
    """The documents of a table of `texts_schema`, as a step sees them."""
    names = [name for name in table.column_names if name.startswith(COLUMN)]
    columns = {name.removeprefix(COLUMN): [_value(value) for value in table[name].to_pylist()] for name in names}
    return Batch(source, table["file"].to_pylist(), table["text"].to_pylist(), columns)
