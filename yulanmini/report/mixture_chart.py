"""Stacked bars: what each phase's tokens are made of, one bar a phase, one segment a domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from yulanmini.report.svg import element, picture, text

TOP, BOTTOM, LEFT = 26, 44, 38
SEGMENT_GAP = 1.2


@dataclass(frozen=True)
class Segment:
    """A domain's share of a phase (0 to 1), and the lines shown when it is pointed at."""

    domain: str
    share: float
    hint: str


@dataclass(frozen=True)
class Stack:
    """One phase. A `branch` is a mix beside the main line (26-4k), an `annealing` phase is marked below."""

    label: str
    segments: Sequence[Segment]
    branch: bool = False
    annealing: bool = False


def draw_stack(stack: Stack, *, left: float, width: float, height: float, colours: Mapping[str, str]) -> list[Markup]:
    """Segments from the bottom up, a hair of background between them."""
    drawn, filled = [], 0.0
    for segment in stack.segments:
        tall = segment.share * height
        filled += tall
        if tall <= 0:
            continue
        gap = SEGMENT_GAP if tall > 3 * SEGMENT_GAP else 0
        box = element(
            "rect",
            element("title", segment.hint),
            x=left,
            y=TOP + height - filled,
            width=width,
            height=tall - gap,
            style=f"--c:{colours[segment.domain]}",
            class_="segment",
        )
        drawn.append(box)
    return drawn


def draw_mixture(
    stacks: Sequence[Stack],
    *,
    colours: Mapping[str, str],
    identity: str,
    title: str,
    description: str,
    width: int,
    narrow: bool,
) -> Markup:
    """The chart as one `<svg>`; a gap sets the annealing mixes apart from the stable ones."""
    total = 250 if narrow else 330
    height = total - TOP - BOTTOM
    breaks = [index for index in range(1, len(stacks)) if stacks[index].annealing != stacks[index - 1].annealing]
    pause = 6 if narrow else 16
    slot = (width - LEFT - pause * len(breaks)) / max(len(stacks), 1)
    thickness = slot * (0.86 if narrow else 0.8)
    drawn = [text("share of tokens", 0, 12, class_="caption")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        level = TOP + height * (1 - share)
        drawn.append(element("line", x1=LEFT, x2=width, y1=level, y2=level, class_="grid"))
        drawn.append(text(f"{share:.0%}", LEFT - 7, level + 4, class_="tick", text_anchor="end"))
    left, occupied = float(LEFT), -1e9
    annealed: list[float] = []
    for index, stack in enumerate(stacks):
        left += pause if index in breaks else 0
        bars = draw_stack(stack, left=left, width=thickness, height=height, colours=colours)
        drawn.append(element("g", *bars, class_="stack branch" if stack.branch else "stack"))
        middle, half = left + thickness / 2, len(stack.label) * 3.1
        # On a narrow page the first, the last and every fifth of the others is named.
        fifth = not stack.annealing and (index + 1) % 5 == 0
        wanted = not narrow or fifth or index in (0, len(stacks) - 1)
        if wanted and middle - half > occupied + 3:
            drawn.append(text(stack.label, middle, TOP + height + 16, class_="tick", text_anchor="middle"))
            occupied = middle + half
        if stack.annealing:
            annealed += [left, left + thickness]
        left += slot
    drawn.append(text("phase", LEFT, total - 8, class_="tick"))
    if annealed:
        level = TOP + height + 24
        drawn.append(element("line", x1=annealed[0], x2=annealed[-1], y1=level, y2=level, class_="annealing-rule"))
        drawn.append(text("annealing", annealed[-1], total - 6, class_="band-label annealing", text_anchor="end"))
    size = "narrow" if narrow else "wide"
    return picture(
        *drawn,
        width=width,
        height=total,
        title=title,
        description=description,
        identity=f"{identity}-{size}",
        class_=f"chart {size}",
    )
