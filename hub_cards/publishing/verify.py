"""After publishing: is what is on the Hub now what the folder holds, and does it come back so?"""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from data_recipes.errors import listed
from data_recipes.manifest import sha256_file
from hub_cards.errors import HubError
from hub_cards.publishing.changes import change_of, tag_of
from hub_cards.publishing.remote import RemoteRepo
from hub_cards.publishing.sending import Bar
from hub_cards.repos.folder import Branch

AGAIN = "Somebody changed it meanwhile, or the Hub lost it. The same command repairs it."

# Small files come several at a time, as most of the time is waiting for answers; of large ones the disk holds one.
AT_A_TIME, SMALL = 4, 64 << 20


def verify_refs(remote: RemoteRepo, branches: Sequence[Branch], commits: Mapping[str, str]) -> None:
    """HubError unless each branch, and its tag, is at its commit, and the hashes that the Hub lists are ours."""
    refs = remote.refs()
    for branch in branches:
        commit = commits[branch.name]
        tag = tag_of(branch.name)
        at = {f"the branch {branch.name}": refs.branches.get(branch.name)} | (
            {f"the tag {tag}": refs.tags.get(tag)} if tag else {}
        )
        for what, stands in at.items():
            if stands != commit:
                where = f"at {stands[:8]}" if stands else "gone"
                raise HubError(f"{remote.repo_id}: {what} is {where}, expected at {commit[:8]}. {AGAIN}")
        left = change_of(branch, commit, remote.tree(commit))
        if left.will != "keep":
            differ = listed([*left.add, *left.delete])
            raise HubError(f"{remote.repo_id}: {branch.name} differs from the folder in {differ}. {AGAIN}")


def verify_content(remote: RemoteRepo, branch: Branch, commit: str, bar: Bar) -> None:
    """Download every file of a branch at its commit and compare its checksum; each is deleted when it is compared.
    HubError where one differs."""

    def verify_one(path: str) -> int:
        there = remote.download(path, commit, Path(folder))
        if sha256_file(there) != branch.files[path].sha256:
            raise HubError(f"{remote.repo_id}: {path} of {branch.name} comes back with another content. {AGAIN}")
        there.unlink()
        return branch.files[path].size

    with tempfile.TemporaryDirectory(prefix="yulanmini-verify-") as folder, ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            small = [path for path, file in branch.files.items() if file.size < SMALL]
            for size in chain(pool.map(verify_one, small), map(verify_one, set(branch.files) - set(small))):
                bar.update(size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
