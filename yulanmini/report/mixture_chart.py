"""Bars: what each phase's tokens are made of, one stack a phase, one segment a domain; and groups of plain bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from data_recipes.recipes.phases import is_annealing, is_branch
from yulanmini.report.svg import element, picture, text

TOP, BOTTOM, LEFT = 26, 44, 38
SEGMENT_GAP = 1.2
NUMBER_HEIGHT, NUMBER_WIDTH = 13, 18
BAR_LINE, NAME_WIDTH, NAME_LENGTH = 18, 260, 38


@dataclass(frozen=True)
class Segment:
    """A part's share of a phase (0 to 1), its CSS colour, and the lines shown when it is pointed at."""

    share: float
    colour: str
    hint: str


@dataclass(frozen=True)
class Stack:
    """One phase. A mix beside the main line (26-4k) is drawn paler, annealing phases are marked below."""

    phase: str
    segments: Sequence[Segment]


def draw_stack(stack: Stack, *, left: float, width: float, height: float) -> list[Markup]:
    """Segments from the bottom up, a hair of background between them; their shares in %, where there is room."""
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
            style=f"fill:{segment.colour}",
            class_="segment",
        )
        drawn.append(box)
        if tall > NUMBER_HEIGHT and width > NUMBER_WIDTH:
            middle, baseline = left + width / 2, TOP + height - filled + tall / 2 + 3.5
            drawn.append(text(f"{100 * segment.share:.0f}", middle, baseline, class_="share", text_anchor="middle"))
    return drawn


def draw_mixture(
    stacks: Sequence[Stack],
    *,
    title: str,
    description: str,
    width: int,
    narrow: bool,
) -> Markup:
    """The chart as one `<svg>`; a gap sets the annealing mixes apart from the stable ones."""
    total = 250 if narrow else 330
    height = total - TOP - BOTTOM
    annealing = [is_annealing(stack.phase) for stack in stacks]
    breaks = [index for index in range(1, len(stacks)) if annealing[index] != annealing[index - 1]]
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
        bars = draw_stack(stack, left=left, width=thickness, height=height)
        drawn.append(element("g", *bars, class_="stack branch" if is_branch(stack.phase) else "stack"))
        middle, half = left + thickness / 2, len(stack.phase) * 3.1
        # On a narrow page the first, the last and every fifth of the others is named.
        fifth = not annealing[index] and (index + 1) % 5 == 0
        wanted = not narrow or fifth or index in (0, len(stacks) - 1)
        if wanted and middle - half > occupied + 3:
            drawn.append(text(stack.phase, middle, TOP + height + 16, class_="tick", text_anchor="middle"))
            occupied = middle + half
        if annealing[index]:
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
        identity=f"mixture-{size}",
        class_=f"chart {size}",
    )


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart: its name, its length as a share of the whole, the number beside it, its colour."""

    name: str
    share: float
    number: str
    colour: str


def draw_bars(groups: Mapping[str, Sequence[Bar]], *, title: str, width: int) -> tuple[Markup, int]:
    """Groups of horizontal bars under their captions, and the height that they take."""
    drawn, top = [text(title, 0, 16, class_="label")], 30
    for caption, bars in groups.items():
        top += BAR_LINE
        drawn.append(text(caption, 0, top, class_="caption"))
        longest = max((bar.share for bar in bars), default=0) or 1
        for bar in bars:
            top += BAR_LINE
            long = bar.share / longest * (width - NAME_WIDTH - 70)
            name = bar.name if len(bar.name) <= NAME_LENGTH else f"…{bar.name[1 - NAME_LENGTH :]}"
            drawn.append(text(name, NAME_WIDTH - 8, top, class_="tick", text_anchor="end"))
            style = f"fill:{bar.colour}"
            drawn.append(element("rect", x=NAME_WIDTH, y=top - 10, width=long, height=12, style=style))
            drawn.append(text(bar.number, NAME_WIDTH + long + 6, top, class_="tick"))
        top += BAR_LINE // 2
    return element("g", *drawn), top
