"""Laying a repo out, and again: it appears whole, replaces an earlier one in a swap, and edits are not thrown away."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_recipes.errors import listed
from data_recipes.manifest import (
    MANIFEST_NAME,
    check_new_folder,
    differences,
    folder_state,
    read_manifest,
    whole_folder,
    write_manifest,
)
from hub_cards.checks.check import check_repo
from hub_cards.errors import HubError
from hub_cards.repos.folder import CARD_NAME, KIND, REVISIONS, RepoType, edited_files
from hub_cards.repos.names import parse_revision
from hub_cards.repos.run_files import RunFiles


@dataclass(frozen=True)
class LaidOut:
    """A repo's folder. `written` is false for one that is kept as an earlier call wrote it from the same; `edited` are
    its files other than cards that were changed, removed or added since."""

    folder: Path
    written: bool
    edited: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """A repo to be laid out. `inputs`: fingerprints of what it is made from, by name. `write` fills an empty folder, in
    which the cards of an earlier layout may lie, and returns hashes of files that are known already.

    `settings`: what else it is made by. `run`: what its card was made from, for the check.
    """

    repo_id: str
    type: RepoType
    inputs: Mapping[str, str]
    write: Callable[[Path], Mapping[str, Mapping[str, Any]]]
    branches: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: RunFiles | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made_from(self) -> dict[str, Any]:
        """What the repo's manifest says of its origin, and of what publishing must know."""
        config = {"type": self.type, "name": self.repo_id, "branches": self.branches, **self.settings}
        return {"inputs": dict(self.inputs), "config": config}


def refuse_foreign(folder: Path, repo_id: str) -> None:
    """DataError where `folder` holds anything but an earlier layout of the repo: known before there is a draft."""
    is_repo = folder_state(folder, kind=KIND) == "finished"
    if is_repo and read_manifest(folder, kind=KIND)["config"].get("name") != repo_id:
        check_new_folder(folder)


def place_state(folder: Path, draft: Draft) -> str:
    """ "new", "same" (laid out from the same before) or "older"; raises what keeps `folder` from being written.

    DataError where anything but an earlier layout of this repo is there; HubError where that was edited by hand.
    """
    refuse_foreign(folder, draft.repo_id)
    if folder_state(folder, kind=KIND) == "new":
        return "new"
    found, wanted = read_manifest(folder, kind=KIND), draft.made_from
    if found["config"].get("type") != draft.type:
        check_new_folder(folder)
    if not differences({key: found[key] for key in wanted}, wanted):
        return "same"
    if edited := edited_files(folder):
        raise HubError(
            f"{folder}: what it is made from has changed, but these files were edited by hand:\n{listed(edited)}\n"
            "Nothing is replaced. Move them away, or remove the folder, and give the command again."
        )
    return "older"


def lay_out_draft(folder: Path, draft: Draft) -> LaidOut:
    """Write a repo's folder, or keep it where it was made from the same. Raises what `place_state` raises, and HubError
    where the repo would not pass its own check; then nothing has changed."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(folder):
        new, old = (folder.with_name(f".{folder.name}.{which}") for which in ("new", "old"))
        _tidy(folder, new, old)
        state = place_state(folder, draft)
        if state == "same":
            return LaidOut(folder, False, edited_files(folder))
        with whole_folder(new, called=folder) as unfinished:
            if state == "older":
                _keep_cards(folder, unfinished, draft.branches)
            known = draft.write(unfinished)
            manifest = {"kind": KIND, **draft.made_from, "counts": draft.counts, "known_hashes": known}
            write_manifest(unfinished, **manifest)
            errors = [finding for finding in check_repo(unfinished, run=draft.run) if finding.severity == "error"]
            if errors:
                found = "; ".join(f"{error.place}: {error.message}" for error in errors[:5])
                raise HubError(f"{draft.repo_id} would not pass its own check: {found}.")
        if state == "older":
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return LaidOut(folder, True)


def _tidy(folder: Path, new: Path, old: Path) -> None:
    """What a killed layout has left: the earlier repo comes back if it was just being replaced."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the namespace's folder, which ends with the process; HubError where another process lays out there."""
    held = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HubError(f"{folder.parent}: another process is laying out repos there. Wait for it.") from None
    finally:
        os.close(held)


def _keep_cards(earlier: Path, repo: Path, branches: list[str]) -> None:
    """The cards of an earlier layout, in which their owner may have written; that of a phase also where its branch has
    another name now."""
    shutil.copyfile(earlier / CARD_NAME, repo / CARD_NAME)
    cards = {path.parent.name: path for path in (earlier / REVISIONS).glob(f"*/{CARD_NAME}")}
    by_phase = {_what_it_shows(name): path for name, path in cards.items()}
    for branch in branches:
        card = cards.get(branch) or by_phase.get(_what_it_shows(branch))
        if card is not None:
            (repo / REVISIONS / branch).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(card, repo / REVISIONS / branch / CARD_NAME)


def _what_it_shows(branch: str) -> tuple[str, bool]:
    return parse_revision(branch)[0], branch.endswith("-optimizer")


def known_hashes(source: Path, target: Path, repo: Path) -> dict[str, Any]:
    """What the manifest of `source` records of files that lie, unchanged, in the folder `target` of a repo."""
    if not (source / MANIFEST_NAME).is_file():
        return {}
    recorded = read_manifest(source)["files"]
    return {
        (target / name).relative_to(repo).as_posix(): record
        for name, record in recorded.items()
        if (target / name).is_file() and "sha256" in record and (target / name).samefile(source / name)
    }
