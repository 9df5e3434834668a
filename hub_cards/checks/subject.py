"""What is checked: a repo as it lies on the disk, whatever its manifest says, and what is found in it."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from data_recipes.errors import DataError
from data_recipes.files import sha256_once
from data_recipes.manifest import MANIFEST_NAME, read_manifest
from hub_cards.errors import HubError
from hub_cards.repos.folder import KIND, MAIN, REVISIONS, RepoType
from hub_cards.repos.run_files import RunFiles

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something about a repo. An error keeps it from being published, a warning does not."""

    severity: Severity
    place: str
    message: str


def error(place: str, message: str) -> Finding:
    return Finding("error", place, message)


def warning(place: str, message: str) -> Finding:
    return Finding("warning", place, message)


@dataclass(frozen=True)
class Part:
    """A branch of a repo, or a folder in one: `files` by their names in it, `prefix` is what leads to it."""

    name: str
    folder: Path
    prefix: str
    files: frozenset[str]

    def place(self, name: str) -> str:
        """A file's name in the repo's folder, as findings give it."""
        return self.prefix + name

    def sha256(self, name: str) -> str:
        return sha256_once(self.folder / name)

    def matching(self, *endings: str) -> list[str]:
        return sorted(name for name in self.files if name.endswith(endings))

    def below(self, folder: str) -> "Part":
        """A folder of it as a part of its own."""
        inside = frozenset(name.removeprefix(f"{folder}/") for name in self.files if name.startswith(f"{folder}/"))
        return Part(folder, self.folder / folder, f"{self.prefix}{folder}/", inside)


@dataclass(frozen=True)
class Subject:
    """A repo's folder. `run`: the run that it is said to be from. `generate`: whether the models are asked to write."""

    folder: Path
    type: RepoType
    run: RunFiles | None = None
    generate: bool = True
    progress: bool = False
    _shared: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def listing(self) -> list[Path]:
        """Everything below the folder but folders, links and other strange things included; sorted."""
        found = []
        for place, folders, files in os.walk(self.folder):
            found += [Path(place, name) for name in files]
            found += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        return sorted(found)

    @cached_property
    def parts(self) -> list[Part]:
        """`main`, then the other branches by name; of plain files only."""
        found: dict[str, set[str]] = {MAIN: set()}
        for path in self.listing:
            if path.is_symlink() or not path.is_file():
                continue
            name = path.relative_to(self.folder).as_posix()
            if name.startswith(f"{REVISIONS}/") and name.count("/") > 1:
                _, branch, name = name.split("/", 2)
                found.setdefault(branch, set()).add(name)
            else:
                found[MAIN].add(name)
        return [self._part(name, files) for name, files in found.items()]

    def _part(self, name: str, files: set[str]) -> Part:
        prefix = "" if name == MAIN else f"{REVISIONS}/{name}/"
        return Part(name, self.folder / prefix, prefix, frozenset(files))

    @property
    def main(self) -> Part:
        return self.parts[0]

    @property
    def models(self) -> list[Part]:
        """The branches of a model's repo that hold a model, or should: `main` in any case."""
        if self.type != "model":
            return []
        return [part for part in self.parts if part.name == MAIN or "config.json" in part.files]

    @cached_property
    def manifest(self) -> Mapping[str, Any] | None:
        """The manifest of the whole folder; None where it has none that can be read."""
        try:
            return read_manifest(self.folder)
        except (DataError, KeyError, OSError):
            return None

    def once(self, what: str, key: Any, make: Any) -> Any:
        """`make()`, computed once for each key: many branches share a tokenizer or a config."""
        known = self._shared.setdefault(what, {})
        if key not in known:
            known[key] = make()
        return known[key]

    def bar(self, total: int, what: str) -> Any:
        """A progress bar over bytes, shown after a second of work."""
        from tqdm import tqdm

        return tqdm(total=total, desc=what, unit="B", unit_scale=True, delay=1, disable=None if self.progress else True)


def open_subject(folder: Path, *, repo_type: RepoType | None = None, **options: Any) -> Subject:
    """The repo in `folder`; its type is what its manifest says, else a folder with a model's config is a model."""
    folder = Path(folder)
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder.")
    guess: RepoType = "model" if (folder / "config.json").is_file() else "dataset"
    subject = Subject(folder, repo_type or guess, **options)
    manifest = subject.manifest
    if repo_type is None and manifest is not None and manifest.get("kind") == KIND:
        recorded = manifest.get("config", {}).get("type", guess)
        if recorded not in ("model", "dataset", "space"):
            raise HubError(f"{folder / MANIFEST_NAME}: a repo of type {recorded!r}; expected model, dataset or space.")
        subject = Subject(folder, recorded, **options)
    return subject


class Unreadable(Exception):
    """A file whose content is not of the form that its name promises."""


def read_json(path: Path) -> Any:
    """The content of a JSON file; `Unreadable` where parsers could read it in more than one way."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except FileNotFoundError as failure:
        raise Unreadable("missing") from failure
    except (ValueError, RecursionError) as failure:
        raise Unreadable(f"not valid JSON ({' '.join(str(failure).split())})") from failure


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise Unreadable("expected a JSON object")
    return content


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def lines_of(path: Path) -> Iterator[tuple[int, Any]]:
    """(number, content) of each line of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, json.loads(line)
