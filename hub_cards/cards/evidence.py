"""Numbers for cards, each read from a file of the run and remembered with the place it came from.

A card's template has no number of its own: it asks for `figure(file, pointer)`, and what it was given is listed
in the repo's `provenance.json`, where `trace` can look it up again.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from data_recipes.manifest import sha256_file
from hub_cards.errors import HubError
from hub_cards.repos.run_files import RunFiles

PROVENANCE_NAME = "provenance.json"


def load(path: Path) -> Any:
    """The content of a .json, .jsonl (a list) or .yaml file; HubError when it cannot be read as one."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except FileNotFoundError as error:
        raise HubError(f"{path}: no such file; the card needs figures from it. Finish that stage first.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise HubError(f"{path}: cannot be read ({' '.join(str(error).split())}).") from error


def look_up(content: Any, pointer: str, where: str) -> Any:
    """The value at a JSON pointer (RFC 6901), such as `/counts/steps` or, in a .jsonl file, `/12/loss`."""
    value = content
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise HubError(f"{where}: nothing at {pointer}; the card expects another form of file.") from error
    return value


def join(*keys: str | int) -> str:
    """A JSON pointer from keys."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


class Figures:
    """Figures of a run; file names are relative to its folder."""

    def __init__(self, run: RunFiles) -> None:
        self.run = run
        self.root = run.root
        self.claims: list[dict[str, Any]] = []
        self._contents: dict[str, Any] = {}

    def has(self, file: str) -> bool:
        return (self.root / file).is_file()

    def value(self, file: str, pointer: str = "") -> Any:
        """A value of a file that decides something but is not printed on the card."""
        if file not in self._contents:
            self._contents[file] = load(self.root / file)
        return look_up(self._contents[file], pointer, str(self.root / file))

    def figure(self, file: str, pointer: str, form: str = ",") -> str:
        """A value as text in Python's format `form`, remembered with its origin."""
        value = self.value(file, pointer)
        try:
            text = format(value, form)
        except (TypeError, ValueError) as error:
            raise HubError(f"{self.root / file}: {value!r} at {pointer} is not a number for a card.") from error
        claim = {"text": text, "value": value, "file": file, "pointer": pointer, "form": form}
        if claim not in self.claims:
            self.claims.append(claim)
        return text

    def provenance(self) -> dict[str, Any]:
        """The claims so far, and the SHA-256 of each file they were read from."""
        files = sorted({claim["file"] for claim in self.claims})
        return {
            "about": "Every number of README.md: the file of the run it was read from, and where in it (JSON pointer).",
            "files": {file: sha256_file(self.root / file) for file in files},
            "claims": self.claims,
        }


def trace(folder: Path, run: RunFiles) -> list[str]:
    """The numbers on a repo's card that no longer agree with the run they came from; empty when all do."""
    provenance = load(folder / PROVENANCE_NAME)
    card = (folder / "README.md").read_text(encoding="utf-8")
    figures = Figures(run)
    problems = []
    for claim in provenance["claims"]:
        where = f"{claim['file']} {claim['pointer']}"
        try:
            value = figures.value(claim["file"], claim["pointer"])
        except HubError as error:
            problems.append(str(error))
            continue
        if format(value, claim["form"]) != claim["text"]:
            problems.append(f"{where}: the card says {claim['text']}, the run says {format(value, claim['form'])}")
        if claim["text"] not in card:
            problems.append(f"{where}: {claim['text']} is in {PROVENANCE_NAME} and not on the card")
    return problems
