"""A run of `synthesize`: a kind, its seeds, the model that is asked, and the folder; where everything lies in there.

Picklable, and the same on every machine that sees the folder. Seeds are cut into shards of a fixed number, by their
order in the inputs alone: a shard is what a task works on, and has one file at each place of the run.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data_recipes.cleaning.config import CleaningConfig
from data_recipes.cleaning.pipeline.inputs import InputSource, Units
from data_recipes.cleaning.pipeline.run import Run as CleaningRun
from data_recipes.cleaning.pipeline.run import UnitPlace
from data_recipes.cleaning.pipeline.unit_files import read_record, unit_name
from data_recipes.manifest import MANIFEST_NAME, fingerprint_of, sha256_file
from data_recipes.synthesis.kinds.base import Checks, Kind
from data_recipes.synthesis.prompts import prompt_version
from data_recipes.synthesis.seeds import Shard, read_shards

KIND = "synthetic-samples"
PACKAGE = Path(__file__).parent
CODE_OF_KINDS = (PACKAGE / "kinds", PACKAGE / "prompts", PACKAGE.parent / "answers")
SAMPLES_FOLDER = "samples"


@dataclass(frozen=True)
class Server:
    """Where the model is and how hard it is asked; nothing of it shapes a sample. Limits are those of all tasks."""

    url: str
    concurrency: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float = 600.0
    tries: int = 6

    def share(self, tasks: int) -> dict[str, Any]:
        """What one of several tasks may do, so that together they stay within the limits."""
        return {
            "concurrency": max(1, self.concurrency // tasks),
            "requests_per_minute": _part(self.requests_per_minute, tasks),
            "tokens_per_minute": _part(self.tokens_per_minute, tasks),
            "timeout": self.timeout,
            "tries": self.tries,
        }


def _part(limit: int | None, tasks: int) -> int | None:
    return None if limit is None else max(1, limit // tasks)


@dataclass(frozen=True, eq=False)
class Run:
    """`out` is absolute. `settings` are the sampling's, the kind's own with those that the user has changed.

    `prices`: of a million tokens of prompts and of answers. `again`: ask those again for which the server had no
    answer.
    """

    kind: Kind
    inputs: tuple[InputSource, ...]
    out: Path
    model: str
    server: Server
    checks: Checks
    cleaning: CleaningConfig
    settings: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    votes: int = 1
    prices: tuple[float, float] | None = None
    again: bool = False

    @property
    def work(self) -> Path:
        return self.out / "work"

    @property
    def units(self) -> Units:
        return Units(self.work)

    @property
    def shards(self) -> list[Shard]:
        """The seeds in pieces, once they are counted."""
        return read_shards(self.work)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do: the first stage removes a manifest that is not this run's."""
        return (self.out / MANIFEST_NAME).is_file()

    def share(self, rank: int, tasks: int) -> Iterator[Shard]:
        """The shards of one of several tasks."""
        return iter(self.shards[rank::tasks])

    def answers(self, shard: Shard) -> Path:
        return self.work / "answers" / f"{unit_name(shard.number)}.jsonl"

    def made(self, shard: Shard) -> UnitPlace:
        """Every seed's sample before the cleaning."""
        return self._place("made", shard)

    def texts(self, shard: Shard) -> Path:
        """The accepted ones' texts, which the cleaning reads."""
        return self.work / "texts" / f"{unit_name(shard.number)}.parquet"

    def samples(self, shard: Shard) -> UnitPlace:
        """What is given out, and its record."""
        place = self._place("samples", shard)
        return UnitPlace(self.out / SAMPLES_FOLDER / place.file.name, place.record)

    def made_record(self, shard: Shard) -> dict[str, Any] | None:
        return read_record(self.made(shard).record, made_from=self.made_from(shard))

    def samples_record(self, shard: Shard) -> dict[str, Any] | None:
        return read_record(self.samples(shard).record, made_from=self.samples_made_from(shard))

    def made_from(self, shard: Shard) -> str:
        """What the samples of a shard depend on before the cleaning, the server's answers apart."""
        return fingerprint_of([shard.seeds, self.asked])

    def samples_made_from(self, shard: Shard) -> str:
        """The same after it: a text may be dropped as a copy of one in any other shard."""
        return fingerprint_of([self.made_from(shard), self.cleaning.result, self._texts_fingerprint])

    @cached_property
    def asked(self) -> str:
        """Fingerprint of what all samples depend on, the seeds apart: also of the kinds' code and prompts."""
        lean = self.checks.lean is not None
        own = [self.model, dict(self.settings), dict(self.columns), self.votes, lean]
        return fingerprint_of([self.kind.name, code_of(type(self.kind)), dict(self.kind.chosen), own])

    @cached_property
    def result(self) -> str:
        """Fingerprint of what a finished folder depends on, the seeds apart."""
        return fingerprint_of([self.asked, self.cleaning.result, self.limit, self.prices])

    @cached_property
    def cleaned(self) -> CleaningRun:
        """The cleaning of the accepted samples: a run of its own, of the folder `work/texts`."""
        return CleaningRun(self.cleaning, (InputSource("samples", str(self.work / "texts")),), self.work / "cleaning")

    @property
    def _texts_fingerprint(self) -> str:
        """Names the texts that the cleaning has read; empty where there were none to read."""
        try:
            return self.cleaned.units.fingerprint
        except ValueError:
            return ""

    @property
    def config(self) -> dict[str, Any]:
        """For manifest and summary. Where the server was is nobody's business."""
        return {
            "kind": self.kind.name,
            "model": self.model,
            "settings": dict(self.settings),
            "options": dict(self.kind.chosen),
            "columns": dict(self.columns),
            "limit": self.limit,
            "votes": self.votes,
            "template": self.kind.template,
            "prompts": prompt_version(self.kind.name),
            "cleaning": self.cleaning.resolved,
        }

    def _place(self, folder: str, shard: Shard) -> UnitPlace:
        place = self.work / folder / unit_name(shard.number)
        return UnitPlace(place.with_suffix(".parquet"), place.with_suffix(".json"))


def code_of(kind: type[Kind]) -> dict[str, str]:
    """Hashes of all that kinds consist of, and of a user's own module: a change makes samples again, from the answers
    kept as far as questions are the same."""
    files = [path for folder in CODE_OF_KINDS for path in sorted(folder.rglob("*")) if path.is_file()]
    hashes = {
        path.relative_to(PACKAGE.parent).as_posix(): sha256_file(path)
        for path in files
        if path.parent.name != "__pycache__"
    }
    own = Path(inspect.getfile(kind))
    return hashes if PACKAGE in own.parents else {**hashes, own.name: sha256_file(own)}
