"""Steps that keep so many dialogues: without the lowest or highest of a column, or in the shares of a mixture.

Both look at one number for each dialogue and one order that has nothing to do with it (a hash of the text by a seed),
never at tasks or units, so the same dialogues stay however the work was cut.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field, model_validator

from data_recipes.cleaning.steps.base import Batch, Corpus, CorpusStep, OfStep, StepSettings, Threshold
from data_recipes.executors.stage import Stage

Counts = dict[str, int]


class Ranked(CorpusStep[OfStep]):
    """A step that judges all dialogues at once, in one task: some bytes of memory for each of them."""

    order_column: str
    seed = 0
    may_drop_most = True

    def schema(self) -> pa.Schema:
        return pa.schema([(self.order_column, pa.binary(8))])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        start = self.seed.to_bytes(8, "big", signed=True)
        texts = (text.encode("utf-8", "surrogatepass") for text in batch.texts)
        return {self.order_column: [xxhash.xxh3_64_digest(start + text) for text in texts]}

    def stages(self, corpus: Corpus) -> list[Stage]:
        return [Stage("choice", partial(self._choose, corpus), alone=True)]

    @abstractmethod
    def dropped(self, corpus: Corpus, dialogues: pa.Table) -> tuple[np.ndarray, str]:
        """bool, which of the dialogues go, and why. The table has `unit`, `row`, `source` (int32, an index into the
        corpus' sources) and `order` (uint64)."""

    def _choose(self, corpus: Corpus, rank: int, tasks: int) -> None:
        tables = []
        for unit in range(corpus.units()):
            rows = np.flatnonzero(corpus.taking_part(unit))
            orders = pc.cast(corpus.signals(unit)[self.order_column], pa.binary()).take(rows).to_pylist()
            order = np.frombuffer(b"".join(orders), dtype=">u8").astype(np.uint64)
            source = corpus.origin(unit)["source"].take(rows)
            tables.append(pa.table({"unit": np.full(len(rows), unit), "row": rows, "source": source, "order": order}))
        dialogues = pa.concat_tables(tables)
        mask, reason = self.dropped(corpus, dialogues)
        units, rows = dialogues["unit"].to_numpy()[mask], dialogues["row"].to_numpy()[mask]
        for unit in range(corpus.units()):
            chosen = rows[units == unit].tolist()
            corpus.write_verdicts(unit, chosen, [reason] * len(chosen), [None] * len(chosen))


class DropShareSettings(StepSettings):
    """Drops the `lowest` or the `highest` share of the dialogues by a `column` of an earlier step: of each source, or
    of all. One without a value (the step did not judge it) stays, and counts for nothing."""

    column: Annotated[str, Threshold()]
    lowest: Annotated[float | None, Threshold()] = Field(None, ge=0, le=1)
    highest: Annotated[float | None, Threshold()] = Field(None, ge=0, le=1)
    of: Annotated[Literal["all", "source"], Threshold()] = "all"

    @model_validator(mode="after")
    def _one_end(self) -> "DropShareSettings":
        if (self.lowest is None) == (self.highest is None):
            raise ValueError("give one of lowest and highest, a share between 0 and 1.")
        return self


class DropShare(Ranked[DropShareSettings]):
    """Of those with equal values at the edge as many go as are asked for, by the order."""

    name = "drop-share"
    Settings = DropShareSettings
    order_column = "share_order"

    def needs(self) -> set[str]:
        return {self.settings.column}

    def dropped(self, corpus: Corpus, dialogues: pa.Table) -> tuple[np.ndarray, str]:
        settings, column = self.settings, self.settings.column
        units, rows = dialogues["unit"].to_numpy(), dialogues["row"].to_numpy()
        values = np.full(len(dialogues), np.nan)
        for unit in range(corpus.units()):
            of_unit = units == unit
            found = corpus.values(unit, column).take(rows[of_unit])
            values[of_unit] = pc.cast(found, pa.float64()).to_numpy(zero_copy_only=False)
        share, side = (settings.lowest, "lowest") if settings.lowest is not None else (settings.highest, "highest")
        assert share is not None
        sources = dialogues["source"].to_numpy()
        groups = sources if settings.of == "source" else np.zeros(len(dialogues), dtype=np.int32)
        order = dialogues["order"].to_numpy()
        mask = np.zeros(len(dialogues), dtype=bool)
        for group in np.unique(groups):
            places = np.flatnonzero((groups == group) & ~np.isnan(values))
            ranked = places[np.lexsort((order[places], values[places] if side == "lowest" else -values[places]))]
            mask[ranked[: round(share * len(ranked))]] = True
        return mask, f"among the {side} {share:.4g} of {column}"


class MixtureSettings(StepSettings):
    """How many dialogues of each category, by `shares` that add up to 1, and of its sources by their `weights`. Without
    `dialogues` there are as many as the scarcest category allows. `categories` and `weights` are filled in from the
    sources."""

    shares: Annotated[dict[str, float], Threshold()] = Field(min_length=1)
    dialogues: Annotated[int | None, Threshold()] = Field(None, ge=1)
    seed: int = 0
    categories: Annotated[dict[str, str], Threshold()] = Field(default_factory=dict)
    weights: Annotated[dict[str, float], Threshold()] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _add_up(self) -> "MixtureSettings":
        if any(share < 0 for share in self.shares.values()) or abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"shares add up to {sum(self.shares.values()):.6g}, expected 1.")
        return self


