"""The pages: a template filled with charts and the texts of the sections; the figures beside it as JSON."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from data_recipes.files import write_whole
from hub_cards.cards.as_html import card_html
from yulanmini.report import scores, sections, units
from yulanmini.report.collect import collect, collect_training
from yulanmini.report.curriculum_figures import heldout_figure, mixture_figure
from yulanmini.report.figure import colour, domain_name
from yulanmini.report.funnel import by_source
from yulanmini.report.training_figures import training_figures
from yulanmini.report.tuning_figures import tuning_figures

PLAIN = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "−0123456789")


def write_report(run: Path) -> tuple[Path, Path]:
    """Write `report.html`, `report.json` and the pages of cards into `run`, each whole or not at all; returns the first
    two paths.

    Raises RunError when `run` is not a folder, OSError when it cannot be written to.
    """
    report = collect(run)
    html, figures = Path(run) / "report.html", Path(run) / "report.json"
    write_card_pages(Path(run), report["hub"]["repos"] if report["hub"] else [])
    write_whole(figures, json.dumps(report, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")
    write_whole(html, render(report))
    return html, figures


def write_card_pages(run: Path, repos: list[dict[str, str]]) -> None:
    """The card of each repo as a page, so that a browser shows it."""
    to_run = "../" * 3  # from a repo, where a card's pictures are: the base of its links
    pages = {repo["repo"]: to_run + repo["page"] for repo in repos}
    for repo in repos:
        card = (run / repo["folder"] / "README.md").read_text(encoding="utf-8", errors="replace")
        header, body = card_html(card, pages)
        page = run / repo["page"]
        page.parent.mkdir(exist_ok=True)
        values = {"repo": repo["repo"], "base": f"../{repo['folder']}/", "to_run": to_run, "header": header}
        write_whole(page, filled("card", **values, body=Markup(body)))


def write_training_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of a training run's folder (default: `report.html` in it); returns its path."""
    html = out or Path(run) / "report.html"
    write_whole(html, render_training(collect_training(run)))
    return html


def render(report: dict[str, Any]) -> str:
    """The page of a whole run as one string."""
    return page(
        "report",
        report,
        title="YuLan-Mini in miniature",
        summary=sections.summary(report),
        tiles=sections.tiles(report),
        stages=sections.stages(report),
        mixture=mixture_figure(report["mixture"]) if report["mixture"] else None,
        tuning=tuning_figures(report["tuning"]),
        parity=sections.parity(report["merge"]),
        score_tables=scores.score_tables(report["scores"], report["heldout"]),
        samples=scores.samples(report["scores"]),
        text=sections.text(report["corpus"], report["tokenizer"]),
        sources=by_source(report["cleaning"]) if report["cleaning"] else [],
        leads=sections.leads(report),
        commands=sections.commands(report),
    )


def render_training(report: dict[str, Any]) -> str:
    """The page of a training run as one string."""
    return page(
        "training",
        report,
        title="Training dynamics",
        summary=sections.training_summary(report["pretraining"]),
        tiles=sections.training_tiles(report["pretraining"]),
        leads=sections.leads(report | {"settings": None}),
    )


def page(template: str, report: dict[str, Any], **values: Any) -> str:
    """A page about training; what both kinds have is drawn here."""
    measured = report["heldout"]
    return filled(
        template,
        report=report,
        training=training_figures(report["pretraining"], report.get("continued_documents"))
        if report["pretraining"]
        else {},
        heldout=heldout_figure(measured) if measured else None,
        gains=scores.gains(measured, report.get("scores")),
        **values,
    )


def filled(template: str, **values: Any) -> str:
    """A page that fetches nothing, its styles, charts and script inside it."""
    loader = PackageLoader("yulanmini.report", ".")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(units, name) for name in ("integer", "compact", "significant", "percent", "duration", "size")
    }
    environment.filters |= {function.__name__: function for function in (raised, domain_name, colour, embedded_json)}
    environment.filters["interval"] = lambda ends: f"{round(100 * ends[0])}–{round(100 * ends[1])}"
    environment.filters["yaml"] = lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    styles = "".join(loader.get_source(environment, name)[0] for name in ("chart.css", "report.css"))
    return environment.get_template(f"{template}.html.jinja").render(styles=Markup(styles), **values)


def raised(text: str) -> Markup:
    """Superscript digits as `<sup>`: few fonts draw them like their other digits."""
    return Markup(
        re.sub("([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda found: f"<sup>{found[1].translate(PLAIN)}</sup>", str(escape(text)))
    )


def embedded_json(value: Any) -> Markup:
    """JSON that can stand inside a `<script>` element, whatever text it holds."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(content.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
