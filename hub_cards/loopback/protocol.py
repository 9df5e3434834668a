"""The parts of a request and of its answer, and the list of endpoints by name."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_cards.loopback.state import State, User
from hub_cards.loopback.storage import CHUNK, Refusal


@dataclass
class Answer:
    """A status with JSON, or bytes `first` to `last` (left out) of a file."""

    json: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    first: int = 0
    last: int = 0

    @classmethod
    def of_refusal(cls, refusal: Refusal) -> "Answer":
        headers = {"X-Error-Message": " ".join(refusal.message.split()), **refusal.headers}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        return cls({"error": refusal.message, **refusal.content}, refusal.status, headers)


def parts_of(answer: Answer) -> Iterator[bytes]:
    """The bytes of an answer's file."""
    assert answer.file is not None
    with answer.file.open("rb") as file:
        file.seek(answer.first)
        left = answer.last - answer.first
        while left and (part := file.read(min(CHUNK, left))):
            left -= len(part)
            yield part


class Body:
    """The body of a request, read from its connection in parts; ConnectionError where the client stops half-way."""

    def __init__(self, stream: BufferedIOBase, headers: Message) -> None:
        self.stream = stream
        self.chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        self.left = 0 if self.chunked else int(headers.get("Content-Length") or 0)
        self.size = self.left
        self._ended = not self.chunked

    def read(self, size: int = CHUNK) -> bytes:
        """At most `size` bytes; none at the end."""
        if self.left == 0 and not self._ended:
            self.left = int(self._line() or b"0", 16)
            if self.left == 0:
                self._ended = True
                self._line()
        wanted = min(size, self.left)
        part = self.stream.read(wanted) if wanted else b""
        if len(part) < wanted:
            raise ConnectionError("the client closed the connection in the middle of a request")
        self.left -= wanted
        if self.chunked and wanted and not self.left:
            self._line()
        return part

    def parts(self) -> Iterator[bytes]:
        while part := self.read():
            yield part

    def all(self) -> bytes:
        return b"".join(self.parts())

    def lines(self) -> Iterator[bytes]:
        """The lines, of which one at a time is in memory."""
        rest: list[bytes] = []
        for part in self.parts():
            first, *others = part.split(b"\n")
            rest.append(first)
            for other in others:
                yield b"".join(rest)
                rest = [other]
        if any(rest):
            yield b"".join(rest)

    def _line(self) -> bytes:
        return self.stream.readline().strip()


@dataclass
class Request:
    """A request; `endpoint` is its name in `ENDPOINTS`, `status` what was answered (None: nothing)."""

    method: str
    path: str
    endpoint: str
    user: str | None = None
    status: int | None = None


@dataclass
class Call:
    """What an endpoint's function is given. `user` is None for whoever sends no token."""

    state: State
    user: User | None
    path: str
    match: dict[str, str]
    query: dict[str, list[str]]
    headers: Message
    body: Body

    def json(self) -> Any:
        content = self.body.all()
        return json.loads(content) if content else {}

    def form(self) -> dict[str, Any]:
        """The body as JSON, or as the form that `get_paths_info` sends."""
        content = self.body.all()
        return json.loads(content) if content.startswith(b"{") else parse_qs(content.decode())

    def asked(self, name: str) -> bool:
        """Whether a query parameter is set to true."""
        return self.query.get(name, [""])[-1].lower() in ("true", "1")


@dataclass(frozen=True)
class Endpoint:
    """`receive` reads the body and may take long; `act` is called with all other requests kept waiting."""

    name: str
    methods: tuple[str, ...]
    pattern: re.Pattern[str]
    receive: Callable[[Call], Any]
    act: Callable[[Call, Any], Answer]


ENDPOINTS: dict[str, Endpoint] = {}
REPO = r"(?P<types>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
# The URL of a repo's page: models have no prefix.
PAGE = r"(?P<types>(?:datasets|spaces)/)?(?P<id>[^/]+/[^/]+)"


def endpoint(
    name: str, methods: str, pattern: str, *, receive: Callable[[Call], Any] = lambda call: None
) -> Callable[[Callable[[Call, Any], Answer]], Callable[[Call, Any], Answer]]:
    """Add a function to `ENDPOINTS`. `receive` is what it takes from the request's body."""

    def add(act: Callable[[Call, Any], Answer]) -> Callable[[Call, Any], Answer]:
        ENDPOINTS[name] = Endpoint(name, tuple(methods.split()), re.compile(pattern), receive, act)
        return act

    return add


def find_endpoint(method: str, target: str) -> tuple[Endpoint | None, dict[str, str], dict[str, list[str]]]:
    """The endpoint of a request, the parts of its path, and its query."""
    url = urlsplit(target)
    for found in ENDPOINTS.values():
        match = found.pattern.fullmatch(url.path)
        if match and method in found.methods:
            # Only now: a quoted slash is part of a name.
            parts = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            return found, parts, parse_qs(url.query)
    return None, {}, {}


def page_of(call: Call, items: list[dict[str, Any]]) -> Answer:
    """One page of a list, with a link to the next."""
    first = int(call.query.get("cursor", ["0"])[0])
    last = first + int(call.query.get("limit", [str(call.state.page_size)])[0])
    answer = Answer(items[first:last])
    if last < len(items):
        others = "".join(f"&{name}={value[0]}" for name, value in call.query.items() if name != "cursor")
        answer.headers["Link"] = f'<{call.state.url}{call.path}?cursor={last}{others}>; rel="next"'
    return answer
