"""Line charts over training steps or phases: bands behind, axes, lines, labels at the line ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from yulanmini.report.svg import Scale, element, number, path, picture, spread, text
from yulanmini.report.units import significant, tick

FULL, HALF = 1040, 500
TOP, BOTTOM, LEFT = 40, 34, 46
LABEL_GAP, CHARACTER_WIDTH, LABEL_CHARACTER = 14, 6.4, 7.6  # labels are bold


@dataclass(frozen=True)
class Series:
    """One line. `colour` is a CSS colour; `faint` is raw data behind a smoothed line, without a label."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str = "var(--line)"
    label: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Band:
    """A stretch of the x axis with a name above it; `kind` is "even", "odd" or "annealing"."""

    start: float
    end: float
    label: str
    kind: str


@dataclass(frozen=True)
class Plot:
    """A line chart and what stands around it: its caption, its legend (name and colour), its numbers as a table.

    `width` is that on a wide page; `x_names` and `show` are how x and y are written at the pointer.
    """

    identity: str
    title: str
    description: str
    series: Sequence[Series]
    x_caption: str
    y_caption: str
    bands: Sequence[Band] = ()
    log: bool = False
    floor: float | None = None
    limits: Sequence[tuple[float, str]] = ()
    height: int = 320
    width: int = FULL
    x_ticks: Sequence[tuple[float, str]] = ()
    x_names: Sequence[str] = ()
    show: Callable[[float | None], str] = significant
    caption: str = ""
    legend: Sequence[tuple[str, str]] = ()
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def y_range(plot: Plot) -> tuple[float, float]:
    """The values' range with a little air; a floor (zero, say) is kept exactly."""
    values = [value for series in plot.series for value in series.y if value is not None]
    values += [value for value, _ in plot.limits]
    if plot.log:
        values = [value for value in values if value > 0]
    if not values:
        return (0.1, 1) if plot.log else (0, 1)
    low, high = min(values), max(values)
    if plot.log:
        air = max((high / low) ** 0.06, 1.05)
        return low / air, high * air
    air = (high - low) * 0.06 or max(abs(high) * 0.1, 0.1)
    return (low - air if plot.floor is None else plot.floor), high + air


def draw_bands(plot: Plot, x: Scale, bottom: float) -> list[Markup]:
    """Shaded stretches; their names stand above the plot as far as there is room for them."""
    drawn, labels, occupied = [], [], -1e9
    rightmost = x.end + 8
    for band in sorted(plot.bands, key=lambda band: band.kind != "annealing"):
        left, right = x(band.start), x(band.end)
        if band.kind != "even":
            drawn.append(
                element("rect", x=left, y=TOP, width=right - left, height=bottom - TOP, class_=f"band {band.kind}")
            )
    reserved = [(x(band.start), x(band.end)) for band in plot.bands if band.kind == "annealing" and band.label]
    for band in plot.bands:
        width = len(band.label) * CHARACTER_WIDTH
        middle = min((x(band.start) + x(band.end)) / 2, rightmost - width / 2)
        edge = (middle - width / 2, middle + width / 2)
        annealing = band.kind == "annealing"
        blocked = not annealing and any(edge[0] < stop + 3 and edge[1] > start - 3 for start, stop in reserved)
        if not band.label or blocked or edge[0] < occupied + 4:
            continue
        occupied = edge[1]
        kind = "band-label annealing" if annealing else "band-label"
        labels.append(text(band.label, middle, TOP - 6, class_=kind, text_anchor="middle"))
    return drawn + labels


