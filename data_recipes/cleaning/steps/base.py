"""What a cleaning step is: columns computed from texts once (signals), and a verdict on them by thresholds.

A step is a subclass of `Step`, `Rewrite` or `CorpusStep` with a `name`, in a module of this folder. Its `Settings` are
its entry in a config. They say of each field whether the signals depend on it or only the verdict: changed thresholds
judge again what was computed, and no text is read for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator

from data_recipes.executors.stage import Stage
from data_recipes.manifest import fingerprint_of


class Threshold:
    """Marks a field of `Settings` that only the verdict depends on: `Annotated[float, Threshold()]`."""


class FolderOrId:
    """Marks a field of one name or several of models: a folder, counted from the config's, or else a Hub id."""


Value = str | bool | int | float


class StepSettings(BaseModel):
    """An entry of a config's `steps`. `step` is the step's name.

    `only` says which documents the step judges; the others pass it. Its keys are `source` or columns of earlier steps,
    each with the values that are meant: `only: {language: [en], source: crawl}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: str
    only: Annotated[dict[str, tuple[Value, ...]], Threshold()] = {}

    @field_validator("only", mode="before")
    @classmethod
    def _one_or_many(cls, only: Any) -> Any:
        if not isinstance(only, dict):
            return only
        return {key: value if isinstance(value, list | tuple) else (value,) for key, value in only.items()}

    def signal_settings(self) -> dict[str, Any]:
        """The fields that the signals depend on, as JSON has them."""
        return self.model_dump(mode="json", exclude=self.marked(Threshold))

    def thresholds(self) -> dict[str, Any]:
        """The other fields, as JSON has them."""
        return self.model_dump(mode="json", include=self.marked(Threshold))

    @classmethod
    def marked(cls, kind: type) -> set[str]:
        """The fields with a mark of a kind."""
        hints = get_type_hints(cls, include_extras=True)
        marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
        return {name for name, found in marks.items() if any(isinstance(mark, kind) for mark in found)}


@dataclass(frozen=True)
class Batch:
    """Consecutive documents of one source. `columns` holds what the step's `reads` asks for, a value a document, None
    where the row has none: `path`, `repo`, `language`, ..."""

    source: str
    files: Sequence[str]
    """The file of each document, relative to its source."""
    texts: Sequence[str]
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.texts)


OfStep = TypeVar("OfStep", bound=StepSettings)


class AnyStep(ABC, Generic[OfStep]):
    """What all steps share. `settings` is an instance of the class's `Settings`."""

    name: ClassVar[str]
    Settings: ClassVar[type[StepSettings]]
    version: ClassVar[int] = 1
    """Raised when the same settings give other values, so that what was computed before is not taken."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Columns of the input beside the text that the step uses where they are."""

    def __init__(self, settings: OfStep) -> None:
        self.settings = settings
        self._fingerprint: str | None = None

    def __reduce__(self) -> Any:
        """What a task on another machine gets: the settings, and what the inputs were when the run began. A model is
        loaded there, with the first batch."""
        return type(self), (self.settings,), {"_fingerprint": self.fingerprint()}

    def inputs(self) -> dict[str, str]:
        """Fingerprints of other files that the values depend on (a model, evaluation sets), by what they are."""
        return {}

    def details(self, columns: Iterable[pa.Table]) -> dict[str, Any]:
        """What the summary says of the step beside its funnel, as JSON has it. `columns` are those of all documents
        that were read, unit by unit; of a step that compares documents or asks a model, none."""
        return {}

    def needs(self) -> set[str]:
        """Columns of earlier steps that the step's verdict depends on, beside those that `only` names."""
        return set()

    def fingerprint(self) -> str:
        """Names the values: equal fingerprints on equal texts give equal values."""
        if self._fingerprint is None:  # the inputs may be gigabytes
            own = [self.settings.step, self.version, self.settings.signal_settings(), self.inputs()]
            self._fingerprint = fingerprint_of(own)
        return self._fingerprint


