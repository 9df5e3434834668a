"""A small SVG writer: escaped elements, axes with round ticks, smooth paths. Knows nothing of the report."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate with at most one decimal: a tenth of a pixel is below what a screen shows."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def element(name: str, *children: object, **attributes: object) -> Markup:
    """One element. Text and attribute values are escaped; `Markup` children are put in as they are.

    `class_` and underscores become `class` and hyphens; attributes that are None are left out.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        shown = number(value) if isinstance(value, float) else value
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    body = "".join(escape(child) for child in children)
    return Markup("".join(parts) + (f">{body}</{name}>" if body else "/>"))


def picture(
    *children: object, width: int, height: int, title: str, description: str, identity: str, **attributes: object
) -> Markup:
    """The `<svg>` itself, with the title and description for screen readers."""
    return element(
        "svg",
        element("title", title, id=f"{identity}-title"),
        element("desc", description, id=f"{identity}-desc"),
        *children,
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{identity}-title {identity}-desc",
        **attributes,
    )


def text(content: str, x: float, y: float, **attributes: object) -> Markup:
    """A line of text with its baseline at (x, y)."""
    return element("text", content, x=x, y=y, **attributes)


def path(points: Iterable[Point | None]) -> str:
    """The `d` of a line through the points; None lifts the pen (a value that is not there)."""
    parts, pen_down = [], False
    for point in points:
        if point is None:
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{number(point[0])} {number(point[1])}")
        pen_down = True
    return "".join(parts)


@dataclass(frozen=True)
class Scale:
    """From data to pixels, linear or logarithmic; `low` and `high` are the data at `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values inside the range."""
        return log_ticks(self.low, self.high, count) if self.log else linear_ticks(self.low, self.high, count)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between `low` and `high`."""
    rough = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten between `low` and `high`; with few of them, 2 and 5 times those too, or evenly spaced ones."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [10.0**exponent for exponent in range(first, last + 1)]
    inside = [value for value in powers if low <= value <= high]
    if len(inside) >= 3:
        return inside[:: math.ceil(len(inside) / count)]
    finer = [power * factor for power in powers for factor in (1, 2, 5)]
    inside = [value for value in finer if low <= value <= high]
    return inside if len(inside) >= 3 else linear_ticks(low, high, count)


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Positions as close to `wanted` as can be (least squares) with `gap` between neighbours, within [low, high].

    Isotonic regression: with the gaps taken out, neighbours in the wrong order share their mean.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        mean, count = wanted[index] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            above, members = blocks.pop()
            mean, count = (above * members + mean * count) / (members + count), members + count
        blocks.append((mean, count))
    last = max(high - (len(wanted) - 1) * gap, low)
    packed = [min(max(mean, low), last) for mean, count in blocks for _ in range(count)]
    placed = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        placed[index] = packed[rank] + rank * gap
    return placed


def smooth(values: Sequence[float | None], window: int, average: Callable[[list[float]], float]) -> list[float | None]:
    """A centred moving average over `window` values; absent values are skipped, not counted as zero."""
    half = window // 2
    result: list[float | None] = []
    for index in range(len(values)):
        near = [value for value in values[max(index - half, 0) : index + half + 1] if value is not None]
        result.append(average(near) if near else None)
    return result
