"""Measured scores beside the published ones: a sheet for each of the report's groups of tables.

A measured number stands beside a published one as far as the benchmark's entry names a column (`published`); the notes
below a sheet say how it was measured and which settings are ours because they are not public.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval import published_scores as published
from eval.comparison import Comparison, asked_in_chat, differences, method, reason
from eval.scores import is_share

WHOLE = "all"
OURS = "not public, ours"
DIGITS = {published.BASE: 2, published.TRAJECTORY: 2, published.INSTRUCT: 1}
PHASE = re.compile(r"phase[-_ ]?0*(\d+)", re.IGNORECASE)
TITLES = {
    published.BASE: "Base models, beside Tables 6 and 7",
    published.TRAJECTORY: "Over the phases, beside the published trajectory",
    published.INSTRUCT: "Instruct models",
}


@dataclass(frozen=True)
class Measured:
    """A run's number in a column, in percent, and where it comes from."""

    run: int
    column: str
    task: str
    value: float
    stderr: float | None
    row: Mapping[str, Any]
    details: Mapping[str, Any]


@dataclass
class Sheet:
    """A table to be shown: headings, rows of cells, which rows are measured, notes; `words` columns are no numbers."""

    title: str
    headings: list[str]
    words: tuple[int, ...] = (0,)
    rows: list[list[str]] = field(default_factory=list)
    measured: list[bool] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measured_scores(comparison: Comparison) -> list[Measured]:
    """Every whole of a benchmark that a published column exists for."""
    found = []
    for index, run in enumerate(comparison.runs):
        first: dict[str, str] = {}
        for row in run["rows"]:
            details = run["provenance"].get("benchmarks", {}).get(row["task"])
            if details is None or row["group"] != WHOLE or not is_share(row):
                continue
            name = details["benchmark"].get("published")
            is_first = first.setdefault(row["task"], row["measure"]) == row["measure"]
            column = published.column_of(name, row["measure"], is_first=is_first) if name else None
            if column:
                stderr = row.get("stderr")
                scaled = None if stderr is None else 100 * stderr
                found.append(Measured(index, column, row["task"], 100 * row["value"], scaled, row, details))
    return found


def kind_of(score: Measured) -> str:
    """Which of the published tables a score belongs beside."""
    base = {found.column for found in published.scores(published.BASE)}
    return published.INSTRUCT if asked_in_chat(score.details) or score.column not in base else published.BASE


def phase_of(model: str) -> int | None:
    """The phase of the curriculum that a model's name tells: `phase-05`, `YuLan-Mini-Phase5`."""
    found = PHASE.search(model)
    return int(found[1]) if found else None


def published_sheets(comparison: Comparison) -> list[Sheet]:
    """The sheets that something measured belongs in; of the published columns those that were measured."""
    scores = measured_scores(comparison)
    sheets = []
    for kind in (published.BASE, published.INSTRUCT):
        if chosen := [score for score in scores if kind_of(score) == kind]:
            sheets.append(sheet(kind, chosen, comparison))
    followed = {score.column for score in published.scores(published.TRAJECTORY)}
    phases = [
        score
        for score in scores
        if score.column in followed and phase_of(comparison.runs[score.run]["model"]) is not None
    ]
    if phases:
        sheets.append(sheet(published.TRAJECTORY, phases, comparison))
    return sheets


