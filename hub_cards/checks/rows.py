"""Data sets: every row read to the end, and the configs of the card that say what is in which file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.errors import first_line, nearest
from data_recipes.manifest import MANIFEST_NAME
from hub_cards.cards.dataset_metadata import size_category
from hub_cards.checks.contents import in_text, private_words
from hub_cards.checks.header import listed, metadata_of
from hub_cards.checks.subject import Finding, Subject, Unreadable, error, read_mapping
from hub_cards.checks.tokenizer import TOKENIZER, tokenizer_of
from hub_cards.repos.folder import CARD_NAME, EVIDENCE

CONFIG_NAME = re.compile(r"[A-Za-z0-9._-]+")
SPLIT_NAME = re.compile(r"\w+(\.\w+)*")
ROWS = (".parquet", ".arrow", ".jsonl")
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
# Columns that name where a row is from, by folders of the machine that made it if nobody looked.
PLACES = ("file", "source", "path", "location", "filename")
ABSOLUTE = r"^(?:/|~|\\\\|[A-Za-z]:[\\/])"
MOST_TOLD = 3
IDS = "input_ids"
TEXTS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary),
)


@dataclass(frozen=True)
class Table:
    """A file of rows. `schema` is None for JSONL; `ids` are the lowest and the highest token, where there are any."""

    rows: int
    schema: pa.Schema | None
    problems: tuple[str, ...]
    ids: tuple[int, ...] = ()


def rows_can_be_read(repo: Subject) -> Iterator[Finding]:
    """Parquet, Arrow and JSONL decoded to the last row, as many as are promised, none with a secret."""
    names = data_files(repo)
    total = sum((repo.folder / name).stat().st_size for name in names)
    with repo.bar(total, "read rows") as bar:
        for name in names:
            for problem in table_of(repo, name).problems:
                yield error(name, problem)
            bar.update((repo.folder / name).stat().st_size)
    yield from _counts_of_manifests(repo, names)
    yield from _ids_have_words(repo, names)


def data_files(repo: Subject) -> list[str]:
    """The files of rows of a data set; nothing of other repos."""
    if repo.type != "dataset":
        return []
    return [name for name in repo.main.matching(*ROWS) if not name.startswith(f"{EVIDENCE}/")]


def table_of(repo: Subject, name: str) -> Table:
    return repo.once("table", name, partial(_read, repo, name))


def _read(repo: Subject, name: str) -> Table:
    path = repo.folder / name
    if name.endswith(".jsonl"):
        with path.open("rb") as file:
            return Table(sum(bool(line.strip()) for line in file), None, ())
    look = _Look(name, private_words(repo))
    read = _read_parquet if name.endswith(".parquet") else _read_arrow
    try:
        rows, schema = read(path, look)
    except (pa.ArrowException, OSError, ValueError, _Broken) as failure:
        return Table(look.rows, None, (*look.told, f"cannot be read past row {look.rows:,} ({first_line(failure)})"))
    return Table(rows, schema, tuple(look.told), (min(look.ids), max(look.ids)) if look.ids else ())


class _Broken(Exception):
    """A file of rows that ends where it should not, or goes on."""


def _read_parquet(path: Path, look: "_Look") -> tuple[int, pa.Schema]:
    with pq.ParquetFile(path) as file:
        look.schema(file.schema_arrow)
        for batch in file.iter_batches(batch_size=4096):
            look.batch(batch)
        if look.rows != file.metadata.num_rows:
            raise _Broken(f"its metadata promises {file.metadata.num_rows:,} rows")
        return look.rows, file.schema_arrow


def _read_arrow(path: Path, look: "_Look") -> tuple[int, pa.Schema]:
    size = path.stat().st_size
    with path.open("rb") as raw:
        is_file = raw.read(6) == b"ARROW1"
        raw.seek(max(0, size - len(END_OF_STREAM)))
        ends = raw.read() == END_OF_STREAM
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        look.schema(reader.schema)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            look.batch(batch)
        if not is_file and not ends:  # a stream that is cut between two batches reads like a whole one
            raise _Broken("no end marker: cut short, or something was added behind it")
        if not is_file and source.tell() != size:
            raise _Broken(f"{size - source.tell():,} bytes behind its end")
        return look.rows, reader.schema


class _Look:
    """Looks at batches as they come and keeps count; `told` are its findings, each once."""

    def __init__(self, name: str, words: dict[str, re.Pattern[bytes]]) -> None:
        self.name, self.words = name, words
        self.rows = 0
        self.ids: list[int] = []  # the lowest and the highest of each batch
        self.told: list[str] = []

    def schema(self, schema: pa.Schema) -> None:
        """Types that are loaded by running code, and what stands in the metadata."""
        texts = [schema.metadata or {}, *(field.metadata or {} for field in schema)]
        for metadata in texts:
            if any(b"py_extension_type" in value for value in metadata.values()):
                self._tell("a column of a type that is a pickle (arrow.py_extension_type); write it anew without it")
            for value in metadata.values():
                self._text(value, is_data=False)

    def batch(self, batch: pa.RecordBatch) -> None:
        batch.validate(full=True)
        for field, column in zip(batch.schema, batch.columns, strict=True):
            self._column(field.name, column)
        self.rows += batch.num_rows

    def _column(self, name: str, column: pa.Array) -> None:
        kind = column.type
        if pa.types.is_dictionary(kind):
            self._column(name, column.dictionary)
        elif isinstance(column, pa.ExtensionArray):
            self._column(name, column.storage)
        elif pa.types.is_map(kind):
            self._column(name, column.keys)
            self._column(name, column.items)
        elif pa.types.is_struct(kind):
            for field, inside in zip(kind, column.flatten(), strict=True):
                self._column(field.name, inside)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            if not pa.types.is_primitive(kind.value_type):
                self._column(name, column.flatten())
            elif name == IDS and len(column):
                ends = pa.compute.min_max(column.flatten())
                self.ids = [end.as_py() for end in (ends["min"], ends["max"]) if end.is_valid] + self.ids
        elif any(is_kind(kind) for is_kind in TEXTS):
            self._strings(name, column)

    def _strings(self, name: str, column: pa.Array) -> None:
        if name in PLACES:
            values = pa.compute.drop_null(column).unique().cast(pa.string())
            for value in values.filter(pa.compute.match_substring_regex(values, ABSOLUTE)).to_pylist():
                self._tell(f"the column {name} names a folder of a machine: {value}; make the path relative")
        text = _text_of(column)
        if text is not None:
            self._text(text, is_data=True)

    def _text(self, text: bytes, *, is_data: bool) -> None:
        for finding in in_text(text, self.name, self.words, is_data=is_data, first=False):
            if finding.severity == "error":
                self._tell(finding.message)

    def _tell(self, message: str) -> None:
        if message not in self.told and len(self.told) < MOST_TOLD:
            self.told.append(message)


def _text_of(column: pa.Array) -> bytes | None:
    """All values of a column of strings, one behind the other with a line between."""
    if not len(column):
        return None
    values = pa.compute.drop_null(column).cast(pa.binary())
    whole = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    return pa.compute.binary_join(whole, b"\n")[0].as_py()


def _counts_of_manifests(repo: Subject, names: list[str]) -> Iterator[Finding]:
    """The manifest of a built phase lies beside its rows, and counts and hashes them."""
    for folder in sorted({str(PurePosixPath(name).parent) for name in names} - {"."}):
        place = f"{folder}/{MANIFEST_NAME}"
        if place not in repo.main.files:
            continue
        try:
            manifest = read_mapping(repo.folder / place)
            promised = manifest["counts"].get("rows")
            recorded = {f"{folder}/{name}": record["sha256"] for name, record in manifest["files"].items()}
        except (Unreadable, KeyError, TypeError, AttributeError):
            yield error(place, "no manifest of rows; lay the repo out again")
            continue
        inside = [name for name in names if str(PurePosixPath(name).parent) == folder]
        found = sum(table_of(repo, name).rows for name in inside)
        if promised is not None and promised != found:
            yield error(place, f"promises {promised:,} rows, the files beside it hold {found:,}")
        for name in inside:
            if recorded.get(name, repo.main.sha256(name)) != repo.main.sha256(name):
                yield error(name, f"not the bytes that {place} records")


def _ids_have_words(repo: Subject, names: list[str]) -> Iterator[Finding]:
    """Every token is one of the tokenizer that goes with the rows, or that their manifest names."""
    shipped = repo.main.below("tokenizer")
    for name in names:
        ids = table_of(repo, name).ids
        beside = f"{PurePosixPath(name).parent}/{MANIFEST_NAME}"
        size = None
        try:
            if TOKENIZER in shipped.files:
                size = len(tokenizer_of(repo, shipped))
            elif beside in repo.main.files:
                size = read_mapping(repo.folder / beside).get("tokenizer", {}).get("vocab_size")
        except Exception:  # a tokenizer that does not load is told by its own check
            continue
        if ids and isinstance(size, int) and not (ids[0] >= 0 and ids[1] < size):
            yield error(name, f"holds the tokens {ids[0]} to {ids[1]}, the tokenizer has {size}")


def configs_fit(repo: Subject) -> Iterator[Finding]:
    """The card's configs name all files of rows, each once; what it says of their counts and columns is so."""
    if repo.type != "dataset" or CARD_NAME not in repo.main.files:
        return
    try:
        metadata = metadata_of(repo.folder / CARD_NAME)
    except Unreadable:
        return  # told by the check of the header
    configs = [config for config in listed(metadata.get("configs")) if isinstance(config, dict)]
    problems, files_of = config_problems(repo, metadata.get("configs"))
    taken: dict[str, str] = {}
    for name, splits in files_of.items():
        for file in sorted(set().union(*splits.values())):
            if taken.setdefault(file, name) != name:
                problems.append(f"{file} is in the configs '{taken[file]}' and '{name}': its rows would be there twice")
    problems += [
        f"no config has {file}: load_dataset would leave it out"
        for file in data_files(repo)
        if configs and file not in taken
    ]
    problems += info_problems(repo, listed(metadata.get("dataset_info")), files_of)
    category = listed(metadata.get("size_categories"))
    rows = sum(table_of(repo, name).rows for name in taken)
    if category and not problems and category != [size_category(rows)]:
        problems.append(f"size_categories: {', '.join(map(str, category))}, but the files hold {rows:,} rows")
    for problem in problems:
        yield error(CARD_NAME, problem)


