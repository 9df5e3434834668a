"""The metadata of a card, checked without a network: what the Hub would refuse, ignore or misread."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from data_recipes.errors import nearest
from hub_cards.cards.eval_results import FOLDER as EVAL_FOLDER
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error
from hub_cards.repos.folder import CARD_NAME, MAIN
from hub_cards.repos.names import vocabulary

FRONT_MATTER = re.compile(r"\A---\s*\n(?P<yaml>.*?)\n---\s*\n", re.DOTALL)
LICENCE_FILES = ("LICENSE", "LICENSE.md")
LICENCE_NAME = re.compile(r"[A-Za-z0-9._-]+")
REQUIRED = {
    "model": ("license", "language", "library_name", "pipeline_tag"),
    "dataset": ("license", "language", "configs"),
    "space": ("title", "sdk", "license"),
}
# Which list of the vocabulary a key's values are from.
WORDS = {
    "license": "licenses",
    "language": "languages",
    "pipeline_tag": "pipeline_tags",
    "library_name": "libraries",
    "base_model_relation": "base_model_relations",
    "size_categories": "size_categories",
    "task_categories": "pipeline_tags",
    "sdk": "sdks",
}


class OneOfEach(yaml.SafeLoader):
    """YAML whose mappings hold a key once, as the Hub insists."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def headers(repo: Subject) -> Iterator[Finding]:
    """What the Hub would refuse or misread in the metadata of the cards, of `main` and of other branches."""
    for part in repo.parts:
        place = part.place(CARD_NAME)
        if CARD_NAME not in part.files:
            if part.name == MAIN:
                yield error(place, "missing; a repo needs a card: lay the folder out (yulanmini hub layout)")
            continue
        try:
            metadata = metadata_of(part.folder / CARD_NAME)
        except Unreadable as failure:
            yield error(place, str(failure))
            continue
        for problem in metadata_problems(metadata, part, repo.type):
            yield error(place, problem)
        own = (repo.manifest or {}).get("config", {}).get("name")
        if own is not None and own in listed(metadata.get("base_model")) + listed(metadata.get("new_version")):
            yield error(place, f"base_model {own} is this repo itself")


def metadata_of(path: Path) -> dict[str, Any]:
    """The metadata of a card; `Unreadable` where it has none."""
    try:
        match = FRONT_MATTER.match(path.read_text(encoding="utf-8"))
        if match is None:
            raise Unreadable("no metadata: expected YAML between two '---' lines at the top")
        metadata = yaml.load(match["yaml"], OneOfEach)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError) as failure:
        raise Unreadable(f"the metadata is not valid YAML ({' '.join(str(failure).split())})") from failure
    if not isinstance(metadata, dict):
        raise Unreadable("the metadata is not a mapping of keys to values")
    return metadata


def metadata_problems(metadata: Mapping[str, Any], part: Part, kind: str) -> list[str]:
    """Keys, words, links and ids that the Hub does not know, with the nearest that it does."""
    known = vocabulary()[f"{kind}_keys"]
    problems = [
        f"unknown key '{key}'.{nearest(str(key), known)}"
        for key in metadata
        if key not in known and key != "model-index"
    ]
    if "model-index" in metadata:
        problems.append(f"'model-index' is the Hub's old form of scores; write {EVAL_FOLDER}/*.yaml instead")
    problems += [f"no '{key}'" for key in REQUIRED[kind] if not metadata.get(key)]
    for key, words in WORDS.items():
        for value in listed(metadata.get(key)):
            if value not in vocabulary()[words]:
                problems.append(f"{key}: the Hub does not know {value!r}.{nearest(str(value), vocabulary()[words])}")
    problems += licence_problems(metadata, part)
    for key in ("base_model", "datasets", "new_version"):
        problems += [f"{key}: {message}" for value in listed(metadata.get(key)) for message in id_problems(value)]
    if metadata.get("base_model_relation") and not metadata.get("base_model"):
        problems.append("base_model_relation without base_model")
    return problems


def licence_problems(metadata: Mapping[str, Any], part: Part) -> list[str]:
    """A licence that the Hub does not know is "other", with a name, and a link to a file of the repo or a URL."""
    is_other = "other" in listed(metadata.get("license"))
    keys = ("license_name", "license_link")
    if not is_other:
        return [f"{key} is for `license: other`; remove one of the two" for key in keys if key in metadata]
    problems = [f"license: other needs '{key}'" for key in keys if key not in metadata]
    if "license_name" in metadata and not LICENCE_NAME.fullmatch(str(metadata["license_name"])):
        problems.append(f"license_name {metadata['license_name']!r}; expected a word such as my-licence-1.0")
    if "license_link" in metadata:
        problems += licence_link_problems(part, metadata["license_link"])
    return problems


def licence_link_problems(part: Part, link: Any) -> list[str]:
    """The Hub takes a file of the repo by one of two names, or a URL."""
    if link in LICENCE_FILES:
        if link not in part.files:
            return [f"license_link: the repo has no file {link}"]
        return [] if (part.folder / link).read_bytes().strip() else [f"license_link: {link} is empty"]
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
