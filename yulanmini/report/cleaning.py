"""The page of a cleaning run: the funnel, reasons, distributions with their thresholds, documents to look at."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from yulanmini.report.funnel import by_source, funnel
from yulanmini.report.page import filled
from yulanmini.report.svg import element, picture, text
from yulanmini.report.units import compact, integer, percent, significant, tick

WIDTH, HEIGHT = 330, 150
TOP, BOTTOM = 22, 26


def cleaning_page(summary: Mapping[str, Any]) -> str:
    """`report.html` of a cleaning run, from its summary (`data_recipes/cleaning/pipeline/summary.py`)."""
    kept, documents = summary["kept_documents"], summary["documents"]
    title = "What was kept, what was dropped, and why"
    steps = funnel(summary)
    most = max((row for row in steps if row["dropped"]), key=lambda row: row["dropped"], default=None)
    words = f"{integer(kept)} of {integer(documents)} documents of {len(summary['sources'])} sources were kept"
    if most:
        words += f"; the step {most['step']} dropped the most, {integer(most['dropped'])}"
    return filled(
        "cleaning",
        title=title,
        summary=f"{words}. Every document is in kept/ or in dropped/, there with its step and reason.",
        tiles=tiles(summary),
        **sections(summary),
    )


def sections(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows below its tiles; the page of a mixture of dialogues has the same."""
    return {
        "report": {"run": ", ".join(summary["sources"]), "notes": []},
        "funnel": funnel(summary),
        "sources": by_source(summary),
        "columns": columns(summary),
        "details": {step: found for step, found in summary["details"].items() if found},
        "samples": summary["samples"],
    }


def tiles(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures at the top of the page."""
    documents, characters = summary["documents"] or 1, summary["characters"] or 1
    shown = [
        ("Documents read", compact(summary["documents"]), f"{integer(len(summary['sources']))} sources"),
        ("Documents kept", compact(summary["kept_documents"]), percent(summary["kept_documents"] / documents, 1)),
        ("Characters kept", compact(summary["kept_characters"]), percent(summary["kept_characters"] / characters, 1)),
    ]
    return [{"label": label, "value": value, "note": note, "absent": False} for label, value, note in shown]


def columns(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The distributions, those of one step together, in the steps' order."""
    groups: dict[str, list[Markup]] = {step: [] for step in summary["steps"]}
    for name, found in summary["columns"].items():
        if found.get("counts") or found.get("values"):
            drawn = draw_values(name, found) if "values" in found else draw_histogram(name, found)
            groups[found["step"]].append(drawn)
    return [{"step": step, "charts": charts} for step, charts in groups.items() if charts]


def draw_histogram(name: str, found: Mapping[str, Any]) -> Markup:
    """Bars of equal width, the thresholds as lines at their place between the edges."""
    edges, counts, limits = found["edges"], found["counts"], found["limits"]
    low, highest = HEIGHT - BOTTOM, max(counts)
    wide = WIDTH / len(counts)
    drawn = [text(name, 0, 12, class_="label"), element("line", x1=0, x2=WIDTH, y1=low, y2=low, class_="axis")]
    for index, (count, (left, right)) in enumerate(zip(counts, pairwise(edges), strict=True)):
        tall = count / highest * (low - TOP)
        hint = element("title", f"{name} {tick(left)} to {tick(right)}\n{integer(count)} documents")
        box = {"x": index * wide, "y": low - tall, "width": max(wide - 1, 1.0), "height": tall}
        drawn.append(element("rect", hint, **box, style="fill:var(--line)", class_="segment"))
    for limit in limits:
        x = place(limit, edges) * WIDTH
        drawn.append(element("line", x1=x, x2=x, y1=TOP - 4, y2=low, class_="limit"))
        anchor = "end" if x > WIDTH / 2 else "start"
        drawn.append(text(tick(limit), x + (-3 if anchor == "end" else 3), TOP + 4, class_="note", text_anchor=anchor))
    for x, edge, anchor in ((0, edges[0], "start"), (WIDTH, edges[-1], "end")):
        drawn.append(text(significant(edge), x, HEIGHT - 10, class_="tick", text_anchor=anchor))
    middle = found["quantiles"]["0.5"]
    drawn.append(text(f"median {significant(middle)}", WIDTH / 2, HEIGHT - 10, class_="tick", text_anchor="middle"))
    thresholds = f", thresholds {', '.join(tick(limit) for limit in limits)}" if limits else ""
    return chart(
        name, drawn, f"{integer(found['documents'])} documents, median {significant(middle)}{thresholds}", HEIGHT
    )


def place(value: float, edges: Sequence[float]) -> float:
    """Where a value lies between the first edge (0) and the last (1), bins being of equal width."""
    for index, (left, right) in enumerate(pairwise(edges)):
        if value <= right:
            inside = (value - left) / (right - left) if right > left else 0.0
            return (index + min(max(inside, 0.0), 1.0)) / (len(edges) - 1)
    return 1.0


def draw_values(name: str, found: Mapping[str, Any]) -> Markup:
    """A bar for each of the most frequent values."""
    values = {**found["values"], **({"others": found["others"]} if found["others"] else {})}
    drawn, highest, total = [text(name, 0, 12, class_="label")], max(values.values()), sum(values.values())
    for index, (value, count) in enumerate(list(values.items())[:8]):
        y = 30 + 17 * index
        drawn.append(text(value[:14], 92, y, class_="tick", text_anchor="end"))
        long = max(count / highest * (WIDTH - 160), 1.0)
        drawn.append(element("rect", x=100, y=y - 9, width=long, height=11, style="fill:var(--line)"))
        drawn.append(text(percent(count / total, 1), 106 + long, y, class_="tick"))
    return chart(name, drawn, f"the most frequent of {integer(total)} values", 34 + 17 * min(len(values), 8))


def chart(name: str, drawn: Sequence[Markup], description: str, height: int) -> Markup:
    identity = f"column-{''.join(letter if letter.isalnum() else '-' for letter in name)}"
    size = {"width": WIDTH, "height": height}
    return picture(*drawn, **size, title=name, description=description, identity=identity, class_="chart")
