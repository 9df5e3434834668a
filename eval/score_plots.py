"""Figures of scores: Figure 1's kind, scores over the phases, and needles found by depth and length."""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_recipes.files import write_whole
from eval import published_scores as published
from eval.comparison import Comparison
from eval.errors import EvalError
from eval.published_table import Measured, kind_of, measured_scores, phase_of
from eval.scores import SEPARATOR

# The page's colours take the place of these three (score_page.py).
INK, GRID, PAPER = "#1b1e25", "#dcd9d1", "#fbfaf7"
PUBLISHED_COLOUR, YULAN_COLOUR, OWN_COLOUR = "#7d8590", "#3b82d6", "#e06a20"
SERIES = ("#3b82d6", "#0d9678", "#c060b8")
NEEDLES = "needle"
POINT = re.compile(rf"(?:.*{SEPARATOR})?(\d+){SEPARATOR}(\d+(?:\.\d+)?) ?%")


def figures(comparison: Comparison, tokens: Sequence[float] = ()) -> dict[str, str]:
    """Each figure that the runs have something for, as SVG, by title. `tokens`: how many trained each run's model."""
    if tokens and len(tokens) != len(comparison.runs):
        raise EvalError(
            f"tokens are given for {len(tokens)} of {len(comparison.runs)} runs: --tokens once a run, in their order "
            "(0 where it is not known)."
        )
    drawn: dict[str, str] = {}
    scores = measured_scores(comparison)
    if points := figure_1_points(comparison, scores, tokens):
        drawn["Mean of the eight tasks of Figure 1, over 6ND"] = draw_figure_1(points)
    if lines := trajectory_lines(comparison, scores):
        drawn["Scores over the phases"] = draw_trajectory(lines)
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        for task, found in needle_grids(run).items():
            drawn[f"Needles found: {name}, {task}"] = draw_needles(found)
    return drawn


def figure_1_points(
    comparison: Comparison, scores: Sequence[Measured], tokens: Sequence[float]
) -> list[tuple[str, float, float]]:
    """(name, 6ND, mean of the eight tasks in percent) of each run that has all eight and whose tokens are known."""
    points = []
    for index, (name, number) in enumerate(zip(comparison.names, tokens, strict=False)):
        values: dict[str, float] = {}
        for score in scores:
            if score.run == index and kind_of(score) == published.BASE:
                values.setdefault(score.column, score.value)
        mean = published.average(values)
        parameters = comparison.runs[index]["provenance"]["model"].get("parameters")
        if mean is not None and parameters and number > 0:
            points.append((name, 6 * parameters * number, mean))
    return points


def published_points() -> list[tuple[str, float, float]]:
    """As `figure_1_points`, of the published models that have all eight scores."""
    points = []
    for name, model in published.models().items():
        values = {score.column: score.value for score in published.scores(published.BASE) if score.model == name}
        if (mean := published.average(values)) is not None:
            points.append((name, model.training_flops, mean))
    return points


def draw_figure_1(own: Sequence[tuple[str, float, float]]) -> str:
    """Mean score over training FLOPs on a log axis, each point with its name."""
    with canvas(7.6, 4.4) as (figure, axis):
        points = [(*point, YULAN_COLOUR if "YuLan" in point[0] else PUBLISHED_COLOUR) for point in published_points()]
        points += [(*point, OWN_COLOUR) for point in own]
        for _, flops, mean, colour in points:
            axis.plot(flops, mean, linestyle="", marker="D" if colour == OWN_COLOUR else "o", color=colour)
        for name, flops, mean, colour, place in placed_names(points):
            axis.annotate(
                name, (flops, mean), xytext=place, textcoords="offset points", color=colour, fontsize=8, va="center"
            )
        axis.set_xscale("log")
        axis.margins(x=0.22, y=0.1)
        axis.set_xlabel("training FLOPs, 6ND")
        axis.set_ylabel("mean of the eight tasks, %")
        return svg(figure)


