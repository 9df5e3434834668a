"""What a branch on the Hub lacks of what it shall hold, by the hashes that the Hub lists; nothing is downloaded."""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from huggingface_hub.hf_api import RepoFile as HubFile

from data_recipes.errors import listed, nearest
from hub_cards.errors import HubError
from hub_cards.repos.folder import CARD_NAME, MAIN, Branch, Repo, RepoFile
from hub_cards.repos.names import REVISION_NAME

# The Hub's own list of what is a large file; it changes it by itself.
ATTRIBUTES = ".gitattributes"
# What the Hub, or its page for a new repo, puts into a repo before anyone else does.
INITIAL_FILES = {ATTRIBUTES, CARD_NAME}
# Names that no machine mistakes, and that the Hub and its client take.
FILE_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9._+=@-]+( [A-Za-z0-9._+=@-]+)*")
FORBIDDEN_FOLDERS = (".git", ".cache")


@dataclass(frozen=True)
class Change:
    """How a branch becomes what it shall be. `head`: the commit that was looked at; None where there is no branch.
    `empty`: nobody has put anything there yet."""

    branch: Branch
    head: str | None
    add: list[str] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    empty: bool = True

    @property
    def will(self) -> str:
        """`create`, `replace`, or `keep` where the branch is what it shall be."""
        return "keep" if not (self.add or self.delete) else "create" if self.empty else "replace"

    @property
    def to_send(self) -> int:
        """Bytes of the files that differ; how many of them the Hub has already is not known before they are sent."""
        return sum(self.branch.files[path].size for path in self.add)


def change_of(branch: Branch, head: str | None, tree: Mapping[str, HubFile]) -> Change:
    """The change from a commit's files to those of the branch."""
    add = [path for path, file in branch.files.items() if not (path in tree and is_same(file, tree[path]))]
    delete = [path for path in tree if path not in branch.files and path != ATTRIBUTES]
    return Change(branch, head, sorted(add), sorted(delete), empty=set(tree) <= INITIAL_FILES)


def is_same(file: RepoFile, there: HubFile) -> bool:
    """Whether the Hub holds this content: of a large file it lists the SHA-256, of another git's id of it."""
    if there.size != file.size:
        return False
    if there.lfs is not None:
        return there.lfs.sha256 == file.sha256
    return git_id(checked_content(file)) == there.blob_id


def git_id(content: bytes) -> str:
    """git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def checked_content(file: RepoFile) -> bytes:
    """The content of a small file; HubError where it is not what the check saw."""
    try:
        content = file.place.read_bytes()
    except OSError as error:
        raise changed_since(file) from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise changed_since(file)
    return content


def changed_since(file: RepoFile) -> HubError:
    """The error of a file that is not what the check saw."""
    return HubError(
        f"{file.place}: changed since the repo was laid out and checked. Only what was checked is committed. "
        "Lay the repo out again, or put the file back."
    )


def chosen_branches(repo: Repo, revision: str | None) -> list[Branch]:
    """The branches to publish, in order; with `revision` that one, which the repo must have."""
    names = [branch.name for branch in repo.branches]
    if revision is not None and revision not in names:
        raise HubError(f"--revision {revision}: no such branch in {repo.folder}.{nearest(revision, names)}")
    return [branch for branch in repo.branches if revision in (None, branch.name)]


def check_places(repo: Repo, branches: list[Branch]) -> None:
    """HubError for a file that may not be sent: a link, one that is not there or of another size, a strange name."""
    problems = []
    for branch in branches:
        if branch.name != MAIN and not FILE_NAME.fullmatch(branch.name):
            problems.append(f"branch {branch.name!r}: not a name that the Hub takes")
        for path, file in branch.files.items():
            parts = PurePosixPath(path).parts
            if not all(FILE_NAME.fullmatch(part) for part in parts) or "/".join(parts) != path:
                problems.append(f"{path!r}: not a name that may be published; rename it")
            elif path == ATTRIBUTES:
                problems.append(f"{path}: the Hub writes its own; remove it")
            elif set(parts) & set(FORBIDDEN_FOLDERS):
                problems.append(f"{path}: the Hub takes no file of a folder {', '.join(FORBIDDEN_FOLDERS)}")
            else:
                problems += [f"{file.place}: {problem}" for problem in _place_problems(repo, file)]
    if problems:
        raise HubError(f"{repo.folder}: not published: {listed(problems)}. Lay it out again.")


def _place_problems(repo: Repo, file: RepoFile) -> list[str]:
    """What is wrong with a file where it lies; it must be inside the repo's folder, with no link on the way."""
    inside = file.place.relative_to(repo.folder)
    places = [repo.folder.joinpath(*inside.parts[: count + 1]) for count in range(len(inside.parts))]
    if any(place.is_symlink() for place in places):
        return ["a symbolic link; a repo holds plain files only"]
    try:
        found = os.stat(file.place)
    except OSError:
        return ["missing"]
    if not stat.S_ISREG(found.st_mode):
        return ["not a plain file"]
    return [] if found.st_size == file.size else [f"{found.st_size} bytes, expected {file.size}"]


def tag_of(branch: str) -> str | None:
    """The tag of a phase's branch: `phase07`, `phase26-4k`, and `phase20-optimizer` for the one with its optimizer's
    state. None for a branch of another form of name, `main` among them."""
    if REVISION_NAME.fullmatch(branch) is None:
        return None
    phase, _, rest = branch.partition("-step")
    return f"{phase}-optimizer" if rest.endswith("-optimizer") else phase