def sheet(kind: str, scores: Sequence[Measured], comparison: Comparison) -> Sheet:
    """Published rows, then a row for each run; a column for each benchmark that was measured."""
    order = list(published.columns())
    tasks = sorted({(score.column, score.task) for score in scores}, key=lambda pair: (order.index(pair[0]), pair[1]))
    names = [column for column, _ in tasks]
    titles = published.columns()
    headings = [
        titles[column].title if names.count(column) == 1 else f"{titles[column].title} ({task})"
        for column, task in tasks
    ]
    made = Sheet(TITLES[kind], ["model", *headings])
    digits = DIGITS[kind]
    two_sources = []
    for model in published.models_of(kind, names):
        cells = []
        for column, heading in zip(names, headings, strict=True):
            found = published.scores_of(kind, model, column)
            cells.append(" / ".join(f"{score.value:.{digits}f}{published.QUOTED * score.quoted}" for score in found))
            if len(found) > 1:
                listed = " and ".join(f"{score.value:g} ({score.source})" for score in found)
                two_sources.append(f"{model}, {heading}: {listed}.")
        made.rows.append([model, *cells])
        made.measured.append(False)
    apart = differing(scores, comparison)
    for index in sorted({score.run for score in scores}):
        own = {(score.column, score.task): score for score in scores if score.run == index}
        cells = []
        for pair in tasks:
            score = own.get(pair)
            mark = "†" if pair in apart else ""
            cells.append("" if score is None else f"{with_error(score)}{mark}")
        made.rows.append([comparison.names[index], *cells])
        made.measured.append(True)
    made.notes += column_notes(tasks, headings, scores, apart)
    if any(published.QUOTED in cell for row in made.rows for cell in row[1:]):
        made.notes.append(f"{published.QUOTED} quoted in the report from the model's own publication.")
    made.notes += dict.fromkeys(two_sources)
    sources = dict.fromkeys(table.source for table in published.tables(kind) if set(table.columns) & set(names))
    made.notes.append(f"Published numbers: {'; '.join(sources)}.")
    made.notes += [table.note for table in published.tables(kind) if table.note and set(table.columns) & set(names)]
    return made


def differing(scores: Sequence[Measured], comparison: Comparison) -> dict[tuple[str, str], str]:
    """By column and task why the sheet's runs cannot be compared there."""
    found = {}
    for pair in {(score.column, score.task) for score in scores}:
        own = [score for score in scores if (score.column, score.task) == pair]
        if different := differences([method(comparison.runs[score.run], score.row) for score in own]):
            found[pair] = reason(different)
    return found


def with_error(score: Measured) -> str:
    return f"{score.value:.2f}" + ("" if score.stderr is None else f" ± {score.stderr:.2f}")


def column_notes(
    tasks: Sequence[tuple[str, str]],
    headings: Sequence[str],
    scores: Sequence[Measured],
    apart: Mapping[tuple[str, str], str],
) -> list[str]:
    """How each column was measured, what of it is ours, and where runs differ."""
    found = []
    for pair, heading in zip(tasks, headings, strict=True):
        own = [score for score in scores if (score.column, score.task) == pair]
        last = own[-1]
        ours = [key for key, source in last.details["benchmark"]["source"].items() if OURS in source]
        parts = [f"{heading}: {last.task}, {last.row['measure']}, {last.row.get('protocol') or 'no protocol'}"]
        parts.append(f"n = {last.row['count']:,}")
        if (limit := last.details["settings"].get("limit")) is not None:
            parts.append(f"only the first {limit} documents")
        if ours:
            parts.append(f"not public, so ours: {', '.join(ours)}")
        found.append("; ".join(parts) + ".")
        if why := apart.get(pair):
            found.append(f"† {heading}: not comparable between the runs ({why}).")
    return found


def comparison_sheets(comparison: Comparison) -> list[Sheet]:
    """All rows of the runs: those that can be compared, and apart from them the others with the reason."""
    sheets = []
    for title, entries, why in (
        ("Measured", comparison.comparable, False),
        ("Not comparable", comparison.apart, True),
    ):
        if entries:
            made = Sheet(title, ["task", "measure", "of", *comparison.names, *(["because"] if why else [])])
            made.words = (0, 1, 2, len(made.headings) - 1) if why else (0, 1, 2)
            for entry in entries:
                cells = ["" if value is None else shown(entry, value) for value in entry["values"]]
                row = [entry["task"], entry["measure"], entry["group"], *cells]
                made.rows.append([*row, reason(entry["differences"])] if why else row)
                made.measured.append(False)
            sheets.append(made)
    if sheets:
        sheets[-1].notes += comparison.notes
    return sheets


def shown(entry: Mapping[str, Any], value: float) -> str:
    return f"{value:.1%}" if is_share(entry) else f"{value:.3f}"
