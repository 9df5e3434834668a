"""A Hub on 127.0.0.1 with the requests that publishing makes: repos, branches, LFS, commits; it can fail on demand.

It refuses what the Hub refuses: a missing or wrong token, a commit to a branch that does not exist, an LFS file in a
commit that was never uploaded.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "loopback-token"
LFS_SUFFIXES = (".safetensors", ".arrow")


class LoopbackHub:
    """The state: `repos[type/id][branch][path]` is a file's content; `fail` lists (method, path part) to fail once."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fail: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, body: Any = None) -> None:
                data = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status >= 400:
                    self.send_header("X-Error-Message", str((body or {}).get("error", "")))
                    if status == 404:
                        self.send_header("X-Error-Code", (body or {}).get("code", "RepoNotFound"))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(self.path.split("?")[0])
                hub.requests.append((self.command, path))
                for item in hub.fail:
                    if item[0] == self.command and item[1] in path:
                        hub.fail.remove(item)
                        return self.answer(400, {"error": "the disk of the loopback hub is full"})
                if not path.startswith("/blob/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self.answer(401, {"error": "Invalid credentials"})
                return self.answer(*hub.respond(self.command, path, body, f"http://{self.headers['Host']}"))

            do_GET = do_POST = do_PUT = do_HEAD = handle_any

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def respond(self, method: str, path: str, body: bytes, url: str) -> tuple[int, Any]:
        """Status and JSON body."""
        if (method, path) == ("GET", "/api/whoami-v2"):
            return 200, {"name": "someone", "type": "user", "orgs": []}
        if (method, path) == ("POST", "/api/validate-yaml"):
            return 200, {"errors": [], "warnings": []}
        if (method, path) == ("POST", "/api/repos/create"):
            return self.create(json.loads(body), url)
        if method == "PUT" and path.startswith("/blob/"):
            digest = path.rsplit("/", 1)[1]
            if hashlib.sha256(body).hexdigest() != digest:
                return 400, {"error": "content and oid differ"}
            self.blobs[digest] = body
            return 200, None
        lfs = re.fullmatch(r"/(datasets/)?(.+)\.git/info/lfs/objects/batch", path)
        if lfs:
            return 200, {"transfer": "basic", "objects": [self.lfs(item, url) for item in json.loads(body)["objects"]]}
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w[\w-]*)(?:/(.+))?)?", path)
        if api is None:
            return 404, {"error": f"no such endpoint: {method} {path}"}
        repo = self.repos.get(f"{api[1]}/{api[2]}")
        if repo is None:
            return 404, {"error": "Repository not found", "code": "RepoNotFound"}
        action, rest = api[3], api[4]
        if action == "branch":
            if rest in repo:
                return 409, {"error": "Reference already exists"}
            repo[rest] = dict(repo["main"])
            return 201, None
        branch = rest.split("/")[0] if rest else "main"
        if branch not in repo:
            return 404, {"error": "Revision not found", "code": "RevisionNotFound"}
        if action == "preupload":
            files = json.loads(body)["files"]
            answer = [
                {
                    "path": item["path"],
                    "uploadMode": "lfs" if item["path"].endswith(LFS_SUFFIXES) else "regular",
                    "shouldIgnore": False,
                    "oid": git_oid(repo[branch][item["path"]]) if item["path"] in repo[branch] else None,
                }
                for item in files
            ]
            return 200, {"files": answer}
        if action == "commit":
            return self.commit(repo, branch, body, f"{url}/{api[2]}")
        if action == "paths-info":
            wanted = json.loads(body)["paths"]
            return 200, [entry(name, repo[branch][name]) for name in wanted if name in repo[branch]]
        if action == "tree":
            return 200, [entry(name, content) for name, content in repo[branch].items()]
        if action in (None, "revision"):
            siblings = [{"rfilename": name} for name in repo[branch]]
            return 200, {"id": api[2], "sha": "0" * 40, "private": False, "siblings": siblings}
        return 404, {"error": f"no such endpoint: {method} {path}"}

    def create(self, wanted: dict[str, Any], url: str) -> tuple[int, Any]:
        kind = f"{wanted.get('type', 'model')}s"
        repo_id = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
        prefix = "datasets/" if kind == "datasets" else ""
        answer = {"url": f"{url}/{prefix}{repo_id}", "id": repo_id}
        if f"{kind}/{repo_id}" in self.repos:
            return 409, {**answer, "error": "You already created this repo"}
        self.repos[f"{kind}/{repo_id}"] = {"main": {}}
        self.private[repo_id] = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        return 200, answer

    def lfs(self, item: dict[str, Any], url: str) -> dict[str, Any]:
        if item["oid"] in self.blobs:
            return {**item, "authenticated": True}
        return {**item, "authenticated": True, "actions": {"upload": {"href": f"{url}/blob/{item['oid']}"}}}

    def commit(self, repo: dict, branch: str, body: bytes, url: str) -> tuple[int, Any]:
        files = dict(repo[branch])
        for line in body.decode().splitlines():
            change = json.loads(line)
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                if value["oid"] not in self.blobs:
                    return 400, {"error": f"LFS object {value['oid']} was not uploaded"}
                files[value["path"]] = self.blobs[value["oid"]]
        repo[branch] = files
        return 200, {"success": True, "commitOid": "1" * 40, "commitUrl": f"{url}/commit/{'1' * 40}", "hookOutput": ""}


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(name: str, content: bytes) -> dict[str, Any]:
    """A file as the tree lists it."""
    found = {"type": "file", "path": name, "size": len(content), "oid": git_oid(content)}
    if name.endswith(LFS_SUFFIXES):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
    return found
