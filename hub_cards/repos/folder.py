"""A repo laid out on disk, as the check reads it and publishing sends it.

OUT/NAMESPACE/NAME/           the branch `main`
    README.md                 its card
    provenance.json           where each number of the card is from
    provenance/               the files that they are from, so that whoever has the repo can look them up
    checkpoints.json          the index of the branches, where there are any
    manifest.json             SHA-256 of every file, those of the branches included, but for the cards
    revisions/BRANCH/         each other branch, a whole folder of its own

In a card (README.md) stand the owner's own words: of it, what is on disk counts, not what was recorded.
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
        place = folder / name
        is_card = path == CARD_NAME and place.is_file()
        found.setdefault(branch, {})[path] = (
            _as_it_is(place) if is_card else RepoFile(place, record["bytes"], record["sha256"])
        )
    if MAIN not in found:
        raise HubError(f"{folder}: its manifest lists no file of {MAIN}. Lay it out again.")
    found[MAIN][MANIFEST_NAME] = _as_it_is(folder / MANIFEST_NAME)
    names = [*(name for name in manifest["config"].get("branches", []) if name in found), MAIN]
    left_out = sorted(set(found) - set(names))
    if left_out:
        raise HubError(
            f"{folder}: {MANIFEST_NAME} does not say when to publish {', '.join(left_out)}. Lay it out again."
        )
    return Repo(folder, manifest["config"]["type"], [Branch(name, found[name]) for name in names])


def edited_files(folder: Path) -> list[str]:
    """Files of a laid-out repo, its cards aside, that differ from its manifest, are gone, or were added by hand."""
    recorded = read_manifest(folder, kind=KIND)["files"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {MANIFEST_NAME}
    changed = [name for name in recorded if name not in there or sha256_file(folder / name) != recorded[name]["sha256"]]
    return sorted(name for name in {*changed, *(there - set(recorded))} if name.rpartition("/")[2] != CARD_NAME)


def _as_it_is(place: Path) -> RepoFile:
    return RepoFile(place, place.stat().st_size, sha256_file(place))
