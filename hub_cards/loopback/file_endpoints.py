"""Endpoints for files: how each is to be sent, LFS, commits, lists, downloads."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from hub_cards.loopback.lfs_rule import ATTRIBUTES, MOST_BYTES_IN_GIT, is_binary, is_named, with_path
from hub_cards.loopback.protocol import PAGE, REPO, Answer, Call, endpoint, page_of
from hub_cards.loopback.repo_endpoints import readable, type_of, writable, written
from hub_cards.loopback.storage import Blob, Commit, Refusal, Repository, tree_oid

SHA256 = r"(?P<sha256>[0-9a-f]{64})"
IN_REPO = r"(?P<type>model|dataset|space)/(?P<id>[^/]+/[^/]+)"


@endpoint("preupload", "POST", f"/api/{REPO}/preupload/(?P<revision>[^/]+)", receive=Call.json)
def preupload(call: Call, wanted: dict[str, Any]) -> Answer:
    commit = writable(call).find(call.match["revision"])
    attributes = call.state.attributes(commit.files)
    answers = []
    for file in wanted["files"]:
        there = commit.files.get(file["path"])
        named = is_named(file["path"], attributes) or file["size"] > MOST_BYTES_IN_GIT
        lfs = named or is_binary(base64.b64decode(file["sample"]))
        oid = None if there is None else there.sha256 if there.lfs else there.oid
        mode = "lfs" if lfs else "regular"
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return Answer({"files": answers, "commitOid": commit.oid})


@endpoint("lfs-batch", "POST", rf"/{PAGE}\.git/info/lfs/objects/batch", receive=Call.json)
def lfs_batch(call: Call, wanted: dict[str, Any]) -> Answer:
    """Where to send each file that is not here yet. A URL is good for whoever has it, as at a storage service."""
    repo, state = writable(call), call.state
    objects, transfer = [], "basic"
    for item in wanted["objects"]:
        sha256, size = item["oid"], item["size"]
        answer: dict[str, Any] = {"oid": sha256, "size": size, "authenticated": True}
        if sha256 not in repo.lfs:
            where = f"{repo.type}/{repo.id}/{sha256}"
            upload: dict[str, Any] = {"href": f"{state.storage_url}/lfs-upload/{where}"}
            if state.part_size and size > state.part_size and "multipart" in wanted.get("transfers", ()):
                transfer = "multipart"
                numbers = range(1, -(-size // state.part_size) + 1)
                urls = {f"{number:05d}": f"{state.storage_url}/lfs-part/{where}/{number}" for number in numbers}
                header = {"chunk_size": str(state.part_size), **urls}
                upload = {"href": f"{state.url}/lfs-complete/{where}", "header": header}
            verify = {"href": f"{state.url}/lfs-verify/{where}", "header": {}}
            answer["actions"] = {"upload": upload, "verify": verify}
        objects.append(answer)
    return Answer({"transfer": transfer, "objects": objects})


def _receive(call: Call) -> tuple[str, int]:
    return call.state.contents.take(call.body.parts())


@endpoint("lfs-upload", "PUT", f"/lfs-upload/{IN_REPO}/{SHA256}", receive=_receive)
def lfs_upload(call: Call, received: tuple[str, int]) -> Answer:
    _keep(call, received[0])
    return Answer()


@endpoint("lfs-part", "PUT", rf"/lfs-part/{IN_REPO}/{SHA256}/(?P<number>\d+)", receive=_receive)
def lfs_part(call: Call, received: tuple[str, int]) -> Answer:
    call.state.parts.setdefault(call.match["sha256"], {})[int(call.match["number"])] = received[0]
    return Answer(headers={"ETag": f'"{received[0]}"'})


@endpoint("lfs-complete", "POST", f"/lfs-complete/{IN_REPO}/{SHA256}", receive=Call.json)
def lfs_complete(call: Call, wanted: dict[str, Any]) -> Answer:
    sent = call.state.parts.get(call.match["sha256"], {})
    named = {part["partNumber"]: part["etag"].strip('"') for part in wanted["parts"]}
    if {number: sent.get(number) for number in named} != named:
        raise Refusal(400, "The parts that are named were not uploaded")
    joined, _ = call.state.contents.take_joined(named[number] for number in sorted(named))
    _keep(call, joined)
    return Answer({"success": True})


def _keep(call: Call, received: str) -> None:
    if received != call.match["sha256"]:
        raise Refusal(400, f"The content has the SHA-256 {received}, not {call.match['sha256']}")
    repo = call.state.repos.get((call.match["type"], call.match["id"]))
    if repo is None:
        raise Refusal(404, "Repository not found", code="RepoNotFound")
    repo.lfs.add(received)


@endpoint("lfs-verify", "POST", f"/lfs-verify/{IN_REPO}/{SHA256}", receive=Call.json)
def lfs_verify(call: Call, wanted: dict[str, Any]) -> Answer:
    repo = call.state.writable(call.match["type"], call.match["id"], call.user)
    if wanted["oid"] not in repo.lfs:
        raise Refusal(404, "The object was not uploaded")
    if call.state.contents.path(wanted["oid"]).stat().st_size != wanted["size"]:
        raise Refusal(422, "The object has another size")
    return Answer({"success": True})


@dataclass
class Changes:
    """What a commit asks for."""

    header: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Blob] = field(default_factory=dict)
    deleted_files: list[str] = field(default_factory=list)
    deleted_folders: list[str] = field(default_factory=list)


def _read_changes(call: Call) -> Changes:
    """The lines of a commit. A content goes to its file at once; if the commit is refused, nothing names it."""
    changes = Changes()
    for line in call.body.lines():
        change = json.loads(line)
        key, value = change["key"], change["value"]
        if key == "header":
            changes.header = value
            continue
        path = value["path"].rstrip("/")
        if not path or path.startswith("/") or {".", "..", "", ".git"} & set(path.split("/")):
            raise Refusal(400, f"Invalid path: {value['path']}")
        if key == "file":
            encoding = value.get("encoding", "utf-8")
            content = base64.b64decode(value["content"]) if encoding == "base64" else value["content"].encode()
            if len(content) > MOST_BYTES_IN_GIT:
                raise Refusal(413, f"{path}: files larger than {MOST_BYTES_IN_GIT} bytes must be sent through LFS")
            changes.files[path] = call.state.contents.take_bytes(content)
        elif key == "lfsFile":
            stored = call.state.contents.path(value["oid"])
            size = stored.stat().st_size if stored.is_file() else value.get("size", 0)
            changes.files[path] = Blob.in_lfs(value["oid"], size)
        elif key in ("deletedFile", "deletedFolder"):
            (changes.deleted_files if key == "deletedFile" else changes.deleted_folders).append(path)
        else:
            raise Refusal(400, f"Unknown change: {key}")
    return changes


@endpoint("commit", "POST", f"/api/{REPO}/commit/(?P<revision>[^/]+)", receive=_read_changes)
def commit(call: Call, changes: Changes) -> Answer:
    repo, branch = writable(call), call.match["revision"]
    if branch not in repo.branches:
        raise Refusal(404, f"Invalid rev id: {branch}", code="RevisionNotFound")
    if call.asked("create_pr"):
        raise Refusal(501, "The loopback hub has no pull requests")
    head = repo.branches[branch]
    parent = changes.header.get("parentCommit")
    if parent is not None and not head.startswith(parent.lower()):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    if not changes.header.get("summary"):
        raise Refusal(400, "A commit needs a summary")
    files = _changed(call, repo, dict(repo.commits[head].files), changes)
    assert call.user is not None
    made = repo.add_commit(
        branch,
        files,
        author=call.user.name,
        title=changes.header["summary"],
        message=changes.header.get("description", ""),
    )
    page = f"{call.state.url}/{'' if repo.type == 'model' else repo.type + 's/'}{repo.id}"
    return Answer({"success": True, "commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}", "hookOutput": ""})


def _changed(call: Call, repo: Repository, files: dict[str, Blob], changes: Changes) -> dict[str, Blob]:
    for path in changes.deleted_files:
        if path not in files:
            raise Refusal(404, "A file with this name doesn't exist", code="EntryNotFound")
        del files[path]
    for folder in changes.deleted_folders:
        inside = [path for path in files if path.startswith(f"{folder}/")]
        if not inside:
            raise Refusal(404, "A folder with this name doesn't exist", code="EntryNotFound")
        for path in inside:
            del files[path]
    attributes = call.state.attributes({**files, **changes.files})
    for path, blob in changes.files.items():
        if blob.lfs and blob.sha256 not in repo.lfs:
            message = "Your push was rejected because an LFS pointer pointed to a file that does not exist."
            raise Refusal(400, f"{message} Offending file: {path}")
        if any(str(parent) in files or str(parent) in changes.files for parent in PurePosixPath(path).parents):
            raise Refusal(400, f"{path}: a file is where its folder should be")
        files[path] = blob
        if blob.lfs and not is_named(path, attributes):
            attributes = with_path(attributes, path)
            files[ATTRIBUTES] = call.state.contents.take_bytes(attributes)
    return files


@endpoint("tree", "GET", f"/api/{REPO}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?")
def tree(call: Call, _: Any) -> Answer:
    repo = readable(call)
    found = repo.find(call.match["revision"])
    top = call.match.get("path", "").strip("/")
    if top and not any(path.startswith(f"{top}/") for path in found.files):
        raise Refusal(404, f'{top} does not exist on "{call.match["revision"]}"', code="EntryNotFound")
    names = sorted(_below(found, top, recursive=call.asked("recursive")))
    return page_of(call, [_entry(repo, found, name, expand=call.asked("expand")) for name in names])


def _below(found: Commit, top: str, *, recursive: bool) -> set[str]:
    """Paths of files and folders inside `top`."""
    start = f"{top}/" if top else ""
    names = set()
    for path in found.files:
        if path.startswith(start):
            parts = path.removeprefix(start).split("/")
            for depth in range(1, len(parts) + 1 if recursive else 2):
                names.add(start + "/".join(parts[:depth]))
    return names


@endpoint("paths-info", "POST", f"/api/{REPO}/paths-info/(?P<revision>[^/]+)", receive=Call.form)
def paths_info(call: Call, wanted: dict[str, Any]) -> Answer:
    repo = readable(call)
    found = repo.find(call.match["revision"])
    expand = str(wanted.get("expand", "")).strip("[]'").lower() == "true"
    names = [path.strip("/") for path in wanted.get("paths", [])]
    there = [name for name in names if name in found.files or _below(found, name, recursive=False)]
    return Answer([_entry(repo, found, name, expand=expand) for name in there])


def _entry(repo: Repository, found: Commit, path: str, *, expand: bool) -> dict[str, Any]:
    """A file or a folder as a list has it."""
    blob = found.files.get(path)
    if blob is None:
        inside = {
            name.removeprefix(f"{path}/"): one for name, one in found.files.items() if name.startswith(f"{path}/")
        }
        return {"type": "directory", "oid": tree_oid(inside), "size": 0, "path": path}
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    if expand:
        last = repo.last_change(found, path)
        entry["lastCommit"] = {"id": last.oid, "title": last.title, "date": written(last)}
    return entry


@endpoint("resolve", "GET HEAD", f"/{PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(call: Call, _: Any) -> Answer:
    """A file; one in LFS is at the storage service, whose answer has no need of the token."""
    repo = call.state.downloadable(type_of(call), call.match["id"], call.user)
    found, path = repo.find(call.match["revision"]), call.match["path"]
    blob = found.files.get(path)
    if blob is None:
        raise Refusal(404, "Entry not found", code="EntryNotFound", headers={"X-Repo-Commit": found.oid})
    headers = {"X-Repo-Commit": found.oid, "Content-Disposition": f"inline; filename*=UTF-8''{quote(path)}"}
    if not blob.lfs:
        return _content(call, blob.sha256, {**headers, "ETag": f'"{blob.oid}"'})
    headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size), "ETag": f'"{blob.oid}"'}
    headers["Location"] = f"{call.state.storage_url}/lfs-download/{blob.sha256}/{quote(path)}"
    return Answer(status=302, headers=headers)


@endpoint("lfs-download", "GET HEAD", f"/lfs-download/{SHA256}/.+")
def lfs_download(call: Call, _: Any) -> Answer:
    return _content(call, call.match["sha256"], {"ETag": f'"{call.match["sha256"]}"'})


def _content(call: Call, sha256: str, headers: dict[str, str]) -> Answer:
    """All of a content, or the part that the request's Range names."""
    place = call.state.contents.path(sha256)
    size = place.stat().st_size
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    first, last = 0, size
    wanted = call.headers.get("Range", "")
    if wanted.startswith("bytes=") and "," not in wanted:
        start, _, end = wanted.removeprefix("bytes=").partition("-")
        first, last = (
            (int(start), min(int(end) + 1 if end else size, size)) if start else (max(0, size - int(end)), size)
        )
        if first >= size:
            raise Refusal(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
        return Answer(status=206, headers=headers, file=place, first=first, last=last)
    return Answer(headers=headers, file=place, first=first, last=last)
