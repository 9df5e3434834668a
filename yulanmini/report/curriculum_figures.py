"""Figures over the phases: what each is made of, and held-out bits per byte after each."""

from typing import Any

from data_recipes.recipes.phases import is_annealing, is_branch
from yulanmini.report.collect import in_order
from yulanmini.report.figure import NARROW, Figure, colour, domain_name, line_figure, short_name
from yulanmini.report.line_chart import FULL, Band, Plot, Series
from yulanmini.report.mixture_chart import Segment, Stack, draw_mixture
from yulanmini.report.units import compact, integer, percent, significant

SUBSETS_SHOWN = 8


def heldout_figure(measured: dict[str, Any]) -> Figure:
    """Held-out bits per byte by domain, before training and after each phase."""
    phases, steps, domains = measured["phase"], measured["step"], in_order(measured["domains"])
    # A phase's name stands at its last measurement; those inside a phase (heldout.every_steps) have none.
    ends = [at for at in range(len(phases)) if at == len(phases) - 1 or phases[at + 1] != phases[at]]
    names = ["start" if phase is None else phase for phase in phases]
    annealed = [at for at, phase in enumerate(phases) if is_annealing(phase or "")]
    bands = [Band(steps[max(annealed[0] - 1, 0)], steps[-1], "annealing", "annealing")] if annealed else []
    plot = Plot(
        identity="heldout",
        title="Held-out bits per byte",
        description="Bits per byte on held-out text of each domain, before training and after each phase.",
        series=[
            Series(
                short_name(domain),
                steps,
                measured["domains"][domain]["bits_per_byte"],
                colour=colour(domain),
                label=f"{short_name(domain)} {significant(last_present(measured, domain))}",
            )
            for domain in domains
        ],
        bands=bands,
        x_caption="after phase",
        y_caption="bits per byte, lower is better",
        x_ticks=[(steps[at], names[at]) for at in ends],
        log=True,
        height=400,
        caption=f"Text set aside before anything else, never trained on; {measured['protocol']}. Logarithmic scale.",
        headers=["Domain", *(names[at] for at in ends)],
        rows=[
            [domain_name(domain), *(significant(measured["domains"][domain]["bits_per_byte"][at]) for at in ends)]
            for domain in domains
        ],
        legend=[(domain_name(domain), colour(domain)) for domain in domains],
        x_names=[
            "before training" if phase is None else f"phase {phase}, step {step:,}"
            for phase, step in zip(phases, steps, strict=True)
        ],
    )
    return line_figure(plot)


def last_present(measured: dict[str, Any], domain: str) -> float | None:
    values = [value for value in measured["domains"][domain]["bits_per_byte"] if value is not None]
    return values[-1] if values else None


def subset_hint(mix: dict[str, Any], domain: str) -> str:
    """The text shown at a segment: the domain's share and its largest subsets."""
    subsets = [subset for subset in mix["subsets"] if subset["domain"] == domain]
    lines = [f"Phase {mix['phase']} · {domain_name(domain)} {percent(mix['domains'][domain], 1)}"]
    lines += [f"{percent(subset['share'], 1)}  {subset['name']}" for subset in subsets[:SUBSETS_SHOWN]]
    if len(subsets) > SUBSETS_SHOWN:
        rest = sum(subset["share"] for subset in subsets[SUBSETS_SHOWN:])
        lines.append(f"{percent(rest, 1)}  {len(subsets) - SUBSETS_SHOWN} more")
    return "\n".join(lines)


def distance_from_published(mixes: list[dict[str, Any]]) -> str:
    """How far rounding to whole rows has moved the domains' shares, in words."""
    distances = [
        abs(mix["domains"].get(domain, 0.0) - share)
        for mix in mixes
        for domain, share in (mix["published"] or {}).items()
    ]
    if not distances:
        return ""
    return f"Shares are within {max(distances) * 100:.1f} points of the published mixes. "


def mixture_figure(mixes: list[dict[str, Any]]) -> Figure:
    """The curriculum: what each phase is made of."""
    domains = in_order({domain for mix in mixes for domain in mix["domains"]})
    stacks = [
        Stack(
            mix["phase"],
            [
                Segment(mix["domains"][domain], colour(domain), subset_hint(mix, domain))
                for domain in domains
                if domain in mix["domains"]
            ],
        )
        for mix in mixes
    ]
    description = "Share of each domain in the tokens of each phase. " + "; ".join(
        f"{domain_name(domain)} {percent(mixes[0]['domains'].get(domain, 0))} in phase {mixes[0]['phase']}, "
        f"{percent(mixes[-1]['domains'].get(domain, 0))} in phase {mixes[-1]['phase']}"
        for domain in domains
    )
    title = "What each phase is made of"
    branch = any(is_branch(mix["phase"]) for mix in mixes)
    return Figure(
        identity="mixture",
        title=title,
        caption=distance_from_published(mixes)
        + "Point at a segment, or tap it, for its subsets."
        + (" Paler: the 4K variant of phase 26, a branch beside the main line." if branch else ""),
        wide=draw_mixture(stacks, title=title, description=description, width=FULL, narrow=False),
        narrow=draw_mixture(stacks, title=title, description=description, width=NARROW, narrow=True),
        headers=["Phase", "Context", "Rows", "Tokens", "Subsets", *(short_name(d) for d in domains)],
        rows=[
            [
                mix["phase"],
                integer(mix["context_length"]),
                integer(mix["rows"]),
                compact(mix["tokens"]),
                str(len(mix["subsets"])),
                *(percent(mix["domains"].get(domain, 0.0), 1) for domain in domains),
            ]
            for mix in mixes
        ],
        legend=[(domain_name(domain), colour(domain)) for domain in reversed(domains)],
    )
