"""A model's config and its remote code: nothing in them may load what is not in the repo, and the code is ours."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import modeling_yulanmini
from data_recipes.manifest import sha256_file
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, read_mapping

CONFIG = "config.json"
TRUST = ("trust_remote_code", "custom_pipelines", "quantization_config", "_name_or_path")


def configs_are_safe(repo: Subject) -> Iterator[Finding]:
    """A config that transformers knows, without keys that fetch or trust code from elsewhere."""
    for part in repo.models:
        place = part.place(CONFIG)
        try:
            config = read_mapping(part.folder / CONFIG)
        except Unreadable as failure:
            yield error(place, str(failure))
            continue
        for key in _keys(config):
            if key.endswith("_internal"):
                yield error(place, f"'{key}' is an internal key that loads code; remove it")
            elif key in TRUST:
                yield error(place, f"'{key}' has no place in a published config; remove it")
        yield from _auto_map_findings(part, place, config)
        for name in ("tokenizer_config.json", "generation_config.json"):
            yield from _companion_findings(part, name)


def _companion_findings(part: Part, name: str) -> Iterator[Finding]:
    if name not in part.files:
        return
    try:
        content = read_mapping(part.folder / name)
    except Unreadable:
        return  # told by the check of texts
    for key in _keys(content):
        if key == "auto_map" or key.endswith("_internal") or key in TRUST:
            yield error(part.place(name), f"'{key}' loads or trusts code; remove it")


def _keys(content: Any) -> Iterator[str]:
    """The keys of all mappings in it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _keys(value)
    elif isinstance(content, list):
        for value in content:
            yield from _keys(value)


def _auto_map_findings(part: Part, place: str, config: dict[str, Any]) -> Iterator[Finding]:
    targets = config.get("auto_map") or {}
    if not isinstance(targets, dict):
        yield error(place, f"auto_map is {targets!r}; expected a mapping of Auto classes")
        return
    for name, target in targets.items():
        module = str(target).rpartition(".")[0]
        if "--" in str(target):
            yield error(place, f"auto_map {name} takes code from another repo ({target})")
        elif f"{module}.py" not in part.files:
            yield error(place, f"auto_map {name}: no file {module}.py")
    if config.get("model_type") == "yulanmini" and not targets:
        yield error(place, "no auto_map: without the package installed the model could not be loaded")


def remote_code_is_ours(repo: Subject) -> Iterator[Finding]:
    """The Python files beside weights are those of the installed package, byte for byte."""
    for part in repo.models:
        for name in part.matching(".py"):
            ours = installed_code().get(name)
            if ours is None:
                yield error(part.place(name), "code that is not this package's; remove it")
            elif part.sha256(name) != ours:
                message = "not the installed package's file (SHA-256 differs); export the model again with this version"
                yield error(part.place(name), message)


@cache
def installed_code() -> dict[str, str]:
    """SHA-256 of the files that travel beside weights."""
    from modeling_yulanmini.checkpoint_reader import REMOTE_FILES

    folder = Path(modeling_yulanmini.__file__).parent
    return {name: sha256_file(folder / name) for name in REMOTE_FILES}
