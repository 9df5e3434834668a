"""A score of quality from 0 to 5 for each document, by a model; what order a curriculum of math and code goes by."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.scorers import LoadedEncoder, find_encoder, probabilities
from data_recipes.cleaning.steps.base import Batch, FolderOrId, Step, StepSettings, Threshold
from data_recipes.cleaning.topics import KIND as LINEAR
from data_recipes.cleaning.topics import load_classifier, read_classifier
from data_recipes.errors import DataError
from data_recipes.manifest import MANIFEST_NAME, read_manifest

BEST = 5.0
DECIMALS = 4
"""Scores are rounded to so many, below which machines and kernels may differ."""
Scorer = Callable[[Sequence[str]], Sequence[float] | np.ndarray]


class EncoderSettings(StepSettings):
    """What a sequence classifier reads of a document, and in which shapes. The first `max_tokens` tokens count, as for
    fineweb-edu-classifier; `batch_tokens` is the size of a batch, padding included."""

    max_tokens: int = Field(default=512, ge=32, le=8192)
    batch_tokens: int = Field(default=8192, ge=32)
    dtype: Literal["float32", "bfloat16"] = "float32"


class QualitySettings(EncoderSettings):
    """`scorer`: a sequence classifier by Hub id (at a `revision`) or folder, or a folder of `yulanmini data
    train-topic`. Documents below `at_least` are dropped; without it all stay, with their score in `column`."""

    scorer: Annotated[str, FolderOrId()]
    revision: str | None = None
    column: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "quality"
    at_least: Annotated[float | None, Field(ge=0, le=BEST), Threshold()] = None

    @property
    def is_linear(self) -> bool:
        return (Path(self.scorer) / MANIFEST_NAME).is_file()

    def signal_settings(self) -> dict[str, Any]:
        """Not where the scorer is; what it is, `inputs` says."""
        return {key: value for key, value in super().signal_settings().items() if key not in ("scorer", "revision")}


class Quality(Step[QualitySettings]):
    """Column `quality`, or what `column` names: of a model with one output that output, of one with several labels in
    rising order their mean, of a linear classifier the probability; on a scale from 0 to 5, with 4 decimals.

    In a program of one's own, `scorer` may be a picklable function from texts to scores.
    """

    name = "quality"
    Settings = QualitySettings
    costly = True

    def __init__(self, settings: QualitySettings, scorer: Scorer | None = None) -> None:
        super().__init__(settings)
        self.given = scorer

    def __reduce__(self) -> Any:
        return type(self), (self.settings, self.given)

    def inputs(self) -> dict[str, str]:
        """The scorer. `DataError` where it is not there or is none."""
        if self.given is not None:
            return {
                "scorer": f"{self.given.__module__}.{getattr(self.given, '__qualname__', type(self.given).__name__)}"
            }
        if self.settings.is_linear:
            return {"scorer": self._linear["fingerprint"]}
        return {"scorer": find_encoder(self.settings.scorer, self.settings.revision).fingerprint}

    @property
    def _linear(self) -> dict[str, Any]:
        manifest = read_manifest(Path(self.settings.scorer), kind=LINEAR)
        return read_classifier(Path(self.settings.scorer), manifest["config"]["topic"])

    @cached_property
    def _scorer(self) -> Scorer:
        if self.given is not None:
            return self.given
        settings = self.settings
        if settings.is_linear:
            classifier = load_classifier(Path(settings.scorer), self._linear["config"]["topic"])
            return lambda texts: BEST * classifier.probabilities(texts)
        encoder = LoadedEncoder(
            find_encoder(settings.scorer, settings.revision),
            max_tokens=settings.max_tokens,
            batch_tokens=settings.batch_tokens,
            dtype=settings.dtype,
        )
        return lambda texts: as_scores(encoder.logits(texts))

    def schema(self) -> pa.Schema:
        return pa.schema([(self.settings.column, pa.float32())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        scores = np.asarray(self._scorer(batch.texts), dtype=np.float64)
        if scores.shape != (len(batch),) or np.isnan(scores).any():
            raise DataError(f"step 'quality': the scorer gave {scores.shape} numbers or NaN for {len(batch)} texts.")
        return {self.settings.column: np.clip(scores, 0, BEST).round(DECIMALS).tolist()}

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        least = self.settings.at_least
        if least is None:
            return [None] * len(signals)
        reason = f"{self.settings.column} below {least:g}"
        return [reason if low else None for low in signals[self.settings.column].to_numpy() < np.float32(least)]

    def limits(self) -> dict[str, list[float]]:
        return {} if self.settings.at_least is None else {self.settings.column: [self.settings.at_least]}


def as_scores(logits: np.ndarray) -> np.ndarray:
    """One output is the score; of several, the labels' mean place, from 0 for the first to 5 for the last."""
    if logits.shape[1] == 1:
        return logits[:, 0].astype(np.float64)
    return probabilities(logits) @ np.linspace(0, BEST, logits.shape[1])