def config_problems(repo: Subject, configs: Any) -> tuple[list[str], dict[str, dict[str, set[str]]]]:
    """Problems of names and globs, and the files of each split of each config."""
    problems: list[str] = []
    files_of: dict[str, dict[str, set[str]]] = {}
    for index, config in enumerate(listed(configs)):
        name = config.get("config_name") if isinstance(config, dict) else None
        if not isinstance(name, str) or not CONFIG_NAME.fullmatch(name):
            problems.append(f"configs[{index}]: config_name {name!r}; expected letters, digits, '-', '_', '.'")
            continue
        if name in files_of:
            problems.append(f"configs[{index}]: '{name}' is there twice")
        where = f"configs[{index}] '{name}'"
        splits = files_of.setdefault(name, {})
        entries = listed(config.get("data_files"))
        if not entries:
            problems.append(f"{where}: no data_files")
        for entry in entries:
            split = entry.get("split", "train") if isinstance(entry, dict) else "train"
            if not SPLIT_NAME.fullmatch(str(split)):
                problems.append(f"{where}: split {split!r}; expected a word")
            for pattern in listed(entry.get("path") if isinstance(entry, dict) else entry):
                found, problem = matched(repo, str(pattern))
                problems += [f"{where}: {problem}"] if problem else []
                for other, theirs in splits.items():
                    if other != split and found & theirs:
                        problems.append(f"{where}: {min(found & theirs)} is in the splits {other} and {split}")
                splits.setdefault(str(split), set()).update(found)
    if sum(bool(config.get("default")) for config in listed(configs) if isinstance(config, dict)) > 1:
        problems.append("configs: more than one default")
    return problems, files_of


