"""Endpoints for repos as wholes: made, set, told about, their branches, tags and history."""

import re
from typing import Any

import yaml

from hub_cards.loopback.account_endpoints import front_matter
from hub_cards.loopback.protocol import REPO, Answer, Call, endpoint, page_of
from hub_cards.loopback.storage import MAIN, Blob, Commit, Refusal, Repository

REF = re.compile(r"(?!/|.*(?:[/.]\.|//|@\{|\\))[^\x00-\x20~^:?*\[\x7f]+(?<!\.lock)(?<!/)(?<!\.)")
NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?<!\.git)(?<![.-])")


def type_of(call: Call) -> str:
    """model, dataset or space, by the path of the request."""
    return call.match.get("types", "models").rstrip("/").removesuffix("s")


def readable(call: Call) -> Repository:
    return call.state.readable(type_of(call), call.match["id"], call.user)


def writable(call: Call) -> Repository:
    return call.state.writable(type_of(call), call.match["id"], call.user)


def written(commit: Commit) -> str:
    """The date of a commit as the Hub writes it."""
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@endpoint("create-repo", "POST", "/api/repos/create", receive=Call.json)
def create_repo(call: Call, wanted: dict[str, Any]) -> Answer:
    repo_type, name = wanted.get("type") or "model", wanted["name"]
    user = call.user
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    namespace = wanted.get("organization") or user.name
    call.state.owned(namespace, user, repo_type)
    if not NAME.fullmatch(name):
        raise Refusal(400, f"Invalid repo name: {namespace}/{name}")
    repo_id = f"{namespace}/{name}"
    answer = {"url": f"{call.state.url}/{'' if repo_type == 'model' else repo_type + 's/'}{repo_id}", "name": repo_id}
    if (repo_type, repo_id) in call.state.repos:
        raise Refusal(409, f"You already created this {repo_type} repo", content=answer)
    private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    call.state.make_repo(repo_type, repo_id, author=user.name, private=private)
    return Answer(answer)


@endpoint("delete-repo", "DELETE", "/api/repos/delete", receive=Call.json)
def delete_repo(call: Call, wanted: dict[str, Any]) -> Answer:
    namespace = wanted.get("organization") or (call.user.name if call.user else "")
    repo = call.state.writable(wanted.get("type") or "model", f"{namespace}/{wanted['name']}", call.user)
    del call.state.repos[repo.type, repo.id]
    return Answer({})


@endpoint("settings", "PUT", f"/api/{REPO}/settings", receive=Call.json)
def settings(call: Call, wanted: dict[str, Any]) -> Answer:
    repo = writable(call)
    if "visibility" in wanted or "private" in wanted:
        repo.private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    if "gated" in wanted:
        repo.gated = wanted["gated"]
    return Answer({"private": repo.private, "gated": repo.gated})


@endpoint("info", "GET HEAD", f"/api/{REPO}(?:/revision/(?P<revision>[^/]+))?")
def info(call: Call, _: Any) -> Answer:
    repo = readable(call)
    commit = repo.find(call.match.get("revision", MAIN))
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in commit.files]
    if call.asked("blobs"):
        siblings = [{"rfilename": path, **_blob(blob)} for path, blob in commit.files.items()]
    last = repo.find(MAIN)
    described = {
        "_id": repo.find(MAIN).oid[:24],
        "id": repo.id,
        **({"modelId": repo.id} if repo.type == "model" else {}),
        "author": repo.namespace,
        "sha": commit.oid,
        "createdAt": written(list(repo.history(MAIN))[-1]),
        "lastModified": written(last),
        "private": repo.private,
        "gated": repo.gated,
        "disabled": repo.disabled,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "usedStorage": sum(blob.size for blob in last.files.values()),
        "siblings": siblings,
    }
    header = _header(call, commit)
    if header is not None:
        described["cardData"] = header
    return Answer(described)


def _header(call: Call, commit: Commit) -> Any:
    card = commit.files.get("README.md")
    if card is None:
        return None
    try:
        header = front_matter(call.state.contents.read(card.sha256).decode(errors="replace"))
    except yaml.YAMLError:
        return None
    return header if isinstance(header, dict) else None


def _blob(blob: Blob) -> dict[str, Any]:
    lfs = {"lfs": {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}} if blob.lfs else {}
    return {"size": blob.size, "blobId": blob.oid, **lfs}


@endpoint("auth-check", "GET", f"/api/{REPO}/auth-check")
def auth_check(call: Call, _: Any) -> Answer:
    """Whether this user may have the files."""
    call.state.downloadable(type_of(call), call.match["id"], call.user)
    return Answer({})


@endpoint("refs", "GET", f"/api/{REPO}/refs")
def refs(call: Call, _: Any) -> Answer:
    repo = readable(call)
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in sorted(repo.branches.items())
    ]
    tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in sorted(repo.tags.items())]
    return Answer({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@endpoint("commits", "GET", f"/api/{REPO}/commits/(?P<revision>[^/]+)")
def commits(call: Call, _: Any) -> Answer:
    found = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": written(commit),
        }
        for commit in readable(call).history(call.match["revision"])
    ]
    return page_of(call, found)


@endpoint("create-branch", "POST", f"/api/{REPO}/branch/(?P<branch>[^/]+)", receive=Call.json)
def create_branch(call: Call, wanted: dict[str, Any]) -> Answer:
    repo, branch = writable(call), call.match["branch"]
    _check_ref(branch)
    if branch in repo.branches:
        raise Refusal(409, f"Reference already exists: refs/heads/{branch}")
    repo.branches[branch] = repo.find(wanted.get("startingPoint") or MAIN).oid
    return Answer({}, 201)


@endpoint("delete-branch", "DELETE", f"/api/{REPO}/branch/(?P<branch>[^/]+)")
def delete_branch(call: Call, _: Any) -> Answer:
    repo, branch = writable(call), call.match["branch"]
    if branch == MAIN:
        raise Refusal(403, "The main branch cannot be deleted")
    if branch not in repo.branches:
        raise Refusal(404, f"Invalid rev id: {branch}", code="RevisionNotFound")
    del repo.branches[branch]
    return Answer({})


@endpoint("create-tag", "POST", f"/api/{REPO}/tag/(?P<revision>[^/]+)", receive=Call.json)
def create_tag(call: Call, wanted: dict[str, Any]) -> Answer:
    repo, tag = writable(call), wanted["tag"]
    _check_ref(tag)
    commit = repo.find(call.match["revision"])
    if tag in repo.tags:
        raise Refusal(409, f"Tag reference already exists: refs/tags/{tag}")
    repo.tags[tag] = commit.oid
    return Answer({})


@endpoint("delete-tag", "DELETE", f"/api/{REPO}/tag/(?P<tag>[^/]+)")
def delete_tag(call: Call, _: Any) -> Answer:
    repo, tag = writable(call), call.match["tag"]
    if tag not in repo.tags:
        raise Refusal(404, f"Invalid rev id: {tag}", code="RevisionNotFound")
    del repo.tags[tag]
    return Answer({})


def _check_ref(name: str) -> None:
    if not REF.fullmatch(name):
        raise Refusal(400, f"Invalid reference name: {name}")