def draw_axes(plot: Plot, x: Scale, y: Scale, *, width: int, height: int, right: float) -> list[Markup]:
    """Grid lines, tick labels and the two captions."""
    bottom = height - BOTTOM
    drawn = [text(plot.y_caption, 0, 14, class_="caption")]
    for value in y.ticks(5):
        drawn.append(element("line", x1=LEFT, x2=right, y1=y(value), y2=y(value), class_="grid"))
        drawn.append(text(tick(value), LEFT - 8, y(value) + 4, class_="tick", text_anchor="end"))
    ticks = plot.x_ticks or [(value, tick(value)) for value in x.ticks(5 if width < 500 else 9)]
    occupied = -1e9
    # The axis' name stands in the margin of the line labels where it fits, else it takes the last tick's place.
    name_width = len(plot.x_caption) * CHARACTER_WIDTH
    outside = width - right > name_width + 10
    caption_start = width if outside else right - name_width - 8
    for value, label in ticks:
        half = len(label) * CHARACTER_WIDTH / 2
        if x(value) - half < occupied + 8 or x(value) + half > caption_start:
            continue
        occupied = x(value) + half
        drawn.append(text(label, x(value), bottom + 18, class_="tick", text_anchor="middle"))
    drawn.append(text(plot.x_caption, width if outside else right, bottom + 18, class_="tick", text_anchor="end"))
    drawn.append(element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    return drawn


def draw_limits(plot: Plot, y: Scale, *, right: float) -> list[Markup]:
    """Horizontal limits, dashed, each with its name."""
    drawn = []
    for value, label in plot.limits:
        drawn.append(element("line", x1=LEFT, x2=right, y1=y(value), y2=y(value), class_="limit"))
        drawn.append(text(label, right - 4, y(value) - 5, class_="note", text_anchor="end"))
    return drawn


def draw_labels(plot: Plot, x: Scale, y: Scale, *, right: float, bottom: float) -> list[Markup]:
    """Names at the ends of the lines, moved apart where they would overlap, each tied to its line."""
    ends = []
    for series in plot.series:
        present = [(at, value) for at, value in zip(series.x, series.y, strict=True) if value is not None]
        if series.label and present:
            ends.append((series, x(present[-1][0]), y(present[-1][1])))
    places = spread([end[2] for end in ends], gap=LABEL_GAP, low=TOP, high=bottom)
    drawn = []
    for (series, at, end), place in zip(ends, places, strict=True):
        style = f"--c:{series.colour}"
        drawn.append(element("circle", cx=at, cy=end, r=2.6, class_="end", style=style))
        if abs(place - end) > 3 or right - at > 3:
            leader = path([(at + 4, end), (right + 4, end), (right + 11, place)])
            drawn.append(element("path", d=leader, class_="leader", style=style))
        drawn.append(text(series.label, right + 13, place + 4, class_="label", style=style))
    return drawn


def draw_lines(plot: Plot, *, width: int, narrow: bool) -> Markup:
    """The chart as one `<svg>` of `width` user units."""
    height = min(plot.height, 260) if narrow else plot.height
    longest = max((len(series.label) for series in plot.series), default=0)
    right = width - (longest * LABEL_CHARACTER + 16 if longest else 8)
    bottom = height - BOTTOM
    steps = [at for series in plot.series for at in series.x]
    steps += [edge for band in plot.bands for edge in (band.start, band.end)]
    low, high = (min(steps), max(steps)) if steps else (0, 1)
    x = Scale(low, high if high > low else low + 1, LEFT, right)
    y = Scale(*y_range(plot), bottom, TOP, log=plot.log)
    lines = [
        element(
            "path",
            d=path(
                None if value is None or (plot.log and value <= 0) else (x(at), y(value))
                for at, value in zip(series.x, series.y, strict=True)
            ),
            class_="line faint" if series.faint else "line",
            style=f"--c:{series.colour}",
        )
        for series in plot.series
    ]
    size = "narrow" if narrow else "wide"
    # The page's script turns the pointer's position into a value of x with this.
    ranges = f"{number(x.start)} {number(x.end)} {x.low:g} {x.high:g}"
    return picture(
        *draw_bands(plot, x, bottom),
        *draw_axes(plot, x, y, width=width, height=height, right=right),
        *lines,
        *draw_limits(plot, y, right=right),
        *draw_labels(plot, x, y, right=right, bottom=bottom),
        element("line", x1=0, x2=0, y1=TOP, y2=bottom, class_="cursor", visibility="hidden"),
        width=width,
        height=height,
        title=plot.title,
        description=plot.description,
        identity=f"{plot.identity}-{size}",
        class_=f"chart {size}",
        data_x=ranges,
    )