def matched(repo: Subject, pattern: str) -> tuple[set[str], str | None]:
    """The files that a config's glob stands for, or what is wrong with it."""
    if pattern.startswith("/") or ".." in pattern.split("/") or "://" in pattern:
        return set(), f"{pattern} leads out of the repo"
    try:
        found = {path.relative_to(repo.folder).as_posix() for path in repo.folder.glob(pattern) if path.is_file()}
    except (ValueError, NotImplementedError) as failure:
        return set(), f"{pattern}: {failure}"
    found &= repo.main.files
    return found, None if found else f"no file matches {pattern}.{nearest(pattern, sorted(repo.main.files))}"


def info_problems(repo: Subject, infos: list[Any], files_of: Mapping[str, Mapping[str, set[str]]]) -> list[str]:
    """What `dataset_info` says that is not so of the files."""
    problems = []
    for info in infos:
        name = str(info.get("config_name", "default")) if isinstance(info, dict) else ""
        if name not in files_of:
            problems.append(f"dataset_info of '{name}', which is no config")
            continue
        where = f"dataset_info '{name}'"
        said = {split.get("name"): split for split in listed(info.get("splits")) if isinstance(split, dict)}
        for split in sorted(set(said) ^ set(files_of[name]), key=str):
            problems.append(f"{where}: the split {split} is in one of dataset_info and configs only")
        for split, files in files_of[name].items():
            rows = sum(table_of(repo, file).rows for file in files)
            if split in said and said[split].get("num_examples") != rows:
                problems.append(f"{where}: {split} has num_examples {said[split].get('num_examples')}, not {rows}")
        every = set().union(*files_of[name].values())
        sizes = {
            "download_size": sum((repo.folder / file).stat().st_size for file in every),
            "dataset_size": sum(split.get("num_bytes", 0) for split in said.values()),
        }
        problems += [
            f"{where}: {key} {info[key]}, not {size}"
            for key, size in sizes.items()
            if key in info and info[key] != size
        ]
        if info.get("features") is not None:
            problems += _feature_problems(repo, where, info["features"], every)
    return problems


def _feature_problems(repo: Subject, where: str, features: Any, files: set[str]) -> list[str]:
    from datasets import Features

    try:
        expected = Features._from_yaml_list(features)
    except Exception as failure:  # whatever `datasets` stumbles over in a hand-written list
        return [f"{where}: features that datasets does not read ({first_line(failure)})"]
    problems = []
    for file in sorted(files):
        schema = table_of(repo, file).schema
        if schema is not None and Features.from_arrow_schema(schema.remove_metadata()) != expected:
            problems.append(f"{where}: features are not the columns of {file}")
    return problems[:1]
