"""The figures of the studies of annealing and averaging, drawn from their results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.studies.plots import make_panels, save, shades, styled

LABELS = {"stable": "rate held", "annealed": "annealed"}


def plot_annealing(result: dict[str, Any], path: Path) -> None:
    """Loss over shape and length of the tail, for each rate; by domain, what the richer mixture changes; and problems
    solved."""
    rates = result["rates"]
    with styled():
        figure, grid = make_panels(-(-(len(rates) + 2) // 2), 2, width=4.2, height=3.2)
        axes = list(grid.flat)
        for axis, rate in zip(axes, rates, strict=False):
            draw_shapes(axis, result, rate)
            axis.sharey(axes[0])
        draw_mixtures(axes[len(rates)], result)
        draw_solved(axes[len(rates) + 1], result)
        save(figure, path)


def draw_shapes(axis: Any, result: dict[str, Any], rate: str) -> None:
    """What each shape takes off the loss of the held rate."""
    tails, shapes = result["settings"]["tails"], result["settings"]["shapes"]
    for index, (shape, colour) in enumerate(zip(shapes, shades(len(shapes)), strict=True)):
        shift = 0.18 * (index - (len(shapes) - 1) / 2)
        gains = [result["rates"][rate]["gains"][str(tail)][shape]["loss"] for tail in tails]
        draw_points(axis, [at + shift for at in range(len(tails))], gains, colour, label=shape)
    axis.axhline(0, color="#888", linewidth=0.8)
    axis.set_xticks(range(len(tails)), [f"{tail} %" for tail in tails])
    axis.set_xlabel("length of the tail, of the budget")
    axis.set_title(f"held-out loss less that of {rate} held")
    below(axis)


def draw_mixtures(axis: Any, result: dict[str, Any]) -> None:
    """What the richer tail changes in each domain, where the rate falls and where it is held."""
    tail, domains = result["settings"]["published"]["tail"], names_of(result)
    for kind, label, shift, colour in (
        ("annealed", "annealed", 0.12, shades(3)[0]),
        ("held", "rate held", -0.12, shades(3)[1]),
    ):
        changes = [result["richer"][str(tail)][kind][domain] for domain in domains]
        draw_rows(axis, [shift - at for at in range(len(domains))], changes, colour, label=label)
    axis.axvline(0, color="#888", linewidth=0.8)
    axis.set_yticks([-at for at in range(len(domains))], list(domains.values()))
    axis.set_title(f"loss: richer tail of {tail} % less usual")
    below(axis)


def draw_solved(axis: Any, result: dict[str, Any]) -> None:
    """Problems solved with the usual mixture and with the richer one, by where the richer rows are."""
    settings = result["settings"]
    shape, tail = settings["published"]["shape"], settings["published"]["tail"]
    places: list[tuple[str, str | None, str]] = [
        (f"{shape}, {length} %", f"{shape}-{length}", f"richer-{shape}-{length}") for length in settings["tails"]
    ]
    places += [("rate held", "held", f"richer-held-{tail}"), ("spread", None, f"spread-{shape}-{tail}")]
    for names, shift, label, colour in (
        ([usual for _, usual, _ in places], -0.12, "usual mixture", shades(3)[1]),
        ([richer for *_, richer in places], 0.12, "richer", shades(3)[0]),
    ):
        there = [(at + shift, result["cells"][name]["mean"]["solved"]) for at, name in enumerate(names) if name]
        at_places, shares = zip(*there, strict=True)
        draw_points(axis, at_places, shares, colour, label=label, scale=100)
    axis.set_xticks(range(len(places)), [label for label, *_ in places], rotation=25, ha="right")
    axis.set_title("unseen problems solved, %")
    below(axis)


def plot_averaging(result: dict[str, Any], path: Path) -> None:
    """Loss and problems solved over the number of models averaged: at the constant rate and in the annealed tail."""
    counts, domains = [1, *result["settings"]["counts"]], names_of(result)
    with styled():
        figure, (axes,) = make_panels(1, 3, width=3.4, height=3.0)
        for (series, label), colour in zip(LABELS.items(), shades(3), strict=False):
            found = result["series"][series]
            shift = 0.08 if series == "stable" else -0.08
            places = [at + shift for at in range(len(counts))]
            losses = [found[str(count)]["against_annealed"]["loss"] for count in counts]
            draw_points(axes[0], places, losses, colour, label=label)
            solved = [found[str(count)]["mean"]["solved"] for count in counts]
            draw_points(axes[1], places, solved, colour, label=label, scale=100)
            last = [found[str(counts[-1])]["against_last"][domain] for domain in domains]
            rows = [2 * shift - at for at in range(len(domains))]
            draw_rows(axes[2], rows, last, colour, label=label)
        for axis, title in zip(axes, ("held-out loss less annealing's", "unseen problems solved, %"), strict=False):
            axis.set_xticks(range(len(counts)), ["the last", *map(str, counts[1:])])
            axis.set_xlabel("models averaged")
            axis.set_title(title)
        axes[0].axhline(0, color="#888", linewidth=0.8)
        for axis in axes:
            below(axis)
        axes[2].axvline(0, color="#888", linewidth=0.8)
        axes[2].set_yticks([-at for at in range(len(domains))], list(domains.values()))
        axes[2].set_title(f"loss: mean of the last {counts[-1]} less the last")
        save(figure, path)


def below(axis: Any) -> None:
    """The legend, where it hides no point."""
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, columnspacing=1, handletextpad=0.2)


def names_of(result: dict[str, Any]) -> dict[str, str]:
    """The measures of loss in the order of the figure, and what a reader calls them."""
    return {**result["settings"]["domains"], "loss": "mean of domains"}


def draw_points(
    axis: Any,
    places: Sequence[float],
    intervals: Sequence[Mapping[str, Any]],
    colour: Any,
    *,
    label: str,
    scale: float = 1,
) -> None:
    """A point and its interval at each place, upright."""
    for place, one in zip(places, intervals, strict=True):
        if one["low"] is not None:
            axis.plot([place] * 2, [scale * one["low"], scale * one["high"]], color=colour, linewidth=1.6)
    values = [scale * one["value"] for one in intervals]
    axis.plot(places, values, color=colour, marker="o", markersize=4, linestyle="", label=label)


def draw_rows(
    axis: Any, rows: Sequence[float], intervals: Sequence[Mapping[str, Any]], colour: Any, *, label: str
) -> None:
    """The same, lying."""
    for row, one in zip(rows, intervals, strict=True):
        if one["low"] is not None:
            axis.plot([one["low"], one["high"]], [row] * 2, color=colour, linewidth=1.6)
    values = [one["value"] for one in intervals]
    axis.plot(values, rows, color=colour, marker="o", markersize=4, linestyle="", label=label)
