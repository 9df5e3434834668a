"""Complexity as in the report, C = l1 * length + l2 * loss under the base model: what is too complex teaches nothing.

The report gives neither the weights nor the limit; ours are settings. Length is in tokens, loss in nats a token. Both
are kept, so other weights or another limit ask no model again.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.steps.base import Batch, FolderOrId, Step, StepSettings, Threshold
from data_recipes.instruct.base_loss import BaseModelLoss, find_base_model

DECIMALS = 4
"""Losses are rounded to so many, below which machines and kernels may differ."""


class ComplexitySettings(StepSettings):
    """`model`: the base model that is to be tuned, a folder or a Hub id at a `revision`. Dialogues with a complexity
    above `at_most` are dropped; the step `drop-share` on `complexity` drops a share instead. The loss is that of the
    first `max_tokens` tokens."""

    model: Annotated[str, FolderOrId()]
    revision: str | None = None
    max_tokens: int = Field(2048, ge=32)
    batch_tokens: int = Field(4096, ge=32)
    dtype: Literal["float32", "bfloat16"] = "float32"
    length_weight: Annotated[float, Threshold()] = Field(0.001, ge=0)
    loss_weight: Annotated[float, Threshold()] = Field(1.0, ge=0)
    at_most: Annotated[float | None, Threshold()] = None

    def signal_settings(self) -> dict[str, Any]:
        """Not where the model is; what it is, `inputs` says."""
        return {key: value for key, value in super().signal_settings().items() if key not in ("model", "revision")}


class Complexity(Step[ComplexitySettings]):
    """Columns `length` (tokens of the base model), `loss` (of the assistant's tokens) and, of both, `complexity`."""

    name = "complexity"
    Settings = ComplexitySettings
    costly = True
    reads = ("messages",)

    def inputs(self) -> dict[str, str]:
        return {"model": find_base_model(self.settings.model, self.settings.revision)[1]}

    @cached_property
    def _model(self) -> BaseModelLoss:
        settings = self.settings
        return BaseModelLoss(
            find_base_model(settings.model, settings.revision)[0],
            max_tokens=settings.max_tokens,
            batch_tokens=settings.batch_tokens,
            dtype=settings.dtype,
        )

    def schema(self) -> pa.Schema:
        return pa.schema([("length", pa.int32()), ("loss", pa.float32())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        found = self._model.losses([messages or [] for messages in batch.columns["messages"]])
        losses = [None if loss is None else round(loss, DECIMALS) for _, loss in found]
        return {"length": [length for length, _ in found], "loss": losses}

    def derived_schema(self) -> pa.Schema:
        return pa.schema([("complexity", pa.float32())])

    def derived(self, signals: pa.Table) -> dict[str, Sequence[Any]]:
        settings = self.settings
        pairs = zip(signals["length"].to_pylist(), signals["loss"].to_pylist(), strict=True)
        return {
            "complexity": [
                None if loss is None else settings.length_weight * length + settings.loss_weight * loss
                for length, loss in pairs
            ]
        }

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        most = self.settings.at_most
        if most is None:
            return [None] * len(signals)
        values = signals["complexity"].to_numpy(zero_copy_only=False)
        return [f"complexity above {most:g}" if above else None for above in values > np.float32(most)]

    def limits(self) -> dict[str, list[float]]:
        return {} if self.settings.at_most is None else {"complexity": [self.settings.at_most]}
