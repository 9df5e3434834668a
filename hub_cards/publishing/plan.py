"""What publishing a repo would do, from what is on the Hub now: the same before it is done and in a dry run."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.hf_api import RepoFile as HubFile

from data_recipes.errors import listed
from data_recipes.manifest import MANIFEST_NAME, read_manifest
from hub_cards.errors import HubError
from hub_cards.publishing.changes import INITIAL_FILES, Change, change_of, tag_of
from hub_cards.publishing.remote import Refs, RemoteRepo
from hub_cards.publishing.turn import is_staging
from hub_cards.repos.folder import KIND, MAIN, REVISIONS, Branch, Repo

# How the titles of our commits begin.
TITLE = "yulanmini: "


@dataclass(frozen=True)
class Plan:
    """`changes` in the order of publishing, `main` last. `tags`: by name, where each stands now (None: nowhere).
    `seen` is false where the Hub was not looked at; `kept` are branches there that the repo does not have."""

    changes: list[Change]
    tags: dict[str, str | None] = field(default_factory=dict)
    seen: bool = True
    kept: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tag_name(self, change: Change) -> str | None:
        """The tag of a branch, which its name gives."""
        return tag_of(change.branch.name)

    def tag_will(self, change: Change) -> str:
        """What becomes of the tag of a branch: `set`, `move` or `keep`; empty where it has none."""
        name = tag_of(change.branch.name)
        if name is None:
            return ""
        stands = self.tags.get(name)
        if stands is None:
            return "set"
        return "keep" if change.will == "keep" and stands == change.head else "move"

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        idle = all(change.will == "keep" and self.tag_will(change) in ("keep", "") for change in self.changes)
        return self.seen and idle and not self.left_over


def unseen_plan(branches: list[Branch], reason: str) -> Plan:
    """The plan for a repo that is not there, or that could not be looked at (`reason`)."""
    changes = [Change(branch, None, sorted(branch.files)) for branch in branches]
    return Plan(changes, seen=not reason, notes=[reason] if reason else [])


def look(remote: RemoteRepo, repo: Repo, branches: list[Branch], *, replace_foreign: bool) -> Plan:
    """The plan for a repo that is there. HubError for a branch with somebody else's files in it, unless they may be
    replaced; and for `main` by itself where a branch of its index is not there as the repo has it."""
    refs = remote.refs()
    names = [branch.name for branch in repo.branches]
    trees = {name: remote.tree(commit) for name, commit in refs.branches.items() if name in names}
    changes = [
        change_of(branch, refs.branches.get(branch.name), trees.get(branch.name, {})) for branch in repo.branches
    ]
    by_name = {change.branch.name: change for change in changes}
    chosen = [by_name[branch.name] for branch in branches]
    others = [change for change in changes if change not in chosen]
    if MAIN in [branch.name for branch in branches]:
        missing = [change.branch.name for change in others if change.will != "keep"]
        if missing:
            raise HubError(
                f"--revision {MAIN}: its index names {listed(missing)}, not on the Hub as in {repo.folder}. "
                "Publish the whole repo, without --revision."
            )
    manifest = their_manifest(remote, refs, trees)
    foreign = [change for change in chosen if not is_ours(remote, change, trees, manifest, repo)]
    if foreign and not replace_foreign:
        raise HubError(f"{remote.repo_id}: {_foreign_message(foreign[0], trees, manifest, repo)}")
    notes = [f"{change.branch.name}: files of somebody else are replaced" for change in foreign]
    replaced = [change.branch.name for change in chosen if change.will == "replace"]
    if manifest is not None and MAIN not in [branch.name for branch in branches] and replaced:
        notes.append(f"{MAIN} still describes what {listed(replaced)} held before; publish it as well")
    return Plan(
        chosen,
        tags={tag: refs.tags.get(tag) for change in chosen if (tag := tag_of(change.branch.name)) is not None},
        kept=sorted(name for name in refs.branches if name not in by_name and not is_staging(name)),
        left_over=sorted(name for name in refs.branches if is_staging(name)),
        notes=notes,
    )


def their_manifest(remote: RemoteRepo, refs: Refs, trees: dict[str, dict[str, HubFile]]) -> dict[str, Any] | None:
    """The manifest on the Hub's `main`, where it is one of a laid-out repo."""
    if MANIFEST_NAME not in trees.get(MAIN, {}):
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = remote.download(MANIFEST_NAME, refs.branches[MAIN], Path(folder))
            found = json.loads(path.read_text(encoding="utf-8"))
            return found if found["kind"] == KIND and isinstance(found["files"], dict) else None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, HubError):
                raise
            return None  # a file of somebody else that has the same name


def is_ours(
    remote: RemoteRepo,
    change: Change,
    trees: dict[str, dict[str, HubFile]],
    manifest: dict[str, Any] | None,
    repo: Repo,
) -> bool:
    """Whether what a branch holds may be replaced: nothing, or what was published from a folder of the same name."""
    name = change.branch.name
    if change.will != "replace":
        return True
    same = manifest is not None and name_of(manifest) == name_of(read_manifest(repo.folder))
    if name == MAIN:
        return same
    if manifest is not None and same and any(path.startswith(f"{REVISIONS}/{name}/") for path in manifest["files"]):
        return True
    # Where publishing ended before `main`, no manifest on the Hub knows the branch.
    return next(iter(remote.titles(name).values()), "").startswith(TITLE)


def name_of(manifest: dict[str, Any]) -> Any:
    """The name under which a repo was laid out."""
    config = manifest.get("config")
    return config.get("name") if isinstance(config, dict) else None


def _foreign_message(
    change: Change, trees: dict[str, dict[str, HubFile]], manifest: dict[str, Any] | None, repo: Repo
) -> str:
    name = change.branch.name
    theirs = sorted(set(trees[name]) - INITIAL_FILES)
    what = f"files that were not published from here ({listed(theirs, 3)})"
    if name == MAIN and manifest is not None:
        what = f"the repo {name_of(manifest)}, and {repo.folder} is {name_of(read_manifest(repo.folder))}"
    return f"its branch {name} holds {what}. Nothing was changed. Choose another repo, or give --replace-foreign."
