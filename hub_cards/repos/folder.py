"""A repo laid out on disk, as the check reads it and publishing sends it.

OUT/NAMESPACE/NAME/           the branch `main`
    README.md                 its card
    provenance.json           where each number of the card is from
    provenance/               the files that they are from, so that whoever has the repo can look them up
    checkpoints.json          the index of the branches, where there are any
    manifest.json             SHA-256 of every file, those of the branches included
    revisions/BRANCH/         each other branch, a whole folder of its own
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_recipes.manifest import MANIFEST_NAME, read_manifest, sha256_file
from hub_cards.errors import HubError

KIND = "hub-repo"
RepoType = Literal["model", "dataset", "space"]
MAIN, REVISIONS = "main", "revisions"
CARD_NAME, PROVENANCE_NAME, EVIDENCE, INDEX_NAME = "README.md", "provenance.json", "provenance", "checkpoints.json"


@dataclass(frozen=True)
class RepoFile:
    """A file of a branch: where it is on this machine, and what was recorded of it when the repo was laid out."""

    place: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Branch:
    """All that a branch holds, by the path in the repo."""

    name: str
    files: Mapping[str, RepoFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True)
class Repo:
    """A laid-out repo. `branches`: in the order in which they are published, the index and `main` last."""

    folder: Path
    type: RepoType
    branches: list[Branch]


def open_repo(folder: Path) -> Repo:
    """The repo that was laid out in `folder`, by its manifest. HubError where it is none; files are not read."""
    manifest = read_manifest(folder, kind=KIND)
    found: dict[str, dict[str, RepoFile]] = {}
    for name, record in manifest["files"].items():
        branch, path = name.split("/", 2)[1:] if name.startswith(f"{REVISIONS}/") else (MAIN, name)
        found.setdefault(branch, {})[path] = RepoFile(folder / name, record["bytes"], record["sha256"])
    if MAIN not in found:
        raise HubError(f"{folder}: its manifest lists no file of {MAIN}. Lay it out again.")
    own = folder / MANIFEST_NAME
    found[MAIN][MANIFEST_NAME] = RepoFile(own, own.stat().st_size, sha256_file(own))
    names = [*(name for name in manifest["config"].get("branches", []) if name in found), MAIN]
    left_out = sorted(set(found) - set(names))
    if left_out:
        raise HubError(
            f"{folder}: {MANIFEST_NAME} does not say when to publish {', '.join(left_out)}. Lay it out again."
        )
    return Repo(folder, manifest["config"]["type"], [Branch(name, found[name]) for name in names])
