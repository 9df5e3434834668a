"""Losses beside those of calm runs on the same rows, which tell what in them is due to the text.

A step of a proxy reads a few rows, and its loss jumps with them by more than a divergence begins with; a batch of
millions of tokens averages that away. Here what other, calm runs show at the same rows is taken off instead.
What a stretch of bad rows does to the loss is due to the rows as well: in its place stand the losses before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from train.studies.early_warning.runs import WatchedRun

ENDS = 48  # steps at the end by which calm runs are compared
REACH = 32  # steps to each side that a run's own level at a step is the median of
REPEATED = 24  # steps before a bad stretch whose losses stand in its place, again and again: of the same spread
REFERENCES = 2  # calm runs on the same rows without which nothing is taken off

Rows = tuple[str, int, int]  # phase, step in it, tokens


def even_losses(runs: Sequence[WatchedRun], calm: Sequence[WatchedRun]) -> dict[str, list[float | None]]:
    """By run, its losses less how far above their own level the `calm` runs were at the same rows (median of them)."""
    known: dict[Rows, dict[str, float]] = {}
    for run in calm:
        losses = run.trial.losses
        for at, (source, rows) in enumerate(rows_of(run)):
            level = [loss for loss in losses[max(at - REACH, 0) : at + REACH + 1] if loss is not None]
            loss = losses[at]
            if loss is not None:
                known.setdefault(rows, {})[source] = loss - median(level)
    return {run.name: _even(run, known) for run in runs}


def counterpart_of(run: WatchedRun, calm: Sequence[WatchedRun]) -> WatchedRun | None:
    """The calm training to hold a run against: of the same seed, column and model, with the same beginning, on the same
    rows; of several, that whose loss ends lowest."""
    rows = [rows for _, rows in rows_of(run)]

    def is_alike(other: WatchedRun) -> bool:
        condition = other.condition
        return (
            (other.seed, condition.begins, condition.column) == (run.seed, run.condition.begins, run.condition.column)
            and condition.is_of_plain_model
            and [rows for _, rows in rows_of(other)][: len(rows)] == rows
        )

    def ends_at(other: WatchedRun) -> float:
        return median(loss for loss in other.trial.losses[: len(rows)][-ENDS:] if loss is not None)

    return min(filter(is_alike, calm), key=ends_at, default=None)


def rows_of(run: WatchedRun) -> Iterator[tuple[str, Rows]]:
    """By step, the training that took it (runs share their beginning) and the rows that it read."""
    counts: dict[tuple[str, str, int], int] = {}
    for at, record in enumerate(run.trial.records):
        begins = run.condition.begins if at < run.begun else None
        source = f"{begins}-{run.seed}" if begins else run.name
        key = (source, str(record["phase"]), int(record["tokens"]))
        counts[key] = counts.get(key, -1) + 1
        yield source, (key[1], counts[key], key[2])


def _even(run: WatchedRun, known: Mapping[Rows, Mapping[str, float]]) -> list[float | None]:
    found: list[float | None] = []
    for loss, (own, rows) in zip(run.trial.losses, rows_of(run), strict=True):
        others = [value for source, value in known.get(rows, {}).items() if source != own]
        if loss is not None and rows[0] == run.condition.rows:
            loss = found[-REPEATED] if len(found) >= REPEATED else loss
        elif loss is not None and len(others) >= REFERENCES:
            loss -= median(others)
        found.append(loss)
    return found
