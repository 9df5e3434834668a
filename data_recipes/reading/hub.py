"""Hub datasets through `datasets`: streamed where the Hub can be reached, else from the local cache.

Their files are read in an order by the seed, several side by side: the order on the Hub is often one by time, of which
a build of a part would see only the beginning. What was read is named by the commit of the repository, or, for a
dataset folder on this machine, by its files.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from data_recipes.manifest import fingerprint_of, sha256_file
from data_recipes.ordering import permutation, seed_of
from data_recipes.reading import hub_answers
from data_recipes.reading.documents import Documents, batches, texts_of_rows
from data_recipes.reading.files import SourceMissing, matches
from data_recipes.reading.formats import FORMATS, named_format
from data_recipes.reading.hub_answers import patiently
from data_recipes.reading.hub_shards import Lane, Place, Shards, StreamedShards, TableShards
from data_recipes.reading.supply import Supply, text_identity
from data_recipes.recipes.source import Source, column_value
from data_recipes.recipes.templates import MissingColumn, NoDecoder

UNIT_ROWS = 20_000
# Files read side by side, as far as there are workers. Part of what is read: another number gives other units.
STREAMS = 8
# As many rows are looked at for the columns that a source's entry names.
FIRST_ROWS = 64


class HubSupply(Supply):
    """One split of a dataset, its shards in an order by the seed, dealt to `STREAMS` lanes that are read side by side.

    Unit `n` is the piece number `n // lanes` of lane `n % lanes`, `UNIT_ROWS` rows but for the last. Where each unit
    ends is kept in its record, so that another run continues there.
    """

    sequential = True

    def __init__(self, source: Source, shards: Shards, *, revision: str | None, contents: Any, seed: int) -> None:
        self.source = source
        self.notes: list[str] = []
        self.shards = shards
        self.revision = revision
        start = f"{source.hub}{f'@{revision}' if revision else ''}"
        self.file_names = [f"{start}/{name}" for name in shards.names]
        self.file_ids = self.file_names
        place = [source.hub, source.config, _split(source), list(source.data_files), contents, list(shards.names)]
        self.fingerprint = fingerprint_of([place, text_identity(source)])
        order = permutation(len(shards.names), seed_of("shards", seed, self.fingerprint)).tolist()
        self.streams = min(STREAMS, len(order))
        self._pool = ThreadPoolExecutor(self.streams)
        self._lanes = [order[lane :: self.streams] for lane in range(self.streams)]
        self._locks = [Lock() for _ in self._lanes]
        self._open: dict[int, Lane] = {}
        # By lane, the places where its pieces begin.
        self._places = [{0: Place()} for _ in self._lanes]
        # The first piece of each lane that has nothing any more.
        self._ended: dict[int, int] = {}

    @classmethod
    def find(cls, source: Source, *, seed: int = 0) -> "HubSupply":
        """Resolve the id to a revision and open the split; reads its first rows, to see that the columns are there."""
        shards, revision, contents, first = patiently(source.label, lambda: _opened(source))
        check_columns(source, first)
        return cls(source, shards, revision=revision, contents=contents, seed=seed)

    @property
    def unit_count(self) -> int | None:
        """Known when every lane was read to its end, or how long the shards are."""
        if isinstance(self.shards, TableShards):
            rows = [sum(self.shards.lengths[shard] for shard in lane) for lane in self._lanes]
            return self.streams * max(count // UNIT_ROWS + 1 for count in rows)
        return self.streams * max(self._ended.values()) if len(self._ended) == self.streams else None

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        piece, lane = divmod(number, self.streams)
        with self._locks[lane]:
            stream = self._at(lane, piece)
            texts = texts_of_rows(self.source, stream.take(UNIT_ROWS), drops)
            yield from batches((shard, row, text) for (shard, row), text in texts)
            self._begins(lane, piece + 1, stream.place)
            self._open[lane] = stream

    def _at(self, lane: int, piece: int) -> Lane:
        """The lane where a piece begins: as it stands, opened there, or read up to there."""
        known = max(one for one in self._places[lane] if one <= piece)
        stream = self._open.pop(lane, None)  # put back when a piece is done; in the middle of one it is useless
        if stream is None or stream.place != self._places[lane][known]:
            stream = Lane(
                self.shards,
                self._lanes[lane],
                label=self.source.label,
                pool=self._pool,
                place=self._places[lane][known],
            )
        for skipped in range(known, piece):
            for _ in stream.take(UNIT_ROWS):
                pass
            self._begins(lane, skipped + 1, stream.place)
        return stream

    def _begins(self, lane: int, piece: int, place: Place) -> None:
        self._places[lane][piece] = place
        if place.ended:
            self._ended[lane] = min(piece, self._ended.get(lane, piece))

    def place_after(self, number: int) -> dict[str, Any]:
        piece, lane = divmod(number, self.streams)
        return self._places[lane][piece + 1].as_json()

    def continue_after(self, number: int, place: Mapping[str, Any]) -> None:
        piece, lane = divmod(number, self.streams)
        self._begins(lane, piece + 1, Place(**place))

    def documents(self, file_name: str, rows: Collection[int]) -> dict[int, str]:
        """The texts of these rows of a file, without those that do not exist."""
        shard, first = self.file_names.index(file_name), min(rows)
        stretch = islice(self.shards.rows(shard, first, None)[0], max(rows) - first + 1)
        found = ((row, example) for row, example in enumerate(stretch, first) if row in rows)
        return dict(texts_of_rows(self.source, found, Counter()))

    def unit_identity(self) -> object:
        return [UNIT_ROWS, self.streams]


def check_columns(source: Source, rows: Sequence[Mapping[str, Any]]) -> None:
    """`SourceMissing` when none of the first rows has a column that a filter or the text needs.

    Such a source would be read to its end, terabytes perhaps, without a single document.
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
    absent = set()
    render = source.renderer()
    for row in rows:
        try:
            render(row)
        except MissingColumn as error:
            absent.add(error.column)
        except NoDecoder:
            raise
        except (ValueError, TypeError, KeyError) as error:
            if source.decode_with is not None:  # no token ids
                raise SourceMissing(f"{source.label}: {error}") from error
            return  # the columns are there; what is wrong with a row is counted when it is read
        else:
            return
    raise SourceMissing(
        f"{source.label}: the text needs the column {' or '.join(sorted(map(repr, absent)))}, the rows have "
        f"{', '.join(columns)}."
    )


