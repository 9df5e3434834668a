"""Check a repo's folder before it goes anywhere, without a network: card, scores, weights, files, revisions.

The Hub's own check of a card is a request to its server; this one knows the same lists (vocabulary.yaml).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from huggingface_hub import get_token

from hub_cards.cards.card import trace
from hub_cards.cards.eval_results import FOLDER as EVAL_FOLDER
from hub_cards.cards.eval_results import shape_problems
from hub_cards.checks.header import card_problems
from hub_cards.checks.weights import model_problems, revision_problems
from hub_cards.errors import HubError
from hub_cards.repos import files
from hub_cards.repos.folder import INDEX_NAME, PROVENANCE_NAME, REVISIONS
from hub_cards.repos.run_files import RunFiles

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True)
class Finding:
    """Something about a repo. An error keeps it from being published, a warning does not."""

    severity: Literal["error", "warning"]
    place: str
    message: str


def repo_type_of(folder: Path) -> RepoType:
    """A folder with a model's config is a model, any other a dataset."""
    return "model" if (folder / "config.json").is_file() else "dataset"


def check_repo(folder: Path, *, repo_type: RepoType | None = None, run: RunFiles | None = None) -> list[Finding]:
    """Everything that is wrong with a repo's folder. With `run`, each number on the card is looked up there again."""
    folder = Path(folder)
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder.")
    if run is not None:
        run.phase_models()
    kind = repo_type or repo_type_of(folder)
    findings = [Finding("error", "README.md", message) for message in card_problems(folder, kind)]
    findings += file_findings(folder, kind)
    for path in sorted((folder / EVAL_FOLDER).glob("*.yaml")):
        place = path.relative_to(folder).as_posix()
        try:
            problems = shape_problems(yaml.safe_load(path.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            problems = [f"not valid YAML ({' '.join(str(error).split())})"]
        findings += [Finding("error", place, problem) for problem in problems]
    if kind == "model":
        models = [folder, *sorted(path for path in (folder / REVISIONS).glob("*") if path.is_dir())]
        findings += [Finding("error", *problem) for model in models for problem in model_problems(model, folder)]
        findings += [Finding("error", INDEX_NAME, problem) for problem in revision_problems(folder)]
    if run is not None and (folder / PROVENANCE_NAME).is_file():
        findings += [Finding("error", PROVENANCE_NAME, problem) for problem in trace(folder, run)]
    return findings


def file_findings(folder: Path, kind: RepoType) -> list[Finding]:
    """Files that do not belong in a repo of this kind, and what must not be public in those that do."""
    own = files.MODEL_FILES + files.ADAPTER_FILES if kind == "model" else files.DATASET_FILES
    findings = []
    token = get_token()
    for path in files.repo_files(folder):
        place = name = path.relative_to(folder).as_posix()
        if kind == "model" and name.startswith(f"{REVISIONS}/"):
            name = name.split("/", 2)[2] if name.count("/") > 1 else name
        if not files.allowed(name, files.CARD_FILES + own):
            findings.append(Finding("error", place, f"not on the list of files of a {kind} repo; remove it"))
        if path.suffix in files.TEXT_SUFFIXES:
            secrets, homes = files.scan(path, token=token)
            findings += [Finding("error", place, message) for message in secrets]
            findings += [Finding("warning", place, message) for message in homes]
    return findings
