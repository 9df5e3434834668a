"""Steps for the tests of the pipeline: small, and they write down when their signals are asked for.

What a process of another task cannot see, a file can: `CALLS` names the folder in which each call leaves a file.
Whoever imports this has small batches, in the processes of tasks too, so that a unit has several.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar
from uuid import uuid4

import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.pipeline import documents
from data_recipes.cleaning.steps.base import Batch, Corpus, CorpusStep, Rewrite, Step, StepSettings, Threshold
from data_recipes.executors.stage import Stage

CALLS = "YULANMINI_TEST_CALLS"
documents.BATCH_DOCUMENTS = 20


def note(name: str) -> None:
    folder = os.environ.get(CALLS)
    if folder:
        (Path(folder) / f"{name}-{uuid4().hex}").touch()


class CountedSettings(StepSettings):
    unit: str = "words"
    fewest: Annotated[int, Threshold()] = 3


class Counted(Step[CountedSettings]):
    name = "planted-count"
    Settings = CountedSettings
    reads: ClassVar = ("stars",)

    def schema(self) -> pa.Schema:
        return pa.schema([("planted_count", pa.int64()), ("planted_stars", pa.float64())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        note("count")
        assert all(isinstance(text, str) and text.strip() for text in batch.texts)
        sizes = [len(text.split()) if self.settings.unit == "words" else len(text) for text in batch.texts]
        return {"planted_count": sizes, "planted_stars": batch.columns["stars"]}

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        few = f"fewer than {self.settings.fewest} {self.settings.unit}"
        return [few if size < self.settings.fewest else None for size in signals["planted_count"].to_pylist()]

    def limits(self) -> dict[str, list[float]]:
        return {"planted_count": [self.settings.fewest]}


class Costly(Step[CountedSettings]):
    name = "planted-costly"
    Settings = CountedSettings
    costly = True

    def schema(self) -> pa.Schema:
        return pa.schema([("planted_vowels", pa.int64())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        for _ in batch.texts:
            note("costly")
        return {"planted_vowels": [sum(text.count(vowel) for vowel in "aeiou") for text in batch.texts]}

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        assert signals["planted_vowels"].null_count == 0
        return ["few vowels" if n < self.settings.fewest else None for n in signals["planted_vowels"].to_pylist()]


class ShoutSettings(StepSettings):
    upper: bool = False


class Shout(Rewrite[ShoutSettings]):
    name = "planted-rewrite"
    Settings = ShoutSettings
    dropped_as = "secret"

    def rewrite(self, batch: Batch) -> list[str | None]:
        note("rewrite")
        return [
            None if "secret" in text else text.upper() if self.settings.upper else text.replace("\t", " ")
            for text in batch.texts
        ]


class TwinSettings(StepSettings):
    characters: int = Field(10_000, ge=1)
    least: Annotated[int, Threshold()] = 0


class Twins(CorpusStep[TwinSettings]):
    """Equal beginnings; the first document in the order of sources and units is kept."""

    name = "planted-twins"
    Settings = TwinSettings

    def schema(self) -> pa.Schema:
        return pa.schema([("planted_head", pa.binary()), ("planted_length", pa.int32())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        note("twins")
        heads = [text[: self.settings.characters].encode() for text in batch.texts]
        return {"planted_head": heads, "planted_length": [len(text) for text in batch.texts]}

    def stages(self, corpus: Corpus) -> list[Stage]:
        return [Stage("find", partial(find_twins, self.settings, corpus), alone=True)]


def find_twins(settings: TwinSettings, corpus: Corpus, rank: int, tasks: int) -> None:
    seen: dict[bytes, tuple[int, int]] = {}
    for unit in range(corpus.units()):
        heads = corpus.signals(unit)["planted_head"].to_pylist()
        rows = [int(row) for row in corpus.taking_part(unit).nonzero()[0]]
        assert [text[: settings.characters].encode() for text in corpus.texts(unit, rows)] == [heads[r] for r in rows]
        copies = [(row, seen[heads[row]]) for row in rows if seen.setdefault(heads[row], (unit, row)) != (unit, row)]
        copies = [copy for copy in copies if len(heads[copy[0]]) >= settings.least]
        corpus.write_verdicts(unit, [c[0] for c in copies], ["the same text"] * len(copies), [c[1] for c in copies])
