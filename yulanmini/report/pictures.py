"""Charts of the report as files of their own: the mixes of a curriculum, and what a built phase is made of."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_recipes.files import write_whole
from data_recipes.manifest import check_new_file
from data_recipes.recipes.recipe import DOMAINS, Recipe
from data_recipes.recipes.shares import FAMILIES, tokens_by_family
from yulanmini.report.figure import colour, domain_name
from yulanmini.report.line_chart import FULL
from yulanmini.report.mixture_chart import Bar, Segment, Stack, draw_bars, draw_mixture
from yulanmini.report.svg import element, text
from yulanmini.report.units import compact, integer, percent

LEGEND_WIDTH, LEGEND_LINE = 210, 17
LARGEST_SUBSETS = 15
PICTURE_FORMATS = (".svg",)


def draw_curriculum(out: Path, recipes: Sequence[Recipe], *, by: str) -> None:
    """The mixes as stacked bars, by domain or by family of sources, as one SVG."""
    check_new_file(out, endings=PICTURE_FORMATS)
    if by == "domain":
        layers = {domain: (domain_name(domain), colour(domain)) for domain in DOMAINS}
    else:
        layers = {family: (family, family_colour(family)) for family in FAMILIES}
    stacks = []
    for recipe in recipes:
        tokens = tokens_by_family(recipe, by=by)
        shares = {name: tokens[name] / recipe.tokens for name in layers}
        segments = [
            Segment(share, layers[name][1], f"Phase {recipe.key} · {layers[name][0]} {percent(share, 1)}")
            for name, share in shares.items()
        ]
        stacks.append(Stack(recipe.key, segments))
    title = f"What each phase is made of, by {by}"
    chart = draw_mixture(stacks, title=title, description=title, width=FULL, narrow=False)
    legend = []
    for place, (name, shade) in enumerate(reversed(layers.values())):
        top = 26 + LEGEND_LINE * place
        legend.append(element("rect", x=FULL + 24, y=top, width=10, height=10, style=f"fill:{shade}"))
        legend.append(text(name, FULL + 40, top + 9))
    height = max(330, 40 + LEGEND_LINE * len(layers))
    write_picture(out, [chart, *legend], width=FULL + LEGEND_WIDTH, height=height)


def draw_phase(out: Path, stats: dict[str, Any]) -> None:
    """Domains, largest subsets and lengths of a built phase as bars, as one SVG; `stats` are those of `phase_stats`."""
    check_new_file(out, endings=PICTURE_FORMATS)
    largest = sorted(stats["subsets"], key=lambda subset: -subset["tokens"])[:LARGEST_SUBSETS]
    pieces = sum(stats["piece_lengths"].values()) or 1
    groups = {
        "Domains, share of tokens": [
            Bar(domain_name(name), entry["share"], percent(entry["share"], 1), colour(name))
            for name, entry in stats["domains"].items()
        ],
        "Largest subsets, share of tokens": [
            Bar(subset["name"], subset["share"], percent(subset["share"], 1), colour(subset["domain"] or ""))
            for subset in largest
        ],
        "Tokens of a document in a row, number of pieces": [
            Bar(bound, count / pieces, integer(count), "var(--line)") for bound, count in stats["piece_lengths"].items()
        ],
    }
    title = (
        f"{stats['name']}: {compact(stats['tokens'])} tokens in {integer(stats['rows'])} rows of "
        f"{integer(stats['context_length'])}, {integer(stats['documents'])} documents, fill {stats['fill']:.2%}"
    )
    chart, height = draw_bars(groups, title=title, width=FULL)
    write_picture(out, [chart], width=FULL, height=height)


def write_picture(out: Path, parts: Sequence[Markup], *, width: int, height: int) -> None:
    """One SVG file that needs nothing else: the charts' styles inside, in the light colours as numbers."""
    styles = chart_styles()
    drawing = element(
        "svg",
        element("style", Markup(styles[styles.index(".chart text") :])),
        element("rect", x=-12, y=-8, width=width + 24, height=height + 16, fill="var(--paper)"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"-12 -8 {width + 24} {height + 16}",
        class_="chart",
    )
    colours = light_colours()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, re.sub(r"var\(--([\w-]+)\)", lambda found: colours.get(found[1], "currentColor"), drawing) + "\n")


def chart_styles() -> str:
    return files("yulanmini.report").joinpath("chart.css").read_text(encoding="utf-8")


def light_colours() -> dict[str, str]:
    """The page's variables outside its dark mode: colours and fonts. Many programs know no variables."""
    styles = chart_styles()
    found = re.findall(r"--([\w-]+): ([^;]+);", styles[: styles.index("@media")])
    return {name: value.replace('"', "'") for name, value in found}


def family_colour(family: str) -> str:
    """The colour of the family's domain, lighter from one family to the next."""
    domain = FAMILIES[family][0]
    siblings = [name for name, (other, _) in FAMILIES.items() if other == domain]
    lightness = 0.72 * siblings.index(family) / len(siblings)
    channels = bytes.fromhex(light_colours()[domain].removeprefix("#"))
    return "#" + bytes(round(channel + (255 - channel) * lightness) for channel in channels).hex()
