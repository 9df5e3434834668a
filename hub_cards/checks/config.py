"""A model's config and its remote code: nothing in them may load what is not in the repo, and the code is ours."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from data_recipes.errors import first_line
from data_recipes.manifest import sha256_file
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, read_mapping

CONFIG, GENERATION = "config.json", "generation_config.json"
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
        dtypes = {str(config[key]) for key in ("dtype", "torch_dtype") if key in config}
        if len(dtypes) > 1:
            yield error(place, f"says both {' and '.join(sorted(dtypes))} of its dtype; keep `dtype`")
        yield from _auto_map_findings(part, place, config)
        yield from _generation_findings(part)
        for name in ("tokenizer_config.json", GENERATION):
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


def _generation_findings(part: Part) -> Iterator[Finding]:
    """transformers takes the generation config as it is, with no warning and no flag that it does not know."""
    from transformers import GenerationConfig

    if GENERATION in part.files:
        try:
            GenerationConfig.from_pretrained(part.folder).validate(strict=True)
        except (OSError, ValueError, TypeError, AttributeError) as failure:
            yield error(part.place(GENERATION), f"transformers does not take it ({first_line(failure)})")


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
    from modeling_yulanmini.checkpoint_reader import __file__ as beside

    return {name: sha256_file(Path(beside).parent / name) for name in REMOTE_FILES}
