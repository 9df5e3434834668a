"""Documents that hold items of evaluation sets: found word for word (`overlap.py`), with their places.

A question in other words, or translated, is not found: no n-gram can. `yulanmini eval fetch SUITE --out DATA` writes
the items of the published benchmarks to `DATA/items/NAME.jsonl`; sets of one's own are files of the same form.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from data_recipes.cleaning.overlap import Found, Item, ItemIndex
from data_recipes.cleaning.steps.base import Batch, Step, StepSettings, Threshold
from data_recipes.cleaning.words import split_words
from data_recipes.errors import DataError, near_path, nearest
from data_recipes.files import sha256_once
from data_recipes.reading.formats import FORMATS, unhashed
from data_recipes.reading.source_file import Part

ITEMS = "items"
LEAST_SHARE = 0.1
"""What covers less of an item is not recorded."""
MOST_OF_A_SET = 16
"""So many parts of one set are recorded of a document, those covered most."""

Share = Annotated[float, Field(ge=LEAST_SHARE, le=1)]
Length = Annotated[int, Field(ge=3, le=100)]


class DecontaminationSettings(StepSettings):
    """`sets` are names of files below `data`/items, `files` are of one's own; a set is called by its file's name.

    An item counts as found when runs of `n` words that it shares with a document cover at least `share` of its words.
    `n_of` and `share_of` set another for some sets. What has fewer than n words must be there whole, and a question of
    fewer than `shortest` words, or a short one that several items share, together with its answer.
    """

    sets: tuple[str, ...] = ()
    data: Path = Path("benchmarks")
    files: tuple[Path, ...] = ()
    n: Length = 13
    n_of: dict[str, Length] = Field(default_factory=dict)
    shortest: int = Field(default=5, ge=3, le=100)
    share: Annotated[Share, Threshold()] = 0.5
    share_of: Annotated[dict[str, Share], Threshold()] = Field(default_factory=dict)
    action: Annotated[Literal["drop", "annotate"], Threshold()] = "drop"

    @model_validator(mode="after")
    def _names_are_known(self) -> "DecontaminationSettings":
        if not self.sets and not self.files:
            raise ValueError(
                "no evaluation set is named; give sets (as `yulanmini eval fetch` lays them out) or files."
            )
        names = list(self.paths)
        if len(names) < len(self.sets) + len(self.files):
            double = next(name for name, count in Counter(self._names()).items() if count > 1)
            raise ValueError(f"two evaluation sets are called '{double}'; rename the file of one.")
        for key in ("n_of", "share_of"):
            for name in getattr(self, key):
                if name not in names:
                    raise ValueError(f"{key}: no evaluation set '{name}' is named.{nearest(name, names)}")
        return self

    def _names(self) -> list[str]:
        return [*self.sets, *(path.stem for path in self.files)]

    @property
    def paths(self) -> dict[str, Path]:
        """The file of each set by its name."""
        fetched = [self.data / ITEMS / f"{name}.jsonl" for name in self.sets]
        return dict(zip(self._names(), [*fetched, *self.files], strict=True))

    def signal_settings(self) -> dict[str, Any]:
        """What the files hold counts, not where they lie."""
        return {key: value for key, value in super().signal_settings().items() if key not in ("data", "files")}


class Decontamination(Step[DecontaminationSettings]):
    """Columns `contamination` (the largest share of an item that the document holds) and `contamination_spans`: every
    item with its set, the part that was found, its share, and from where to where it stands, in characters."""

    name = "decontamination"
    Settings = DecontaminationSettings

    def inputs(self) -> dict[str, str]:
        """Hashes of the sets. `DataError` where one is not there or holds no items."""
        found = {}
        for name, path in self.settings.paths.items():
            if not path.is_file():
                raise DataError(_absent(name, path, self.settings))
            found[name] = sha256_once(path)
            _read_items(path, found[name])
        return found

    @cached_property
    def _index(self) -> ItemIndex:
        settings = self.settings
        lengths = tuple((name, settings.n_of.get(name, settings.n)) for name in settings.paths)
        files = tuple((path, sha256_once(path)) for path in settings.paths.values())
        return _index_of(files, lengths, settings.shortest)

    def schema(self) -> pa.Schema:
        found = [("set", pa.string()), ("item", pa.string()), ("part", pa.string())]
        found += [("share", pa.float32()), ("start", pa.int64()), ("end", pa.int64())]
        return pa.schema([("contamination", pa.float32()), ("contamination_spans", pa.list_(pa.struct(found)))])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        found = self._index.find(split_words(batch.texts), least=LEAST_SHARE)
        return {
            "contamination": [each[0].share if each else 0.0 for each in found],
            "contamination_spans": [[vars(one) for one in _most_covered(each)] for each in found],
        }

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        if self.settings.action == "annotate":
            return [None] * len(signals)
        return [self._reason(spans) for spans in signals["contamination_spans"].to_pylist()]

    def _reason(self, spans: Sequence[dict[str, Any]]) -> str | None:
        return next((f"holds an item of {span['set']}" for span in spans if self._counts(span)), None)

    def details(self, columns: Iterable[pa.Table]) -> dict[str, Any]:
        """By set: its items, those too short to be looked for, those found in any document, and such documents."""
        found: dict[str, set[str]] = {name: set() for name in self.settings.paths}
        documents: Counter[str] = Counter()
        for table in columns:
            for spans in table["contamination_spans"].drop_null().to_pylist():
                held = [span for span in spans if self._counts(span)]
                documents.update({span["set"] for span in held})
                for span in held:
                    found[span["set"]].add(span["item"])
        items = Counter(item.set for item in self._index.items)
        return {
            name: {
                "items": items[name],
                "too_short": self._index.too_short[name],
                "found": len(found[name]),
                "documents": documents[name],
            }
            for name in found
        }

    def _counts(self, span: dict[str, Any]) -> bool:
        # A share is kept as float32, so that 0.7 reads as a little less.
        return span["share"] >= self.settings.share_of.get(span["set"], self.settings.share) - 1e-6

    def limits(self) -> dict[str, list[float]]:
        return {"contamination": sorted({self.settings.share, *self.settings.share_of.values()})}


def _most_covered(found: Sequence[Found]) -> list[Found]:
    counts: Counter[str] = Counter()
    kept = []
    for one in found:
        counts[one.set] += 1
        if counts[one.set] <= MOST_OF_A_SET:
            kept.append(one)
    return kept


def _absent(name: str, path: Path, settings: DecontaminationSettings) -> str:
    if path in settings.files:
        return f"{path}: no such file of items.{near_path(path)}"
    here = [found.stem for found in path.parent.glob("*.jsonl")]
    near = nearest(name, here) if here else ""
    return (
        f"{path}: the evaluation set '{name}' is not there.{near} Where there is a network, `yulanmini eval fetch "
        f"SUITE --out {settings.data}` lays out the sets of a suite."
    )


@lru_cache(maxsize=64)
def _read_items(path: Path, sha256: str) -> tuple[Item, ...]:
    """The items of a file. `sha256` keeps the cache honest."""
    file = unhashed(path)
    if not file.format.has_columns:
        raise DataError(f"{path}: a file of items has rows; expected {', '.join(FORMATS)}.")
    items = []
    for number, row in file.format.rows(file, Part(0), None):
        found = {"": row} if isinstance(row, str) else row  # a string says what is wrong with the line
        question, answer = found.get("question"), found.get("answer") or ""
        if not isinstance(question, str) or not question.strip() or not isinstance(answer, str):
            what = row if isinstance(row, str) else f"columns {', '.join(row)}"
            raise DataError(
                f"{path}: item {number}: {what}; expected a text 'question', and 'answer' and 'id' where there are any."
            )
        items.append(Item(path.stem, str(found.get("id", number)), question, answer))
    if not items:
        raise DataError(f"{path}: holds no items.")
    return tuple(items)


@lru_cache(maxsize=4)
def _index_of(files: tuple[tuple[Path, str], ...], lengths: tuple[tuple[str, int], ...], shortest: int) -> ItemIndex:
    items = [item for path, sha256 in files for item in _read_items(path, sha256)]
    return ItemIndex(items, dict(lengths), shortest=shortest)
