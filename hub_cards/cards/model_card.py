"""Cards of models, README.md: metadata for the Hub on top, then a text whose every number has a file (figures.py)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_recipes.manifest import MANIFEST_NAME
from hub_cards.cards import tables as card_figures
from hub_cards.cards.evidence import Figures
from hub_cards.errors import HubError
from hub_cards.repos.names import Names
from hub_cards.repos.run_files import RunFiles

LANGUAGES = ["en", "zh"]
TAGS = ["yulanmini", "reproduction"]


def render(template: str, metadata: Mapping[str, Any], **values: Any) -> str:
    """A card from `templates/<template>.md.jinja` under its metadata."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"table": table, "fenced": fenced, "quoted": partial(json.dumps, ensure_ascii=False)}
    environment.globals["report"] = "https://arxiv.org/abs/2412.17743"
    header = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{environment.get_template(f'{template}.md.jinja').render(**values)}"


def table(content: card_figures.Table) -> str:
    """A Markdown table; numbers are right-aligned. "None." where it has no rows."""
    if not content["rows"]:
        return "None."
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in content["rows"]]
    lines = [content["headers"], [":---", *["---:"] * (len(content["headers"]) - 1)]]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(text: str) -> str:
    """Text of a model as a code block that it cannot break out of."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def render_model_card(
    template: str, names: Names, *, licence: str, tags: list[str], base_model: str | None = None, **values: Any
) -> str:
    """A model's card, with the metadata that all of them have."""
    metadata: dict[str, Any] = {
        "language": LANGUAGES,
        "license": licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": [*TAGS, *tags],
        "datasets": [names.data],
    }
    if base_model is not None:
        metadata |= {"base_model": base_model, "base_model_relation": "finetune"}
    return render(template, metadata, names=names, licence=licence, **values)


def base_card(figures: Figures, names: Names, *, licence: str) -> str:
    """Card of the merged base model, a plain Llama."""
    heldout = card_figures.heldout_table(figures)
    return render_model_card(
        "base",
        names,
        licence=licence,
        tags=["merged"],
        example=card_figures.example(figures, "base"),
        training=card_figures.training_table(figures),
        heldout=heldout,
        scores=card_figures.score_tables(figures, ["base"], without=["heldout"] if heldout else []),
        merge=card_figures.merge_table(figures),
    )


def checkpoints_card(
    figures: Figures, names: Names, *, licence: str, revisions: list[str], rows: list[list[str]]
) -> str:
    """Card of the unmerged checkpoints, one revision per phase; `rows` list phase, step and revision."""
    return render_model_card(
        "checkpoints",
        names,
        licence=licence,
        tags=["checkpoints"],
        example=revisions[0],
        final=revisions[-1],
        revisions={"headers": ["phase", "step", "revision"], "rows": rows},
        heldout=card_figures.heldout_table(figures),
    )


def parent_of(figures: Figures, names: Names) -> str:
    """The repo of the model that was tuned: the merged one if the first tuning's manifest holds its fingerprint."""
    merged = f"{figures.run.merged}/{MANIFEST_NAME}"
    first = f"{next(iter(figures.run.tuned.values()))}/{MANIFEST_NAME}"
    tuned_from = figures.value(first).get("inputs", {}).get("model")
    is_merged = figures.has(merged) and figures.value(merged, "/fingerprint") == tuned_from
    return names.base if is_merged else names.checkpoints


def instruct_card(figures: Figures, names: Names, *, licence: str) -> str:
    """Card of the instruct model: its stages as they came."""
    run, parent = figures.run, parent_of(figures, names)
    return render_model_card(
        "instruct",
        names,
        licence=licence,
        tags=[*run.tuned, "trl"],
        base_model=parent,
        parent=parent,
        is_merged=parent == names.base,
        example=card_figures.example(figures, run.models[-1]),
        tuning=card_figures.tuning_tables(figures),
        scores=card_figures.score_tables(figures, run.models),
        cost=card_figures.tuning_cost(figures),
        samples=card_figures.samples(figures, run.models[-1]),
    )


MODEL_CARDS: dict[str, Callable[..., str]] = {"base": base_card, "instruct": instruct_card}


def model_card(run: RunFiles, kind: str, names: Names, *, licence: str) -> tuple[str, Figures]:
    """The card of the run's "base" or "instruct" model, and the figures it used."""
    figures = Figures(run)
    return MODEL_CARDS[kind](figures, names, licence=licence), figures


def card_of(run: RunFiles, kind: str | None, repo_id: str, *, licence: str) -> tuple[str, Figures]:
    """The card of a run's model; `run.root` may also be the folder of the merged or the tuned model."""
    kinds = {run.merged: "base", run.instruct: "instruct"}
    root = run.root.resolve()
    kind = kind or kinds.get(root.name)
    if kind not in MODEL_CARDS:
        raise HubError(f"{run.root}: which model? Expected --model {' or '.join(MODEL_CARDS)}; found {kind!r}.")
    if root.name in kinds:
        run = replace(run, root=root.parent)
    return model_card(run, kind, Names.parse(repo_id), licence=licence)
