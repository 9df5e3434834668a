"""Accounts, repos and collections of the loopback Hub, and who may do what."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hub_cards.loopback.lfs_rule import ATTRIBUTES, default_attributes, is_binary, is_named
from hub_cards.loopback.storage import FIRST_DATE, MAIN, Blob, Contents, Refusal, Repository

WRITERS = ("admin", "write", "contributor")


@dataclass(frozen=True)
class User:
    """An account: the organizations that it is in, with its role there; `role` is what its token is for."""

    name: str
    orgs: Mapping[str, str] = field(default_factory=dict)
    role: str = "write"

    def may_write(self, namespace: str) -> bool:
        roles = {**self.orgs, self.name: "admin"}
        return self.role == "write" and roles.get(namespace) in WRITERS


@dataclass
class Collection:
    """A list of repos under a title."""

    slug: str
    title: str
    owner: str
    description: str = ""
    private: bool = False
    items: list[dict[str, Any]] = field(default_factory=list)
    updated: datetime = FIRST_DATE


class State:
    """All that requests read and change. Whoever uses it holds the hub's lock."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.users: dict[str, User] = {}  # by token
        self.repos: dict[tuple[str, str], Repository] = {}
        self.moved: dict[tuple[str, str], tuple[str, int]] = {}  # old name: new name, and the redirect's status
        self.collections: dict[str, Collection] = {}
        self.parts: dict[str, dict[int, str]] = {}  # of uploads in parts: SHA-256 of the whole to those of the parts
        self.url = self.storage_url = ""
        self.page_size = 1000
        self.part_size: int | None = None

    def user_of(self, authorization: str | None) -> User | None:
        """Who sends a request; None without a token."""
        if not authorization:
            return None
        user = self.users.get(authorization.removeprefix("Bearer ").strip())
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def readable(self, repo_type: str, repo_id: str, user: User | None) -> Repository:
        """A repo that this user may see. What is private does not exist for others."""
        repo = self.repos.get((repo_type, repo_id))
        if repo is not None and (not repo.private or (user is not None and _is_member(user, repo.namespace))):
            return repo
        if user is None:
            raise Refusal(401, "Invalid username or password.", code="RepoNotFound")
        raise Refusal(404, "Repository not found", code="RepoNotFound")

    def downloadable(self, repo_type: str, repo_id: str, user: User | None) -> Repository:
        """A repo whose files this user may have: of a gated one, after its terms were accepted."""
        repo = self.readable(repo_type, repo_id, user)
        if repo.disabled:
            raise Refusal(403, "Access to this resource is disabled.")
        if repo.gated and (user is None or not (_is_member(user, repo.namespace) or user.name in repo.admitted)):
            where = f"{self.url}/{repo.id}"
            message = f"Access to {repo.type} {repo.id} is restricted. Visit {where} to ask for access."
            raise Refusal(401 if user is None else 403, message, code="GatedRepo")
        return repo

    def writable(self, repo_type: str, repo_id: str, user: User | None) -> Repository:
        """A repo that this user may change."""
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        repo = self.readable(repo_type, repo_id, user)
        if not user.may_write(repo.namespace):
            raise Refusal(403, f"You don't have the rights to write to {repo.id}")
        return repo

    def owned(self, namespace: str, user: User | None, what: str) -> User:
        """The user, who may make something in `namespace`."""
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if not user.may_write(namespace):
            message = f'You don\'t have the rights to create a {what} under the namespace "{namespace}"'
            raise Refusal(403, message)
        return user

    def make_repo(self, repo_type: str, repo_id: str, *, author: str, **settings: Any) -> Repository:
        """A new repo with the first commit that the Hub makes."""
        repo = Repository(repo_type, repo_id, **settings)
        first = {ATTRIBUTES: self.contents.take_bytes(default_attributes(repo_type))}
        repo.add_commit(MAIN, first, author=author, title="initial commit")
        self.repos[repo_type, repo_id] = repo
        return repo

    def attributes(self, files: Mapping[str, Blob]) -> bytes:
        """The .gitattributes among the files of a commit."""
        return self.contents.read(files[ATTRIBUTES].sha256) if ATTRIBUTES in files else b""

    def put_bytes(self, repo: Repository, path: str, content: bytes, attributes: bytes) -> Blob:
        """Keep a file as a commit would hold it."""
        if content and (is_named(path, attributes) or is_binary(content[:512])):
            blob = Blob.in_lfs(*self.contents.take([content]))
            repo.lfs.add(blob.sha256)
            return blob
        return self.contents.take_bytes(content)

    def make_collection(self, title: str, owner: str, description: str, private: bool) -> Collection:
        words = "-".join(re.findall(r"[a-z0-9]+", title.lower()))
        slug = f"{owner}/{words}-{hashlib.sha256(f'{owner} {title}'.encode()).hexdigest()[:24]}"
        if slug in self.collections:
            raise Refusal(409, "This collection already exists", content={"slug": slug})
        self.collections[slug] = Collection(slug, title, owner, description, private)
        return self.collections[slug]


def _is_member(user: User, namespace: str) -> bool:
    return namespace == user.name or namespace in user.orgs
