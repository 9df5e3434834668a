"""How figures of this room look, and how they are saved: matplotlib, imported when something is drawn.

The same data gives the same file, byte for byte.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.errors import TrainError

STYLE = {
    "svg.hashsalt": "yulanmini",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#e4e4e0",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}
FORMATS = (".svg", ".png", ".pdf")


def make_panels(rows: int, columns: int, *, width: float, height: float, **options: Any) -> tuple[Any, Any]:
    """A figure of `rows` x `columns` panels, each `width` x `height` inches; axes always as a 2-d array."""
    figure_class, rc_context = _matplotlib()
    with rc_context(STYLE):
        figure = figure_class(figsize=(width * columns, height * rows), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def styled() -> Any:
    """A context in which text and lines drawn later have the room's style, too."""
    _, rc_context = _matplotlib()
    return rc_context(STYLE)


def shades(count: int) -> list[Any]:
    """`count` colours from dark (first layer, narrowest) to bright (last layer, widest)."""
    from matplotlib import colormaps

    palette = colormaps["viridis"]
    return [palette(0.92 * index / max(count - 1, 1)) for index in range(count)]


def save(figure: Any, path: Path) -> None:
    """Write the figure whole or not at all; the ending chooses the format."""
    if path.suffix.lower() not in FORMATS:
        raise TrainError(f"{path}: a figure can be written as {', '.join(FORMATS)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(as_bytes(figure, path.suffix.lower()[1:]))
    partial.replace(path)


def as_bytes(figure: Any, form: str) -> bytes:
    """The figure as a file's content."""
    _, rc_context = _matplotlib()
    buffer = io.BytesIO()
    # Dates and version numbers would make two files of the same data differ.
    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    with rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=150, metadata=metadata[form])
    return buffer.getvalue()


def smoothed(values: Sequence[float | None], window: int) -> list[float | None]:
    """Centred moving average that leaves out missing values."""
    half = window // 2
    found: list[float | None] = []
    for at in range(len(values)):
        near = [value for value in values[max(at - half, 0) : at + half + 1] if value is not None]
        found.append(sum(near) / len(near) if near else None)
    return found


def _matplotlib() -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    return Figure, rc_context
