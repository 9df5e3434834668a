"""Documents to look at: those that a step has just dropped and just kept, by what its thresholds ask.

The choice is the same for any number of tasks: nearest to a threshold first, then by a hash of the origin.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_recipes.cleaning.pipeline.run import Run
from data_recipes.cleaning.pipeline.unit_files import read_columns
from data_recipes.cleaning.pipeline.verdicts import Judgement
from data_recipes.cleaning.steps.base import AnyStep, Step

A_REASON = 3
"""Dropped documents shown for each reason of a step."""
JUST_PASSED = 3
EXCERPT_CHARACTERS = 400
MOST_REASONS = 8


@dataclass
class Chosen:
    """A document to show. `reason`: why the step has dropped it; None for one that has just passed. `signals`: the
    values of the columns that the step has thresholds for."""

    step: int
    reason: str | None
    distance: float
    order: str
    unit_row: int
    source: str
    file: str
    row: int
    signals: dict[str, Any]
    excerpt: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def rank(self) -> tuple[float, str]:
        return self.distance, self.order


def choose(run: Run, unit: int, verdicts: Judgement, judged: Sequence[np.ndarray], signals: pa.Table) -> list[Chosen]:
    """The candidates of a unit, without their texts."""
    place = run.texts(unit)
    origins = read_columns(place.file, place.record, ["file", "row"])
    source = run.units.source_name(unit)
    found: list[Chosen] = []
    for number, step in [(-1, None), *enumerate(run.config.steps)]:
        limits = step.limits() if isinstance(step, Step) else {}
        distances = _distances(signals, limits, len(origins))
        rows = np.flatnonzero(verdicts.steps == number)
        groups: dict[str | None, np.ndarray] = {}
        for why in sorted({str(why) for why in verdicts.reasons[rows]}):
            groups[why] = rows[verdicts.reasons[rows] == why]
        if step is not None and limits:
            groups[None] = np.flatnonzero(judged[number] & (verdicts.steps != number) & np.isfinite(distances))
        for reason, places in groups.items():
            most = JUST_PASSED if reason is None else A_REASON
            for row in _nearest(distances, places, most, source, origins):
                origin = origins.slice(row, 1).to_pylist()[0]
                values = {name: _plain(signals[name][row].as_py()) for name in limits if name in signals.column_names}
                distance = float(distances[row]) if np.isfinite(distances[row]) else 0.0
                order = order_of(source, origin["file"], origin["row"])
                found.append(Chosen(number, reason, distance, order, row, source, **origin, signals=values))
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it, which knows no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _distances(signals: pa.Table, limits: dict[str, list[float]], rows: int) -> np.ndarray:
    """How far each document is from a threshold, relative to it: the smallest over columns; infinite without any."""
    nearest = np.full(rows, np.inf)
    for name, values in limits.items():
        if name not in signals.column_names or not values:
            continue
        column = signals[name].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        for limit in values:
            distance = np.abs(column - limit) / (abs(limit) or 1.0)
            nearest = np.fmin(nearest, distance)
    return nearest


def _nearest(distances: np.ndarray, places: np.ndarray, most: int, source: str, origins: pa.Table) -> list[int]:
    """The first few by distance and hash; of very many at the same distance only the first thousand are looked at."""
    if len(places) > most:
        limit = np.partition(distances[places], most - 1)[most - 1]
        near = places[distances[places] <= limit]
        places = near if len(near) <= 1000 else near[np.argsort(distances[near], kind="stable")[:1000]]
    taken = origins.take(places).to_pylist()
    orders = [order_of(source, origin["file"], origin["row"]) for origin in taken]
    ranked = sorted(zip(distances[places].tolist(), orders, places.tolist(), strict=True))
    return [row for _, _, row in ranked[:most]]


def order_of(source: str, file: str, row: int) -> str:
    """An order that has nothing to do with the content."""
    return hashlib.blake2b(f"{source}\0{file}\0{row}".encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def with_text(samples: Sequence[Chosen], texts: pa.Table, first: int) -> None:
    """Fill in the beginnings of the texts that a table holds, whose first document has this number in the unit."""
    for sample in samples:
        if first <= sample.unit_row < first + len(texts):
            text = texts["text"][sample.unit_row - first].as_py()
            sample.excerpt = None if text is None else text[:EXCERPT_CHARACTERS]


def shown(samples: Sequence[Chosen], steps: Sequence[AnyStep]) -> dict[int, dict[str, Any]]:
    """By step the samples for the report: `dropped` by reason, and `just_passed`."""
    found: dict[int, dict[str, Any]] = {}
    for number in range(-1, len(steps)):
        of_step = sorted((one for one in samples if one.step == number), key=lambda one: one.rank)
        reasons = sorted({one.reason for one in of_step if one.reason is not None})[:MOST_REASONS]
        found[number] = {
            "dropped": {
                reason: [_shown(one) for one in of_step if one.reason == reason][:A_REASON] for reason in reasons
            },
            "just_passed": [_shown(one) for one in of_step if one.reason is None][:JUST_PASSED],
        }
    return found


def _shown(sample: Chosen) -> dict[str, Any]:
    return {key: getattr(sample, key) for key in ("source", "file", "row", "signals", "excerpt")}