def has_column(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a column, nested ones included."""
    try:
        column_value(row, name)
    except KeyError:
        return False
    return True


def _opened(source: Source) -> tuple[Shards, str | None, Any, list[Mapping[str, Any]]]:
    """The shards of the split; its commit, if any; what identifies its contents; and its first rows."""
    from datasets import config

    place = Path(str(source.hub))
    if place.is_dir():
        shards, first = _streamed(source, str(place), revision=None, start=str(place.resolve()))
        return shards, None, _local_contents(place), first
    commit = None if config.HF_HUB_OFFLINE else _current_commit(source)
    if source.access == "script-based":
        return _open_files(source, commit)
    if commit is None:
        return _cached(source)
    shards, first = _streamed(source, str(source.hub), revision=commit, start=f"hf://datasets/{source.hub}@{commit}")
    return shards, commit, commit, first


def _streamed(source: Source, path: str, *, revision: str | None, start: str, **files: Any) -> tuple[Shards, list[Any]]:
    """The split of a dataset, streamed, with its files as they are called below `start`, and its first rows."""
    builder, urls = _split_files(source, path, revision, **files)
    dataset = builder.as_streaming_dataset(split=_split(source))
    names = [url.removeprefix(start).lstrip("/") for url in urls]
    if len(names) != dataset.num_shards:  # such as archives of several files
        names = [f"{source.config or 'default'}/{_split(source)}/{number:05d}" for number in range(dataset.num_shards)]
    return StreamedShards(dataset, names), list(dataset.take(FIRST_ROWS))


def _split_files(source: Source, path: str, revision: str | None, **files: Any) -> tuple[Any, list[str]]:
    """datasets' builder of the split, and the addresses of its files; reads no data."""
    from datasets import load_dataset_builder

    files = files or {"name": source.config, "data_files": _files(source)}
    builder = load_dataset_builder(path, revision=revision, **files)
    if builder.config.data_files is None:
        # After any failure datasets falls back to its cache of the id, whichever commit that is of.
        raise ConnectionError(f"the files of commit {revision} could not be listed")
    split = _split(source)
    return builder, [str(url) for name, urls in builder.config.data_files.items() if str(name) == split for url in urls]


def selected_files(source: Source, commit: str) -> list[str]:
    """The files of a Hub dataset at a commit that the entry's config and split select, by datasets' own rules."""
    urls = _split_files(source, str(source.hub), commit)[1]
    # Behind "::" is the archive that a file is in; the id is another where the dataset has moved.
    return sorted({re.sub(r"^hf://datasets/[^@]+@[^/]+/", "", url.rpartition("::")[2]) for url in urls})


def _cached(source: Source) -> tuple[Shards, str | None, Any, list[Any]]:
    """The split as the cache has it: the files of the repository, read as online, or else datasets' table of them."""
    from datasets import load_dataset

    split = _split(source)
    found = _cached_files(source, source.revision)
    if found is not None:
        return found
    table = load_dataset(
        str(source.hub), source.config, split=split, data_files=_files(source), revision=source.revision
    )
    commit = _commit_of_cache(table)
    found = _cached_files(source, commit) if commit is not None else None
    if found is not None:
        return found
    revision = commit or source.revision
    shards = TableShards(table, [f"{source.config or 'default'}/{split}"], [table.num_rows])
    first = list(table.select(range(min(FIRST_ROWS, table.num_rows))))
    return shards, revision, revision or str(table.info.version), first


def _cached_files(source: Source, revision: str | None) -> tuple[Shards, str, str, list[Any]] | None:
    """The files of the repository in the Hub's cache; None where they are not there."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(str(source.hub), repo_type="dataset", revision=revision, local_files_only=True)
        shards, first = _streamed(source, folder, revision=None, start=folder)
    except FileNotFoundError:
        return None
    commit = Path(folder).name
    return shards, commit, commit, first


def _split(source: Source) -> str:
    return source.split or "train"


def _files(source: Source) -> dict[str, list[str]] | None:
    return {_split(source): list(source.data_files)} if source.data_files else None


def _open_files(source: Source, commit: str | None) -> tuple[Shards, str, Any, list[Any]]:
    """The files behind a loading script, which no longer runs: streamed from the Hub at `commit`; with None read
    from what was downloaded of the repository, which may be a part of them."""
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
    files = {_split(source): [f"{start}/{name}" for name in names]}
    reader = _format_of(names, source.label)
    shards, first = _streamed(source, reader, revision=None, start=start, data_files=files)
    return shards, commit, [commit, names], first


def _format_of(names: Sequence[str], label: str) -> str:
    """Which of datasets' readers fits the files; `SourceMissing` when their names do not determine one."""
    loaders = {named_format(Path(name)).loader for name in names}
    if len(loaders) > 1 or "" in loaders:
        raise SourceMissing(
            f"{label}: data_files match {', '.join(names[:3])}: the names do not have one format; expected all of them "
            f"to end in one of {', '.join(FORMATS)}, compressed or not."
        )
    return loaders.pop()


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

    commit = HfApi().dataset_info(str(source.hub), revision=source.revision, timeout=hub_answers.TIMEOUT).sha
    if commit is None:
        raise SourceMissing(f"{source.label}: the Hub names no commit of it.")
    return commit


def _local_contents(folder: Path) -> list[list[str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files]