class Step(AnyStep[OfStep]):
    """Judges each document by itself."""

    costly: ClassVar[bool] = False
    """Whether signals are computed only of documents that the steps before have kept (a model scores them)."""

    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns that the step adds, named so that no other step has the same: `language`, `language_share`."""

    @abstractmethod
    def signals(self, batch: Batch) -> Mapping[str, Sequence[Any] | pa.Array]:
        """A value for each document and column of the schema; a pure function of texts and signal settings."""

    @abstractmethod
    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        """For each row why the document is dropped, None if it is kept; a pure function of signals and thresholds.

        A reason is a short phrase that does not hold the value, so that documents can be counted by it:
        `fewer than 50 words`.
        """

    def derived_schema(self) -> pa.Schema:
        """Columns that follow from the signals and the thresholds (a weighted sum): given out like the others."""
        return pa.schema([])

    def derived(self, signals: pa.Table) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """Their values; null where the signals are null."""
        return {}

    def keeping(self, file: Path) -> AbstractContextManager[None]:
        """Around the signals of a unit, for a costly step: `file` is the unit's own, where answers can be kept at once
        that must not be asked for again after a kill. Its folder may have to be made."""
        return nullcontext()

    def limits(self) -> dict[str, list[float]]:
        """The thresholds that the report draws into the distribution of a numeric column, by column."""
        return {}


class Rewrite(AnyStep[OfStep]):
    """Changes texts before all other steps see them, in the order of the config: notebooks to Markdown."""

    @abstractmethod
    def rewrite(self, batch: Batch) -> list[str | None]:
        """The new text of each document, the same object where nothing changes; None drops it (`dropped_as`)."""

    dropped_as: ClassVar[str] = "nothing left"


class Corpus(Protocol):
    """The documents of a run as a `CorpusStep` sees them: in units of fixed size, numbered by unit and row. Picklable;
    its folder is the same for every task, on whatever machine. When `stages` is called no document has been read yet:
    only `folder` and `sources` can be asked for there."""

    @property
    def folder(self) -> Path:
        """The step's own, for what it keeps between its stages; made."""

    @property
    def sources(self) -> Sequence[str]:
        """In order of priority: of two copies the one of the earlier source is kept."""

    def units(self) -> int: ...

    def origin(self, unit: int) -> pa.Table:
        """`source` (int32, an index into `sources`), `file`, `row` (of the file), `characters` of each document of a
        unit."""

    def taking_part(self, unit: int) -> np.ndarray:
        """bool, which documents of the unit the steps before have kept."""

    def signals(self, unit: int) -> pa.Table:
        """The step's own columns, a row a document of the unit; null where reading has dropped the document."""

    def values(self, unit: int, column: str) -> pa.ChunkedArray:
        """A column of an earlier step (one of `needs`), a value a document of the unit."""

    def texts(self, unit: int, rows: Sequence[int]) -> list[str]:
        """The texts of some documents of a unit, `rows` ascending."""

    def write_verdicts(
        self, unit: int, rows: Sequence[int], reasons: Sequence[str], copies_of: Sequence[tuple[int, int] | None]
    ) -> None:
        """The documents of a unit to drop, and (unit, row) of the document that each is a copy of, if it is one. Must
        be called for every unit, once."""


class CorpusStep(AnyStep[OfStep]):
    """Judges documents by each other (duplicates), after signals of each. What the steps before have dropped takes no
    part."""

    may_drop_most: ClassVar[bool] = False
    """Whether it is no mistake that the step drops nearly all of a source (`most_lost_of_a_source`)."""

    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns of `signals`. Binary ones (a signature) are for the step's own use and are not given out."""

    @abstractmethod
    def signals(self, batch: Batch) -> Mapping[str, Sequence[Any] | pa.Array]:
        """As `Step.signals`."""

    @abstractmethod
    def stages(self, corpus: Corpus) -> list[Stage]:
        """What finds the documents to drop: stages that run one after the other, each over any number of tasks."""


def columns_of(step: Step | CorpusStep) -> pa.Schema:
    """The columns of a step, those that follow from its signals and thresholds too."""
    return pa.schema([*step.schema(), *(step.derived_schema() if isinstance(step, Step) else ())])
