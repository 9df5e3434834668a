"""`.eval_results`: only what the Hub shows, and only what the scores in the repo say."""

from collections.abc import Iterator
from typing import Any

import yaml

from data_recipes.errors import listed as several
from hub_cards.cards.eval_results import FOLDER, results_of, shape_problems
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, read_mapping
from hub_cards.repos.folder import EVIDENCE
from hub_cards.repos.names import registered_benchmarks

SCORES = "scores.json"


def scores_are_of_benchmarks(repo: Subject) -> Iterator[Finding]:
    """Results on the Hub's page are of registered data sets, of the Hub's form, and equal scores.json, which is one of
    those that the card is made from."""
    for part in repo.parts:
        expected = _expected(part)
        for name in sorted(one for one in part.files if one.startswith(f"{FOLDER}/")):
            place = part.place(name)
            try:
                content = yaml.safe_load((part.folder / name).read_text(encoding="utf-8"))
            except (ValueError, yaml.YAMLError):
                continue  # told by the check of texts
            problems = shape_problems(content)
            for problem in problems:
                yield error(place, problem)
            if not problems:
                yield from _entries(place, content, expected.get(name.removeprefix(f"{FOLDER}/")))
        for name in sorted(expected.keys() - {one.removeprefix(f"{FOLDER}/") for one in part.files}):
            yield error(part.place(f"{FOLDER}/{name}"), f"missing, though {SCORES} has a score that the Hub would show")
        yield from _copies(part)


def _expected(part: Part) -> dict[str, list[dict[str, Any]]]:
    if SCORES not in part.files:
        return {}
    try:
        return results_of(part.folder / SCORES, source_url="https://huggingface.co/")
    except (ValueError, KeyError, TypeError):
        return {}  # told by the checks of texts and of numbers


def _entries(place: str, content: list[Any], expected: list[dict[str, Any]] | None) -> Iterator[Finding]:
    known = registered_benchmarks()
    for index, entry in enumerate(content):
        dataset = entry["dataset"]["id"]
        if dataset not in known:
            message = f"[{index}]: the Hub has registered no benchmark {dataset}, so it would show nothing; remove it"
            yield error(place, f"{message}. Registered: {several(list(known))}")
            return
    if expected is None:
        yield error(place, f"of no score in {SCORES}; remove it")
        return
    for index, (ours, theirs) in enumerate(zip(content, expected, strict=False)):
        for key in ("dataset", "value", "notes"):
            if ours.get(key) != theirs.get(key):
                yield error(place, f"[{index}]: {key} is {ours.get(key)!r}, {SCORES} gives {theirs.get(key)!r}")
    if len(content) != len(expected):
        yield error(place, f"{len(content)} results, {SCORES} gives {len(expected)}")


def _copies(part: Part) -> Iterator[Finding]:
    """The scores beside the weights are a copy of those that the card is made from."""
    copies = [name for name in part.files if name.startswith(f"{EVIDENCE}/") and name.endswith(f"/{SCORES}")]
    if SCORES in part.files and copies and _rows(part, SCORES) not in [_rows(part, name) for name in copies]:
        yield error(part.place(SCORES), f"is none of the scores that the card is made from ({several(sorted(copies))})")


def _rows(part: Part, name: str) -> Any:
    """What was scored; the samples beside it are text, from which the card's copy has lost any machine's paths."""
    try:
        return read_mapping(part.folder / name).get("rows")
    except Unreadable:
        return None