class Mixture(Ranked[MixtureSettings]):
    """A source that has too few gives way to the others of its category; a category that has too few stays short."""

    name = "mixture"
    Settings = MixtureSettings
    order_column = "mixture_order"

    @property
    def seed(self) -> int:  # type: ignore[override]
        return self.settings.seed

    def dropped(self, corpus: Corpus, dialogues: pa.Table) -> tuple[np.ndarray, str]:
        sources, order = dialogues["source"].to_numpy(), dialogues["order"].to_numpy()
        there = {name: int((sources == number).sum()) for number, name in enumerate(corpus.sources)}
        wanted = wanted_of(there, self.settings)
        mask = np.zeros(len(dialogues), dtype=bool)
        for number, name in enumerate(corpus.sources):
            places = np.flatnonzero(sources == number)
            ranked = places[np.lexsort((dialogues["row"].to_numpy()[places], order[places]))]
            mask[ranked[wanted[name] :]] = True
        return mask, "beyond the share of its category"


def wanted_of(there: Mapping[str, int], settings: MixtureSettings) -> Counts:
    """How many dialogues of each source make the mixture, of those that are there."""
    categories = {
        category: {name: count for name, count in there.items() if settings.categories[name] == category}
        for category in settings.shares
    }
    total = settings.dialogues
    if total is None:
        total = min(
            int(sum(counts.values()) / settings.shares[category] + 1e-9)
            for category, counts in categories.items()
            if settings.shares[category] > 0
        )
    wanted = dict.fromkeys(there, 0)
    for category, target in apportion(total, settings.shares).items():
        wanted |= filled(target, categories[category], settings.weights)
    return wanted


def filled(target: int, there: Counts, weights: Mapping[str, float]) -> Counts:
    """`target` dialogues of several sources by their weights; what one lacks the others give."""
    given = dict.fromkeys(there, 0)
    while (left := target - sum(given.values())) > 0:
        open_ones = {name: weights[name] for name in there if given[name] < there[name]}
        if not open_ones:
            break
        total = sum(open_ones.values())
        parts = apportion(left, {name: weight / total for name, weight in open_ones.items()})
        for name, part in parts.items():
            given[name] = min(there[name], given[name] + part)
    return given


def apportion(total: int, shares: Mapping[str, float]) -> Counts:
    """Whole numbers that add up to `total`, each within 1 of its share: the largest rests are rounded up."""
    exact = {name: total * share for name, share in shares.items()}
    whole = {name: int(value + 1e-9) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in order[: total - sum(whole.values())]:
        whole[name] += 1
    return whole