def placed_names(
    points: Sequence[tuple[str, float, float, str]],
) -> Iterator[tuple[str, float, float, str, tuple[float, float]]]:
    """Each point with where its name stands: to its right, lower where that is taken by a point's name before it."""
    taken: list[tuple[float, float]] = []
    for name, flops, mean, colour in sorted(points, key=lambda point: -point[2]):
        down = 0.0
        # 1.2 points of the mean are about a line of text; names within a factor of 8 of each other would overlap.
        while any(abs(mean - down - y) < 1.2 and abs(math.log(flops / x)) < math.log(8) for x, y in taken):
            down += 0.4
        taken.append((flops, mean - down))
        yield name, flops, mean, colour, (7, -down * 8.5)


def trajectory_lines(
    comparison: Comparison, scores: Sequence[Measured]
) -> dict[str, tuple[list[tuple[int, float]], list[tuple[int, float]]]]:
    """By column the published points (phase, percent) and the measured ones; empty without a run of a phase."""
    lines = {}
    for column in dict.fromkeys(score.column for score in published.scores(published.TRAJECTORY)):
        own = []
        for score in scores:
            phase = phase_of(comparison.runs[score.run]["model"])
            if score.column == column and phase is not None:
                own.append((phase, score.value))
        if own:
            theirs = [
                (phase_of(score.model) or 0, score.value)
                for score in published.scores(published.TRAJECTORY)
                if score.column == column
            ]
            lines[column] = (theirs, sorted(own))
    return lines


def draw_trajectory(lines: Mapping[str, tuple[list[tuple[int, float]], list[tuple[int, float]]]]) -> str:
    """A colour a benchmark: published as a line, measured as diamonds joined by dashes."""
    with canvas(7.6, 4.2) as (figure, axis):
        for (column, (theirs, own)), colour in zip(lines.items(), SERIES, strict=False):
            title = published.columns()[column].title
            axis.plot(*zip(*theirs, strict=True), color=colour, marker="o", markersize=4, label=f"{title}, published")
            axis.plot(
                *zip(*own, strict=True),
                color=colour,
                marker="D",
                markersize=4,
                linestyle="--",
                label=f"{title}, measured",
            )
        axis.set_xlabel("phase")
        axis.set_ylabel("%")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(figure)


def needle_grids(run: Mapping[str, Any]) -> dict[str, dict[tuple[int, float], float]]:
    """By task the share found at (length in tokens, depth in percent): rows whose group is `4096 / 50 %`."""
    grids: dict[str, dict[tuple[int, float], float]] = {}
    for row in run["rows"]:
        if NEEDLES in row["task"] and (found := POINT.fullmatch(row["group"])):
            grids.setdefault(row["task"], {})[int(found[1]), float(found[2])] = row["value"]
    return grids


def draw_needles(grid: Mapping[tuple[int, float], float]) -> str:
    """A heat map: lengths from left to right, depths from the text's beginning down, the share found in each cell."""
    from matplotlib import colormaps

    lengths, depths = sorted({length for length, _ in grid}), sorted({depth for _, depth in grid})
    with canvas(1.6 + 0.85 * len(lengths), 1.2 + 0.42 * len(depths)) as (figure, axis):
        table = [[grid.get((length, depth), math.nan) for length in lengths] for depth in depths]
        axis.imshow(table, cmap=colormaps["RdYlBu"], vmin=0, vmax=1, aspect="auto")
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                if not math.isnan(value):
                    colour = "#101010" if 0.12 < value < 0.88 else "#ffffff"
                    axis.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(lengths)), [f"{length:,.0f}" for length in lengths])
        axis.set_yticks(range(len(depths)), [f"{depth:g}%" for depth in depths])
        axis.set_xlabel("tokens")
        axis.set_ylabel("depth of the needle")
        axis.grid(visible=False)
        return svg(figure)


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure of one panel (inches) in the pages' colours."""
    from matplotlib import rc_context

    from train.studies.plots import STYLE, make_panels

    inked = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    papered = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), PAPER)
    with rc_context(STYLE | inked | papered | {"grid.color": GRID}):
        figure, axes = make_panels(1, 1, width=width, height=height)
        yield figure, axes[0, 0]


def svg(figure: Any) -> str:
    """The figure as SVG, the same bytes for the same numbers."""
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def write_figures(drawn: Mapping[str, str], folder: Path) -> list[Path]:
    """Each figure as a file named after its title."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for title, content in drawn.items():
        path = folder / f"{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.svg"
        write_whole(path, content)
        paths.append(path)
    return paths
