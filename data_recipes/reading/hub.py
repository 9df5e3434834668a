"""Hub datasets through `datasets.load_dataset`: streamed where the Hub can be reached, else from the local cache.

A unit is a fixed number of rows in the dataset's own order, so that a small build fetches only its beginning.
What was read is named by the commit of the repository, or, for a dataset folder on this machine, by its files.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from data_recipes.errors import DataError
from data_recipes.manifest import fingerprint_of, sha256_file
from data_recipes.reading import hub_retry
from data_recipes.reading.files import SourceMissing, format_suffix, matches
from data_recipes.reading.formats import Documents, batches, texts_of_rows
from data_recipes.reading.hub_retry import patiently
from data_recipes.reading.supply import how_rows_become_text
from data_recipes.recipes.source import Source, column_value
from data_recipes.recipes.templates import MissingColumn, NoDecoder

UNIT_ROWS = 20_000
# As many rows are looked at for the columns that a source's entry names.
FIRST_ROWS = 64
READERS = {".jsonl": "json", ".json": "json", ".ndjson": "json", ".parquet": "parquet", ".arrow": "arrow"}


class HubSupply:
    """One split of a dataset. Units are read one after the other; going back starts the stream again."""

    input_bytes: int | None = None
    sequential = True

    def __init__(self, source: Source, dataset: Any, *, revision: str | None, contents: Any) -> None:
        self.source = source
        self.notes: list[str] = []
        self.dataset = dataset
        self.revision = revision
        self.split = source.split or "train"
        self.file_names = [
            f"{source.hub}{f'@{revision}' if revision else ''}/{source.config or 'default'}/{self.split}"
        ]
        self.file_ids = self.file_names
        place = [source.hub, source.config, self.split, list(source.data_files), contents]
        self.fingerprint = fingerprint_of([place, how_rows_become_text(source)])
        rows = getattr(dataset, "num_rows", None)
        self.unit_count: int | None = None if rows is None else -(-rows // UNIT_ROWS)
        self._lock = Lock()
        self._stream: Iterator[Any] = iter(())
        self._next_row = -1

    @classmethod
    def find(cls, source: Source) -> "HubSupply":
        """Resolve the id to a revision and open the split; reads its first rows, to see that the columns are there."""
        dataset, revision, contents, first = patiently(source.label, lambda: _opened(source))
        check_columns(source, first)
        return cls(source, dataset, revision=revision, contents=contents)

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        first = number * UNIT_ROWS
        with self._lock:
            rows = self._rows(first)
            yield from batches((0, row, text) for row, text in texts_of_rows(self.source, rows, drops))

    def _rows(self, first: int) -> Iterator[tuple[int, Any]]:
        if hasattr(self.dataset, "num_rows"):
            last = min(first + UNIT_ROWS, self.dataset.num_rows)
            for start in range(first, last, 1000):
                batch = self.dataset.select(range(start, min(start + 1000, last)))
                yield from enumerate(batch, start)
            return
        if self._next_row != first:
            self._stream = iter(self.dataset.skip(first) if first else self.dataset)
        self._next_row = -1
        for row in range(first, first + UNIT_ROWS):
            try:
                example = next(self._stream)
            except StopIteration:
                # Only the end of the stream tells how many units there are.
                self.unit_count = number_of_units(row)
                return
            except Exception as error:
                raise DataError(f"{self.source.label}: row {row} cannot be read: {error!s:.200}") from error
            yield row, example
        self._next_row = first + UNIT_ROWS

    def documents(self, rows: Collection[int]) -> dict[int, str]:
        """The texts of these rows of the split, without those that there are not."""
        found: Iterable[tuple[int, Any]]
        if hasattr(self.dataset, "num_rows"):
            numbers = sorted(row for row in rows if row < self.dataset.num_rows)
            found = zip(numbers, self.dataset.select(numbers), strict=True)
        else:
            first, last = min(rows), max(rows)
            stretch = enumerate(self.dataset.skip(first).take(last - first + 1), first)
            found = ((row, example) for row, example in stretch if row in rows)
        return dict(texts_of_rows(self.source, found, Counter()))

    def unit_identity(self) -> object:
        return UNIT_ROWS


def number_of_units(rows: int) -> int:
    """Units that hold `rows` rows; a dataset without rows has one, empty."""
    return max(1, -(-rows // UNIT_ROWS))


def check_columns(source: Source, rows: Sequence[Mapping[str, Any]]) -> None:
    """`SourceMissing` when none of the first rows has a column that a filter or the text needs.

    Such a source would be read to its end, terabytes perhaps, to yield nothing.
    """
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for condition in source.filters:
        if not any(has_column(row, condition.field) for row in rows):
            scores = f" Score its rows with {source.scorer} into that column first." if source.scorer else ""
            raise SourceMissing(
                f"{source.label}: a filter needs the column '{condition.field}', the rows have "
                f"{', '.join(columns)}.{scores}"
            )
    lacking = set()
    render = source.renderer()
    for row in rows:
        try:
            render(row)
        except MissingColumn as error:
            lacking.add(error.column)
        except NoDecoder:
            raise
        except (ValueError, TypeError, KeyError) as error:
            if source.decode_with is not None:  # no token ids
                raise SourceMissing(f"{source.label}: {error}") from error
            return  # the columns are there; what is wrong with a row is counted when it is read
        else:
            return
    raise SourceMissing(
        f"{source.label}: the text needs the column {' or '.join(sorted(map(repr, lacking)))}, the rows have "
        f"{', '.join(columns)}."
    )


def has_column(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a column, nested ones included."""
    try:
        column_value(row, name)
    except KeyError:
        return False
    return True


