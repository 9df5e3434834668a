"""A card's page: metadata for the Hub on top, then text from a template that shows no number without a claim."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from huggingface_hub import CardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hub_cards.cards.evidence import Figure
from hub_cards.cards.settings import ROLES, CardSettings

REPORT = "https://arxiv.org/abs/2412.17743"
TASKS = {"heldout": "Held-out text", "problems": "Problems"}
WORDS = ("no stage", "one stage", "two stages", "three stages", "four stages")
# What a reader calls a stage of tuning, and what happens in it.
STAGES = {
    "sft": ("on dialogues", "it learns the assistant's turns of dialogues (supervised fine-tuning)."),
    "dpo": (
        "on pairs of answers",
        "it learns to prefer the better of two answers to a question (direct preference optimization).",
    ),
    "on-policy": ("on its own answers", "it answers, and answers that a check finds right are made likelier."),
}
Table = dict[str, Any]  # {"headers": [...], "rows": [[...], ...]}


@dataclass(frozen=True)
class Page:
    """A card's text, the text of the LICENSE beside it if it needs one, and the plots that it shows by their names."""

    text: str
    licence: str | None = None
    plots: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


class Name(str):
    """Text with digits that is no figure: what something is called, a protocol, an answer of a model."""


def render(template: str, metadata: CardData, settings: CardSettings, **values: Any) -> str:
    """A card from `templates/<template>.md.jinja` under its metadata.

    Raises AssertionError where the text would show a digit that is neither in the template nor a Figure nor a Name.
    """
    links = {role: settings.links.get(role) for role in ROLES}
    values |= {"settings": settings, "title": Name(settings.name), "links": links}
    return f"---\n{metadata.to_yaml()}\n---\n\n{_environment().get_template(f'{template}.md.jinja').render(**values)}"


@cache
def _environment() -> Environment:
    """How templates are read; one for all cards, as it keeps what it has compiled."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_accounted_for,
    )
    quoted = partial(json.dumps, ensure_ascii=False)
    environment.filters |= {
        "table": table,
        "fenced": fenced,
        "quoted": lambda text: Name(quoted(text)),
        "link": link,
        "dataset_link": partial(link, kind="datasets/"),
        "name": Name,
        "heading": lambda task: TASKS.get(task, task.replace("_", " ").capitalize()),
        "length_word": lambda items: WORDS[len(items)] if len(items) < len(WORDS) else "several stages",
        "stage": lambda stage: STAGES.get(stage, (stage, ""))[0],
        "about_stage": lambda stage: STAGES.get(stage, ("", ""))[1],
    }
    environment.globals["report"] = Name(REPORT)
    return environment


def _accounted_for(value: Any) -> Any:
    """What a template prints, if every number in it has a claim."""
    accounted = isinstance(value, Figure | Name) or not any(letter.isdigit() for letter in str(value))
    assert accounted, f"a card would show {value!r}, and no place that it is from"
    return value


def link(repo_id: str, kind: str = "") -> Name:
    """A repo of the Hub as a Markdown link."""
    return Name(f"[{repo_id}](https://huggingface.co/{kind}{repo_id})")


def table(content: Table) -> Name:
    """A Markdown table; columns after the first are right-aligned unless the table says otherwise (`left`: their
    headers). "None." where it has no rows."""
    if not content["rows"]:
        return Name("None.")
    headers = content["headers"]
    left = {headers[0], *content.get("left", ())}
    cells = [[_cell(cell) for cell in row] for row in content["rows"]]
    lines = [[_cell(one) for one in headers], [":---" if one in left else "---:" for one in headers]]
    return Name("\n".join(f"| {' | '.join(line)} |" for line in [*lines, *cells]))


def _cell(text: str) -> str:
    return " ".join(str(_accounted_for(text)).split()).replace("|", "\\|")


def fenced(text: str, language: str = "text") -> Name:
    """Text of a model as a code block that it cannot break out of."""
    fence = "```"
    while fence in text:
        fence += "`"
    return Name(f"{fence}{language}\n{text}\n{fence}")


def metadata_of(kind: type[CardData], **keys: Any) -> CardData:
    """Metadata with those keys that have a value."""
    return kind(**{key: value for key, value in keys.items() if value not in (None, [], {})})
