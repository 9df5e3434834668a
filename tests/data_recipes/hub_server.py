"""A server on this machine that answers as the Hub does: information, file lists and files of datasets."""

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlparse

SHA = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Datasets by id, each a mapping of path to content; all have the one commit `SHA`."""

    protocol_version = "HTTP/1.1"
    datasets: ClassVar[Mapping[str, Mapping[str, bytes]]] = {}

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            self.answer_api("/".join(parts[2:4]), parts[4:])
        elif parts[0] == "datasets":
            self.answer_file("/".join(parts[1:3]), "/".join(parts[5:]))
        else:
            self.send_json(404, {"error": "no such place"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        asked = self.rfile.read(length).decode()
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        files = self.datasets.get("/".join(parts[2:4]), {})
        if parts[4] != "paths-info":
            self.send_json(404, {"error": "no such place"})
            return
        wanted = json.loads(asked)["paths"] if asked.startswith("{") else _form_paths(asked)
        self.send_json(200, [entry for path in wanted for entry in _entries(files, path)])

    def answer_api(self, hub: str, rest: list[str]) -> None:
        files = self.datasets.get(hub)
        if files is None:
            self.send_json(404, {"error": "Repository not found"}, code="RepoNotFound")
        elif not rest or rest[0] == "revision":
            names = [{"rfilename": name} for name in files]
            self.send_json(200, {"id": hub, "sha": SHA, "gated": False, "disabled": False, "siblings": names})
        elif rest[0] == "tree":
            recursive = "recursive=true" in urlparse(self.path).query.lower()
            self.send_json(200, _tree(files, "/".join(rest[2:]), recursive=recursive))
        else:
            self.send_json(404, {"error": "no such place"})

    def answer_file(self, hub: str, path: str) -> None:
        content = self.datasets.get(hub, {}).get(path)
        if content is None:
            self.send_json(404, {"error": "Entry not found"}, code="EntryNotFound")
            return
        status, part = 200, content
        if wanted := self.headers.get("Range", "").removeprefix("bytes="):
            first, _, last = wanted.partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            status = 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)

    def send_json(
        self, status: int, value: object, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class FlakyHub(Hub):
    """Answers the first `times` requests whose path contains `where` as a broken network does, by `fault`."""

    fault: ClassVar[str] = ""
    where: ClassVar[str] = ""
    times: ClassVar[int] = 0
    after: ClassVar[int] = 0
    asked: ClassVar[list[str]] = []
    released: ClassVar[threading.Event] = threading.Event()

    @classmethod
    def breaks(cls, fault: str, where: str = "", *, times: int = 10**9, after: int = 0) -> None:
        """`after`: so many such requests are answered first."""
        cls.fault, cls.where, cls.times, cls.after = fault, where, times, after
        cls.asked = []
        cls.released = threading.Event()

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        type(self).asked.append(path)
        if self.fault and self.where in path and self.times > 0:
            if self.after > 0:
                type(self).after -= 1
                super().do_GET()
                return
            type(self).times -= 1
            self.fail()
        else:
            super().do_GET()

    do_HEAD = do_GET

    def fail(self) -> None:
        headers: dict[str, str] = {}
        if self.fault == "silence":
            self.released.wait(5)
            self.close_connection = True
        elif self.fault == "reset":
            self.send_response(200)
            self.send_header("X-Repo-Commit", SHA)
            self.send_header("ETag", '"0"')
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"{")
            # With no time to linger, closing sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            status, _, code = self.fault.partition(" ")
            if code == "message":
                headers, code = {"X-Error-Message": "You have no rights here."}, ""
            self.send_json(int(status), {"error": "refused"}, code=code or None, headers=headers)


def _form_paths(body: str) -> list[str]:
    return parse_qs(body).get("paths", [])


def _file(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "oid": sha1(content).hexdigest(), "size": len(content), "path": path}


def _tree(files: Mapping[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, object]]:
    start = f"{folder}/" if folder else ""
    names = {name: name.removeprefix(start).partition("/") for name in files if name.startswith(start)}
    found: dict[str, dict[str, object]] = {}
    for name, (first, slash, _) in names.items():
        path = name if recursive or not slash else f"{start}{first}"
        found[path] = _entries(files, path)[0]
    return list(found.values())


def _entries(files: Mapping[str, bytes], path: str) -> list[dict[str, object]]:
    if path in files:
        return [_file(path, files[path])]
    if any(name.startswith(f"{path}/") for name in files):
        return [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path}]
    return []


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a running server, for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def point_at(monkeypatch: Any, address: str) -> None:
    """Let this process take `address` for the Hub."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
