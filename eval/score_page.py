"""Sheets of scores as Markdown, and as an HTML page that fetches nothing, its figures inside it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from data_recipes.files import write_whole
from eval.published_table import Sheet
from eval.score_plots import GRID, INK, PAPER

ENDINGS = (".html", ".md")


def write_sheets(path: Path, beside: Sequence[Sheet], all_rows: Sequence[Sheet], figures: Mapping[str, str]) -> None:
    """Write a .md or .html file: sheets beside published ones, `figures` (SVG by title, in a page only), all rows."""
    is_markdown = path.suffix.lower() == ".md"
    content = markdown([*beside, *all_rows]) if is_markdown else page(beside, all_rows, figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def markdown(sheets: Sequence[Sheet]) -> str:
    """GitHub's tables; measured rows in bold."""
    parts = []
    for sheet in sheets:
        lines = [f"## {sheet.title}", "", _line(sheet.headings)]
        rules = ("---" if index in sheet.words else "---:" for index in range(len(sheet.headings)))
        lines.append(_line(list(rules)))
        for row, measured in zip(sheet.rows, sheet.measured, strict=True):
            lines.append(_line([f"**{escaped(cell)}**" if measured and cell else escaped(cell) for cell in row]))
        lines += ["", *(f"- {escaped(note)}" for note in sheet.notes)]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Text that Markdown takes as it is: names come from folders and tasks of anyone's making."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split()))


def page(beside: Sequence[Sheet], all_rows: Sequence[Sheet], figures: Mapping[str, str]) -> str:
    """One HTML page, in the reader's light or dark colours, also on a narrow screen."""
    environment = Environment(
        loader=PackageLoader("eval", "published"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawings = {title: Markup(in_page_colours(svg)) for title, svg in figures.items()}
    return environment.get_template("comparison.html.jinja").render(beside=beside, all_rows=all_rows, figures=drawings)


def in_page_colours(svg: str) -> str:
    """A figure whose ink, grid and paper are the page's, dark where that is; without what stands before `<svg`."""
    svg = svg[svg.index("<svg") :]
    for colour, name in ((INK, "ink"), (GRID, "rule"), (PAPER, "paper")):
        svg = svg.replace(colour, f"var(--{name})")
    return svg
