"""A figure of the report: a chart at two widths (a wide and a narrow page), what is said under it, a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from yulanmini.report.line_chart import Plot, draw_lines
from yulanmini.report.units import significant

FULL, HALF, NARROW = 1040, 500, 360
DOMAIN_NAMES = {
    "web-en": "Web, English",
    "web-zh": "Web, Chinese",
    "code": "Code",
    "math": "Math",
    "books-papers-encyclopedia": "Books, papers, encyclopedia",
    "instruction-synthetic": "Instruction and synthetic",
}
SHORT_NAMES = {
    "web-en": "Web en",
    "web-zh": "Web zh",
    "code": "Code",
    "math": "Math",
    "books-papers-encyclopedia": "Books",
    "instruction-synthetic": "Instruct.",
}


@dataclass(frozen=True)
class Figure:
    """A chart ready for the page. `hover` is what the page's script shows at the pointer (x and lines)."""

    identity: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Sequence[tuple[str, str]] = ()
    hover: dict[str, Any] | None = None


def colour(domain: str) -> str:
    """The CSS colour of a domain; one that is not of the six is drawn in grey."""
    return f"var(--{domain})" if domain in DOMAIN_NAMES else "var(--muted)"


def domain_name(domain: str) -> str:
    return DOMAIN_NAMES.get(domain, domain)


def short_name(domain: str) -> str:
    """A domain's name where there is little room; other names as they are."""
    return SHORT_NAMES.get(domain, domain)


def line_figure(
    plot: Plot,
    *,
    caption: str,
    width: int,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    x_names: Sequence[str] = (),
    legend: Sequence[tuple[str, str]] = (),
    show: Callable[[float | None], str] = significant,
) -> Figure:
    """A line chart with its table; what the pointer shows is the lines' own values, already formatted."""
    spoken = [series for series in plot.series if series.name]
    grid = spoken[0].x if spoken else []
    hover = {
        "x": [float(at) for at in grid],
        "names": list(x_names) or [f"step {at:,}" for at in grid],
        "lines": [
            {"name": series.name, "colour": series.colour, "y": [show(value) for value in series.y]}
            for series in spoken
            if len(series.x) == len(grid)
        ],
    }
    return Figure(
        identity=plot.identity,
        title=plot.title,
        caption=caption,
        wide=draw_lines(plot, width=width, narrow=False),
        narrow=draw_lines(plot, width=NARROW, narrow=True),
        headers=headers,
        rows=rows,
        legend=legend,
        hover=hover,
    )
