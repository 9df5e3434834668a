"""The metadata of a card, checked without a network: what the Hub would refuse, ignore or misread."""

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from data_recipes.errors import nearest
from hub_cards.cards.eval_results import FOLDER as EVAL_FOLDER
from hub_cards.repos.names import vocabulary

FRONT_MATTER = re.compile(r"\A---\s*\n(?P<yaml>.*?)\n---\s*\n", re.DOTALL)
LICENCE_FILES = ("LICENSE", "LICENSE.md")
CONFIG_NAME = re.compile(r"[A-Za-z0-9._-]+")
REQUIRED = {
    "model": ("license", "language", "library_name", "pipeline_tag"),
    "dataset": ("license", "language", "configs"),
}


def card_problems(folder: Path, kind: str) -> list[str]:
    """What the Hub would refuse or misread in the metadata of README.md."""
    path = folder / "README.md"
    if not path.is_file():
        return ["missing; a repo needs a card (yulanmini hub card)"]
    match = FRONT_MATTER.match(path.read_text(encoding="utf-8"))
    if match is None:
        return ["no metadata: expected YAML between two '---' lines at the top"]
    try:
        metadata = yaml.safe_load(match["yaml"])
    except yaml.YAMLError as error:
        return [f"the metadata is not valid YAML ({' '.join(str(error).split())})"]
    if not isinstance(metadata, dict):
        return ["the metadata is not a mapping of keys to values"]
    known = vocabulary()[f"{kind}_keys"]
    problems = [
        f"unknown key '{key}'.{nearest(str(key), known)}"
        for key in metadata
        if key not in known and key != "model-index"
    ]
    if "model-index" in metadata:
        problems.append(f"'model-index' is the Hub's old form of scores; write {EVAL_FOLDER}/*.yaml instead")
    problems += [f"no '{key}'" for key in REQUIRED[kind] if not metadata.get(key)]
    for key, words in (
        ("license", "licenses"),
        ("language", "languages"),
        ("pipeline_tag", "pipeline_tags"),
        ("library_name", "libraries"),
        ("base_model_relation", "base_model_relations"),
        ("size_categories", "size_categories"),
        ("task_categories", "pipeline_tags"),
    ):
        for value in listed(metadata.get(key)):
            if value not in vocabulary()[words]:
                problems.append(f"{key}: the Hub does not know {value!r}.{nearest(str(value), vocabulary()[words])}")
    if "other" in listed(metadata.get("license")):
        problems += [f"license: other needs '{key}'" for key in ("license_name", "license_link") if key not in metadata]
    if metadata.get("license_link") is not None:
        problems += licence_link_problems(folder, metadata["license_link"])
    for key in ("base_model", "datasets"):
        problems += [f"{key}: {message}" for value in listed(metadata.get(key)) for message in id_problems(value)]
    if metadata.get("base_model_relation") and not metadata.get("base_model"):
        problems.append("base_model_relation without base_model")
    if kind == "dataset":
        problems += config_problems(folder, metadata.get("configs") or [])
    return problems


def licence_link_problems(folder: Path, link: Any) -> list[str]:
    """The Hub takes a file of the repo by one of two names, or a URL."""
    if link in LICENCE_FILES:
        return [] if (folder / link).is_file() else [f"license_link: the repo has no file {link}"]
    if isinstance(link, str) and re.fullmatch(r"https?://\S+", link):
        return []
    return [f"license_link {link!r}: expected {', '.join(LICENCE_FILES)} or a URL"]


def listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def id_problems(value: Any) -> list[str]:
    """Problems of a value as a Hub repo id, `namespace/name`."""
    try:
        validate_repo_id(value)
    except HFValidationError as error:
        return [str(error)]
    return [] if "/" in value else [f"{value!r} has no namespace; expected namespace/name"]


def config_problems(folder: Path, configs: Any) -> list[str]:
    """Dataset configs: names, one default at most, and globs that match files of the folder."""
    problems = []
    names: list[str] = []
    present = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for index, config in enumerate(listed(configs)):
        name = config.get("config_name") if isinstance(config, dict) else None
        if not isinstance(name, str) or not CONFIG_NAME.fullmatch(name):
            problems.append(f"configs[{index}]: config_name {name!r}; expected letters, digits, '-', '_', '.'")
            continue
        if name in names:
            problems.append(f"configs[{index}]: '{name}' is there twice")
        names.append(name)
        where = f"configs[{index}] '{name}'"
        entries = listed(config.get("data_files"))
        if not entries:
            problems.append(f"{where}: no data_files")
        for entry in entries:
            if isinstance(entry, dict) and not re.fullmatch(r"\w+(\.\w+)*", str(entry.get("split", "train"))):
                problems.append(f"{where}: split {entry.get('split')!r}; expected a word")
            for pattern in listed(entry.get("path") if isinstance(entry, dict) else entry):
                if pattern.startswith("/") or ".." in pattern.split("/"):
                    problems.append(f"{where}: {pattern} leads out of the repo")
                elif not any(path.is_file() for path in folder.glob(pattern)):
                    problems.append(f"{where}: no file matches {pattern}.{nearest(pattern, present)}")
    if sum(bool(config.get("default")) for config in listed(configs) if isinstance(config, dict)) > 1:
        problems.append("configs: more than one default")
    return problems