def _opened(source: Source) -> tuple[Any, str | None, Any, list[Mapping[str, Any]]]:
    """What `_open` gives, and the first rows."""
    dataset, revision, contents = _open(source)
    return dataset, revision, contents, _first_rows(dataset)


def _open(source: Source) -> tuple[Any, str | None, Any]:
    """The split, an `IterableDataset` where it is streamed; its commit, if any; and what identifies its contents."""
    from datasets import config

    place = Path(str(source.hub))
    if place.is_dir():
        return _open_dataset(source), None, _local_contents(place)
    offline = config.HF_HUB_OFFLINE
    commit = None if offline else _current_commit(source)
    if source.access == "script-based":
        return _open_files(source, commit)
    if commit is not None:
        return _stream(source, commit), commit, commit
    dataset = _open_dataset(source)
    revision = _commit_of_cache(dataset) or source.revision
    return dataset, revision, revision or str(dataset.info.version)


def _open_dataset(source: Source) -> Any:
    """The split of a folder on this machine or, offline, of the cache."""
    from datasets import load_dataset

    return load_dataset(
        str(source.hub), source.config, split=_split(source), data_files=_files(source), revision=source.revision
    )


def _stream(source: Source, commit: str) -> Any:
    """The split at a commit, streamed."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(str(source.hub), source.config, data_files=_files(source), revision=commit)
    if builder.config.data_files is None:
        # After any failure datasets takes what its cache has of the id, of whatever commit.
        raise ConnectionError(f"the files of commit {commit[:12]} could not be listed")
    return builder.as_streaming_dataset(split=_split(source))


def _split(source: Source) -> str:
    return source.split or "train"


def _files(source: Source) -> dict[str, list[str]] | None:
    return {_split(source): list(source.data_files)} if source.data_files else None


def _open_files(source: Source, commit: str | None) -> tuple[Any, str, Any]:
    """The files behind a loading script, which no longer runs: streamed from the Hub at `commit`; with None read
    from what was downloaded of the repository, which may be a part of them."""
    from datasets import load_dataset
    from huggingface_hub import HfApi, snapshot_download

    hub, patterns = str(source.hub), list(source.data_files)
    if commit is None:
        start = snapshot_download(
            hub, repo_type="dataset", revision=source.revision, allow_patterns=patterns, local_files_only=True
        )
        commit = Path(start).name
        there = [path.relative_to(start).as_posix() for path in Path(start).rglob("*") if path.is_file()]
    else:
        start = f"hf://datasets/{hub}@{commit}"
        there = HfApi().list_repo_files(hub, repo_type="dataset", revision=commit)
    names = sorted(name for name in there if any(matches(name, pattern) for pattern in patterns))
    if not names:
        raise SourceMissing(f"{source.label}: no file there matches {', '.join(patterns)}.")
    split = source.split or "train"
    files = {split: [f"{start}/{name}" for name in names]}
    return (
        load_dataset(_format_of(names, source.label), data_files=files, split=split, streaming=True),
        commit,
        [commit, names],
    )


def _format_of(names: Sequence[str], label: str) -> str:
    """Which of datasets' readers fits the files; `SourceMissing` when their names do not tell."""
    found = {READERS.get(format_suffix(Path(name))) for name in names}
    reader = found.pop() if len(found) == 1 else None
    if reader is None:
        raise SourceMissing(
            f"{label}: data_files match {', '.join(names[:3])}: the names do not tell one format; expected all of them "
            f"to end in one of {', '.join(READERS)}, compressed or not."
        )
    return reader


def _first_rows(dataset: Any) -> list[Mapping[str, Any]]:
    if hasattr(dataset, "num_rows"):
        return list(dataset.select(range(min(FIRST_ROWS, dataset.num_rows))))
    return list(dataset.take(FIRST_ROWS))


def _commit_of_cache(dataset: Any) -> str | None:
    """The commit that a dataset in the local cache is of: its folder there is named after it."""
    for file in getattr(dataset, "cache_files", ()):
        name = Path(file["filename"]).parent.name
        if re.fullmatch(r"[0-9a-f]{40}", name):
            return name
    return None


def _current_commit(source: Source) -> str:
    """The commit that the id (and `revision`, where given) stands for now."""
    from huggingface_hub import HfApi

    commit = HfApi().dataset_info(str(source.hub), revision=source.revision, timeout=hub_retry.TIMEOUT).sha
    if commit is None:
        raise SourceMissing(f"{source.label}: the Hub names no commit of it.")
    return commit


def _local_contents(folder: Path) -> list[list[str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files]
