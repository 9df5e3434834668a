"""The licence of a repo, from those of the text that it was made of.

The rule for weights: text whose licence forbids commercial use or changes, or has conditions of its own, passes them
on, and no licence that the owner asks for takes them away. Where a source states no licence, none is granted for the
weights unless the owner takes that on. Where all sources are open, the weights are open: `mit`, or what the owner asks
for.
For rows of text each source's own licence applies.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_recipes.errors import nearest
from hub_cards.cards.mixes import NOT_STATED
from hub_cards.errors import HubError
from hub_cards.repos.names import vocabulary

LICENCE_NAME = "LICENSE"  # the Hub takes this name in `license_link`
OPEN_DEFAULT = "mit"
# Licences that the Hub knows by name and that have conditions on use or on what is made of the text.
CONDITIONS = re.compile(
    r"-n[cd]\b|noncommercial|^(llama|gemma|grok|openrail|bigscience|bigcode|creativeml|deepfloyd|fair-|intel-|h-research"
    r"|apple-|c-uda)"
)
MOST_NAMES = 5


@dataclass(frozen=True)
class Licence:
    """`keys`: for the Hub. `sentences`: what the card says of it. `file`: the text of LICENSE, if it needs one."""

    keys: dict[str, Any]
    sentences: str
    file: str | None = None


def weights_licence(sources: Sequence[dict[str, Any]], *, asked: str | None) -> Licence:
    """The licence of weights trained on text of these sources; HubError where the one asked for cannot be given."""
    if asked is not None and asked not in vocabulary()["licenses"]:
        raise HubError(f"licence '{asked}': the Hub does not know it.{nearest(asked, vocabulary()['licenses'])}")
    conditions = [source for source in sources if source["licence"] and not _is_open(source["licence"])]
    unstated = [source for source in sources if not source["licence"]]
    if conditions:
        found = _named(conditions)
        if asked is not None and not _allows(asked, conditions):
            raise HubError(
                f"licence '{asked}': the weights were trained on text with conditions of its own, {found}. Leave the "
                "licence out: the card then names these."
            )
        if asked is None:
            return _as_of_the_text(
                sources,
                "The weights carry the conditions of the text that they were trained on. Some of it is not open: "
                f"{found}. Use the weights only where these licences allow it; "
                f"[{LICENCE_NAME}]({LICENCE_NAME}) lists all sources.",
            )
    if asked is not None:
        more = f" No licence is known of {_named(unstated)}." if unstated else ""
        return Licence({"license": asked}, f"The owner of this repo offers the weights under `{asked}`.{more}")
    if not sources:
        return _as_of_the_text(
            sources, "No licence of the weights is known. Ask the owner of this repo before you use them."
        )
    if unstated:
        return _as_of_the_text(
            sources,
            f"No licence is granted for the weights, because none is known of some of the text: {_named(unstated)}. "
            f"[{LICENCE_NAME}]({LICENCE_NAME}) lists all sources. Ask the owner of this repo before you use them.",
        )
    return Licence(
        {"license": OPEN_DEFAULT},
        f"The weights are under `{OPEN_DEFAULT}`: every source of the training text has an open licence.",
    )


def rows_licence(sources: Sequence[dict[str, Any]]) -> Licence:
    """The licence of text itself: those of all sources where the Hub knows each, else the file that lists them."""
    stated = {source["licence"] for source in sources}
    if stated and stated <= set(vocabulary()["licenses"]) - {"other", "unknown"}:
        licences = sorted(stated)
        return Licence({"license": licences[0] if len(licences) == 1 else licences}, "")
    return _as_of_the_text(sources, "")


def _as_of_the_text(sources: Sequence[dict[str, Any]], sentences: str) -> Licence:
    lines = [f"{source['name']}: {source['licence'] or NOT_STATED}" for source in sources]
    file = (
        "No licence is granted by this file. To the text of each source, and to what is made of it as far as the law\n"
        "says so, the licence of that source applies. The sources and their licences:\n\n"
        + "\n".join(lines or ["none is recorded"])
        + "\n"
    )
    keys = {"license": "other", "license_name": "as-of-each-source", "license_link": LICENCE_NAME}
    return Licence(keys, sentences, file)


def _is_open(licence: str) -> bool:
    known = set(vocabulary()["licenses"]) - {"other", "unknown"}
    return licence in known and not CONDITIONS.search(licence)


def _allows(asked: str, conditions: Sequence[dict[str, Any]]) -> bool:
    """Whether the licence asked for forbids commercial use as the text's do, and they ask for nothing else."""
    return "-nc" in asked and all(re.search(r"-nc(?!-nd)", source["licence"]) for source in conditions)


def _named(sources: Sequence[dict[str, Any]]) -> str:
    names = [source["name"] + (f" ({source['licence']})" if source["licence"] else "") for source in sources]
    return ", ".join(names[:MOST_NAMES]) + (" and others" if len(names) > MOST_NAMES else "")
