"""Small laid-out repos, and what may be seen of them on a Hub at any moment."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_recipes.manifest import write_manifest
from hub_cards.loopback.hub import LoopbackHub
from hub_cards.loopback.protocol import Request
from hub_cards.loopback.storage import Repository
from hub_cards.publishing.changes import tag_of
from hub_cards.publishing.turn import STAGING
from hub_cards.repos.folder import KIND, Repo, open_repo

PHASES = ("phase01-step000010-tokens1K", "phase02-step000020-tokens2K", "phase26-step000030-tokens3K")
Wanted = Mapping[str, Mapping[str, str]]
ATTRIBUTES = ".gitattributes"


def write_model(folder: Path, name: str, *, shards: int) -> None:
    """A card, a config, and weights, as many files as asked for, whose content says what they are of."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# {name}\n")
    (folder / "config.json").write_text(json.dumps({"model": name}))
    files = ["model.safetensors"]
    if shards > 1:
        files = [f"model-{number:05d}-of-{shards:05d}.safetensors" for number in range(1, shards + 1)]
        (folder / "model.safetensors.index.json").write_text(json.dumps({"shards": files, "of": name}))
    for file in files:
        (folder / file).write_bytes(f"weights of {name}, {file}".encode() + bytes(40))


def lay_out_checkpoints(
    folder: Path,
    *,
    version: str = "first",
    phases: Sequence[str] = PHASES,
    shards: int = 1,
    name: str = "someone/tiny",
    card: str = "",
) -> Repo:
    """A repo of checkpoints with a branch a phase and an index of them on `main`."""
    for phase in phases:
        write_model(folder / "revisions" / phase, f"{phase} {version}", shards=shards)
    write_model(folder, f"{phases[-1]} {version}", shards=shards)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# {version}\n{card}\n")
    entries = [{"revision": phase, "tag": tag_of(phase)} for phase in phases]
    (folder / "checkpoints.json").write_text(json.dumps({"version": version, "main": phases[-1], "branches": entries}))
    return finish(folder, "model", name, phases)


def lay_out_data(
    folder: Path, *, version: str = "first", files: int = 3, name: str = "someone/tiny", card: str = ""
) -> Repo:
    """A data set of some files in folders."""
    for number in range(files):
        path = folder / "data" / f"phase-{number:02d}" / "rows.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes(f"rows {number} {version}".encode() + bytes(40))
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# data\n{card}\n")
    return finish(folder, "dataset", name, ())


def lay_out_model(
    folder: Path, *, version: str = "first", shards: int = 1, name: str = "someone/tiny", card: str = ""
) -> Repo:
    """A model of one branch."""
    write_model(folder, f"merged {version}", shards=shards)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# model\n{card}\n")
    return finish(folder, "model", name, ())


def lay_out_run(folder: Path, *, version: str = "first", shards: int = 1) -> dict[str, Repo]:
    """The repos of a run, by their ids."""
    model, checkpoints, data = "someone/tiny", "someone/tiny-checkpoints", "someone/tiny-data"
    made = {"version": version, "shards": shards}
    return {
        model: lay_out_model(folder / "tiny", card=f"From {data} by {checkpoints}.", **made),
        checkpoints: lay_out_checkpoints(folder / "tiny-checkpoints", card=f"See {data}.", **made),
        data: lay_out_data(folder / "tiny-data", card=f"For {model}.", version=version),
    }


def finish(folder: Path, type: str, name: str, branches: Sequence[str]) -> Repo:
    config = {"type": type, "name": name, "licence": "mit", "branches": list(branches)}
    write_manifest(folder, kind=KIND, inputs={}, config=config, counts={})
    return open_repo(folder)


def wanted(repo: Repo) -> dict[str, dict[str, str]]:
    """SHA-256 of what each branch shall hold."""
    return {branch.name: {path: file.sha256 for path, file in branch.files.items()} for branch in repo.branches}


class Promise:
    """A listener of the loopback Hub: after every request, no branch shows anything that does not belong to it.

    `versions`: what each repo shall hold, of all that is published to it in this test. A branch is a whole one of
    these, a tag too; the index on `main` names branches that are there whole, of its version or a later one; where
    something is under way (a staging branch) it is empty, or what the branch after which it is named shall be.
    """

    def __init__(self, versions: Mapping[tuple[str, str], Sequence[Wanted]]) -> None:
        self.versions = versions
        self.checked = 0

    def __call__(self, hub: LoopbackHub, request: Request) -> None:
        self.checked += 1
        for which, versions in self.versions.items():
            if which in hub.repos():
                self.check(hub, which, versions, request)

    def check(
        self, hub: LoopbackHub, which: tuple[str, str], versions: Sequence[Wanted], request: Request | None = None
    ) -> None:
        repo = hub.repo(*which)
        for branch, commit in repo.branches.items():
            held = files_of(repo, commit)
            name = branch.removeprefix(STAGING)[13:] if branch.startswith(STAGING) else branch
            assert held in ([{}] if branch in ("main", branch if name != branch else "") else []) + [
                version[name] for version in versions if name in version
            ], f"after {request}: {which[1]}@{branch} holds {sorted(held)}, which belong elsewhere"
            if branch == "main" and held:
                first = next(number for number, version in enumerate(versions) if version["main"] == held)
                self.check_index(repo, versions[first:], request)
        for tag, commit in repo.tags.items():
            held = files_of(repo, commit)
            assert any(version[name] == held for version in versions for name in version if tag_of(name) == tag), (
                f"after {request}: the tag {tag} stands at what is not its phase"
            )

    def check_index(self, repo: Repository, versions: Sequence[Wanted], request: Request | None) -> None:
        for name in set(versions[0]) - {"main"}:
            assert name in repo.branches, f"after {request}: the index on main names {name}, which is not there"
            assert files_of(repo, repo.branches[name]) in [version[name] for version in versions if name in version], (
                f"after {request}: the index on main names {name}, which holds something else"
            )


def files_of(repo: Repository, commit: str) -> dict[str, str]:
    """SHA-256 by path of what somebody put there."""
    return {path: blob.sha256 for path, blob in repo.commits[commit].files.items() if path != ATTRIBUTES}


def assert_complete(hub: LoopbackHub, repo_id: str, repo: Repo) -> None:
    """All branches are as laid out, tags stand at them, and nothing is left of the work."""
    there = hub.repo(repo.type, repo_id)
    assert {branch: files_of(there, commit) for branch, commit in there.branches.items()} == wanted(repo)
    tags = {tag: name for name in wanted(repo) if (tag := tag_of(name))}
    assert there.tags == {tag: there.branches[name] for tag, name in tags.items()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
