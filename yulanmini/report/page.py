"""Write `report.html` and `report.json`: the template filled with charts, and with what the sections say."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from data_recipes.files import write_whole
from yulanmini.report import sections, units
from yulanmini.report.collect import collect
from yulanmini.report.curriculum_figures import heldout_figure, mixture_figure
from yulanmini.report.figure import Figure, colour, domain_name
from yulanmini.report.training_figures import (
    gradient_norm_figure,
    learning_rate_figure,
    loss_figure,
    speed_figure,
    tuning_figure,
    variance_figure,
)

PLAIN = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "−0123456789")


def write_report(run: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into `run`, each whole or not at all; returns the two paths.

    Raises RunError when `run` is not a folder, OSError when it cannot be written to.
    """
    report = collect(run)
    page, figures = Path(run) / "report.html", Path(run) / "report.json"
    write_whole(figures, json.dumps(report, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")
    write_whole(page, render(report))
    return page, figures


def render(report: dict[str, Any]) -> str:
    """The page as one string: styles, charts and script inside it, nothing fetched."""
    environment = Environment(
        loader=PackageLoader("yulanmini.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(units, name) for name in ("integer", "compact", "significant", "percent", "duration", "size")
    }
    environment.filters["raised"] = raised
    environment.filters["domain_name"] = domain_name
    environment.filters["colour"] = colour
    environment.filters["yaml"] = lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    environment.filters["embedded_json"] = embedded_json
    styles = environment.loader.get_source(environment, "report.css")[0]  # type: ignore[union-attr]
    return environment.get_template("report.html.jinja").render(
        report=report,
        styles=Markup(styles),
        title="YuLan-Mini in miniature",
        summary=sections.summary(report),
        tiles=sections.tiles(report),
        stages=sections.stages(report),
        figures=figures(report),
        parity=sections.parity(report["merge"]),
        gains=sections.gains(report["heldout"]),
        problems=sections.problems(report["scores"]),
        heldout_scores=sections.heldout_scores(report["scores"]),
        samples=sections.samples(report["scores"]),
        text=sections.text(report["corpus"], report["tokenizer"]),
        commands=sections.commands(report),
    )


def raised(text: str) -> Markup:
    """Superscript digits as `<sup>`: few fonts draw them like their other digits."""
    return Markup(
        re.sub("([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda found: f"<sup>{found[1].translate(PLAIN)}</sup>", str(escape(text)))
    )


def embedded_json(value: Any) -> Markup:
    """JSON that can stand inside a `<script>` element, whatever text it holds."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(content.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def figures(report: dict[str, Any]) -> dict[str, Figure | None]:
    """The charts by name; None where the run did not come so far."""
    run, tuning, measured = report["pretraining"], report["sft"], report["heldout"]
    return {
        "loss": loss_figure(run) if run else None,
        "lr": learning_rate_figure(run) if run and run["schedule"] else None,
        "grad_norm": gradient_norm_figure(run) if run else None,
        "variance": variance_figure(run) if run else None,
        "speed": speed_figure(run) if run else None,
        "sft": tuning_figure(tuning) if tuning else None,
        "heldout": heldout_figure(measured) if measured else None,
        "mixture": mixture_figure(report["mixture"]) if report["mixture"] else None,
    }
