"""A figure of the report: a chart at two widths (a wide and a narrow page), caption, legend, numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from yulanmini.report.line_chart import Plot, draw_lines

NARROW = 360
# A domain's name, and a short one where there is little room.
DOMAIN_NAMES = {
    "web-en": ("Web, English", "Web en"),
    "web-zh": ("Web, Chinese", "Web zh"),
    "code": ("Code", "Code"),
    "math": ("Math", "Math"),
    "books-papers-encyclopedia": ("Books, papers, encyclopedia", "Books"),
    "instruction-synthetic": ("Instruction and synthetic", "Instruct."),
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
    """The name of a domain; other names as they are."""
    return DOMAIN_NAMES.get(domain, (domain, domain))[0]


def short_name(domain: str) -> str:
    """A domain's name where there is little room; other names as they are."""
    return DOMAIN_NAMES.get(domain, (domain, domain))[1]


def line_figure(plot: Plot) -> Figure:
    """A line chart with its table; what the pointer shows is the lines' own values, already formatted."""
    named = [series for series in plot.series if series.name]
    grid = named[0].x if named else []
    hover = {
        "x": [float(at) for at in grid],
        "names": list(plot.x_names) or [f"step {at:,}" for at in grid],
        "lines": [
            {"name": series.name, "colour": series.colour, "y": [plot.show(value) for value in series.y]}
            for series in named
            if len(series.x) == len(grid)
        ],
    }
    return Figure(
        identity=plot.identity,
        title=plot.title,
        caption=plot.caption,
        wide=draw_lines(plot, width=plot.width, narrow=False),
        narrow=draw_lines(plot, width=NARROW, narrow=True),
        headers=plot.headers,
        rows=plot.rows,
        legend=plot.legend,
        hover=hover,
    )
