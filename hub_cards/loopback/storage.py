"""What the loopback Hub holds: contents in files by SHA-256, and repos whose commits name them as git does."""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

MAIN = "main"
CHUNK = 1 << 20
FIRST_DATE = datetime(2026, 1, 1, tzinfo=UTC)
FILE_MODE, FOLDER_MODE = b"100644", b"40000"


class Refusal(Exception):
    """What the Hub says no with; `code` is its X-Error-Code, `content` and `headers` what else its answer holds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        content: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.content, self.headers = content or {}, headers or {}


def git_oid(kind: str, content: bytes) -> str:
    """The name that git gives an object."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """What git holds instead of a file in LFS."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


@dataclass(frozen=True)
class Blob:
    """A file in a commit: its content by SHA-256, and the name that git has for it (for LFS, for its pointer)."""

    size: int
    sha256: str
    oid: str
    lfs: bool

    @classmethod
    def in_lfs(cls, sha256: str, size: int) -> "Blob":
        return cls(size, sha256, git_oid("blob", lfs_pointer(sha256, size)), True)

    @classmethod
    def of_bytes(cls, content: bytes) -> "Blob":
        return cls(len(content), hashlib.sha256(content).hexdigest(), git_oid("blob", content), False)


class Contents:
    """Contents by SHA-256, each a file of `folder`: none of them is held in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        self._lock = threading.Lock()

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def read(self, sha256: str) -> bytes:
        return self.path(sha256).read_bytes()

    def take(self, parts: Iterable[bytes]) -> tuple[str, int]:
        """Keep a content that comes in parts; its SHA-256 and size."""
        with self._lock:
            self._number += 1
            unfinished = self.folder / f"unfinished-{self._number}"
        digest, size = hashlib.sha256(), 0
        try:
            with unfinished.open("wb") as file:
                for part in parts:
                    file.write(part)
                    digest.update(part)
                    size += len(part)
            os.replace(unfinished, self.path(digest.hexdigest()))
        finally:
            unfinished.unlink(missing_ok=True)
        return digest.hexdigest(), size

    def take_bytes(self, content: bytes) -> Blob:
        """Keep the content of a file that is not in LFS."""
        self.take([content])
        return Blob.of_bytes(content)

    def take_joined(self, names: Iterable[str]) -> tuple[str, int]:
        """Keep a content whose parts are contents here; its SHA-256 and size."""

        def parts() -> Iterator[bytes]:
            for name in names:
                with self.path(name).open("rb") as file:
                    while part := file.read(CHUNK):
                        yield part

        return self.take(parts())


@dataclass(frozen=True)
class Commit:
    """A state of all files, and where it comes from."""

    oid: str
    parents: tuple[str, ...]
    files: Mapping[str, Blob]
    author: str
    date: datetime
    title: str
    message: str


@dataclass
class Repository:
    """A repo: its commits by name, what its branches and tags point to, and who may see it."""

    type: str
    id: str
    private: bool = False
    gated: str | bool = False
    disabled: bool = False
    admitted: set[str] = field(default_factory=set)  # users who have accepted the terms of a gated repo
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)  # SHA-256 of what was uploaded to this repo

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    def find(self, revision: str) -> Commit:
        """The commit of a branch, a tag or a commit's name."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> Iterator[Commit]:
        """The commit and those before it, the newest first."""
        commit: Commit | None = self.find(revision)
        while commit is not None:
            yield commit
            commit = self.commits[commit.parents[0]] if commit.parents else None

    def add_commit(
        self, branch: str, files: Mapping[str, Blob], *, author: str, title: str, message: str = ""
    ) -> Commit:
        """Put a commit of `files` on a branch. Dates are a second apart from a fixed one, so that names repeat."""
        parents = (self.branches[branch],) if branch in self.branches else ()
        date = FIRST_DATE + timedelta(seconds=len(self.commits))
        lines = [
            f"tree {tree_oid(files)}",
            *(f"parent {parent}" for parent in parents),
            f"author {author} <{author}@loopback> {int(date.timestamp())} +0000",
            "",
            title,
            message,
        ]
        oid = git_oid("commit", "\n".join(lines).encode())
        self.commits[oid] = Commit(oid, parents, dict(sorted(files.items())), author, date, title, message)
        self.branches[branch] = oid
        return self.commits[oid]

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The commit that gave `path` the content that it has in `commit`."""
        found = commit
        for earlier in islice(self.history(commit.oid), 1, None):
            if earlier.files.get(path) != commit.files.get(path):
                break
            found = earlier
        return found


def tree_oid(files: Mapping[str, Blob]) -> str:
    """The name that git has for a folder of these files."""
    entries: list[tuple[bytes, bytes, str]] = []
    folders: dict[str, dict[str, Blob]] = {}
    for path, blob in files.items():
        first, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(first, {})[rest] = blob
        else:
            entries.append((first.encode(), FILE_MODE, blob.oid))
    entries += [(name.encode(), FOLDER_MODE, tree_oid(content)) for name, content in folders.items()]
    # Git sorts a folder as if its name ended with a slash.
    entries.sort(key=lambda entry: entry[0] + (b"/" if entry[1] == FOLDER_MODE else b""))
    content = b"".join(b"%s %s\0%s" % (mode, name, bytes.fromhex(oid)) for name, mode, oid in entries)
    return git_oid("tree", content)
