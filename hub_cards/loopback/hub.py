"""A Hub in this process: the real clients talk to it over HTTP, tests look into it, and it fails on demand.

    with LoopbackHub() as hub:
        environment = hub.environment(home)  # for a child process
        hub.breaks("500", "commit", times=2)

It takes files through LFS. Users' uploads to the real Hub go by Xet, which is not spoken here: the client must have
HF_HUB_DISABLE_XET=1, which `environment` sets.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

# Their functions are the endpoints.
import hub_cards.loopback.account_endpoints
import hub_cards.loopback.file_endpoints
import hub_cards.loopback.repo_endpoints  # noqa: F401
from hub_cards.loopback.faults import Fault
from hub_cards.loopback.protocol import Answer, Body, Call, Endpoint, Request, find_endpoint
from hub_cards.loopback.server import Server, handler_of, reset, send
from hub_cards.loopback.state import State, User
from hub_cards.loopback.storage import MAIN, Contents, Refusal, Repository

# What the Hugging Face libraries read of the environment: caches, tokens and switches of the user.
OF_THE_USER = ("HF_", "HUGGING", "TRANSFORMERS_", "HUB_")

Listener = Callable[["LoopbackHub", Request], None]


class LoopbackHub:
    """`requests`: all so far. `listener(hub, request)` is called after each, while no other is being answered.

    What a listener raises, and what is wrong in the hub itself, is raised again where the hub is closed.
    """

    def __init__(
        self,
        *,
        user: str = "someone",
        orgs: Iterable[str] = (),
        listener: Listener | None = None,
        page_size: int = 1000,
        part_size: int | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loopback-hub-")
        self.state = State(Contents(Path(self._folder.name)))
        self.state.page_size, self.state.part_size = page_size, part_size
        self.user = user
        self.token = self.add_user(user, dict.fromkeys(orgs, "admin"))
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.listener = listener
        self.problems: list[BaseException] = []
        self.down = False
        self._lock = threading.RLock()
        self._closing = threading.Event()
        # Two servers: as at the Hub, contents in LFS are with a service of its own, which must not see the token.
        self._servers = [Server(("127.0.0.1", 0), handler_of(self.handle)) for _ in range(2)]
        urls = [f"http://127.0.0.1:{server.server_port}" for server in self._servers]
        self.url, self.state.url, self.state.storage_url = urls[0], *urls
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self.close()
        if error is None and self.problems:
            raise self.problems[0]

    def close(self) -> None:
        self._closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._folder.cleanup()

    # What tests and the rehearsal see and set.

    def environment(self, home: Path, *, token: str | None = None) -> dict[str, str]:
        """The environment of a child process that takes this for the Hub, with a cache and an account of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_USER)}
        off = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "0")
        on = dict.fromkeys(("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"), "1")
        # A proxy of this machine does not lead to the loopback interface.
        direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": self.token if token is None else token}
        return {**kept, **off, **on, **direct, **own}

    def add_user(self, name: str, orgs: Mapping[str, str] | None = None, *, role: str = "write") -> str:
        """The token of a new account. `orgs`: its role in each organization that it is in."""
        token = f"loopback-token-{len(self.state.users)}-{name}"
        self.state.users[token] = User(name, orgs or {}, role)
        return token

    def breaks(self, kind: str, endpoint: str | None = None, **when: Any) -> Fault:
        """Add a fault (`faults.py` has the kinds)."""
        fault = Fault(kind, endpoint, **when)
        with self._lock:
            self.faults.append(fault)
        return fault

    def heals(self) -> None:
        """No faults any more, and the hub is up."""
        with self._lock:
            self.faults.clear()
            self.down = False

    def restart(self) -> None:
        """Be there again after a `crash`, with everything that had arrived."""
        self.down = False

    def put(
        self,
        repo_type: str,
        repo_id: str,
        files: Mapping[str, bytes] | None = None,
        *,
        branch: str = MAIN,
        **settings: Any,
    ) -> str:
        """Make a repo if there is none and commit `files`; the commit's name. `settings` are those of Repository."""
        with self._lock:
            repo = self.state.repos.get((repo_type, repo_id))
            if repo is None:
                repo = self.state.make_repo(repo_type, repo_id, author=self.user)
            for name, value in settings.items():
                setattr(repo, name, value)
            repo.branches.setdefault(branch, repo.branches[MAIN])
            if files:
                held = dict(repo.find(branch).files)
                attributes = self.state.attributes(held)
                for path, content in files.items():
                    held[path] = self.state.put_bytes(repo, path, content, attributes)
                repo.add_commit(branch, held, author=self.user, title="Put files")
            return repo.branches[branch]

    def move(self, repo_type: str, old: str, new: str, *, status: int = 307) -> None:
        """Requests for `old` are sent on to `new` with this status."""
        self.state.moved[repo_type, old] = new, status

    def repo(self, repo_type: str, repo_id: str) -> Repository:
        """A repo, with its branches, tags and commits. KeyError where there is none."""
        return self.state.repos[repo_type, repo_id]

    def head(self, repo_type: str, repo_id: str, branch: str = MAIN) -> str:
        """The name of the commit that a branch points to."""
        return self.repo(repo_type, repo_id).branches[branch]

    def repos(self) -> list[tuple[str, str]]:
        """Type and id of every repo."""
        return sorted(self.state.repos)

    def hashes(self, repo_type: str, repo_id: str, revision: str = MAIN) -> dict[str, str]:
        """SHA-256 of every file of a revision."""
        with self._lock:
            return {path: blob.sha256 for path, blob in self.repo(repo_type, repo_id).find(revision).files.items()}

    def files(self, repo_type: str, repo_id: str, revision: str = MAIN) -> dict[str, bytes]:
        """The content of every file of a revision."""
        hashes = self.hashes(repo_type, repo_id, revision)
        return {path: self.state.contents.read(sha256) for path, sha256 in hashes.items()}

    # Answering a request.

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request, or break it by a fault."""
        endpoint, match, query = find_endpoint(handler.command, handler.path)
        path = unquote(urlsplit(handler.path).path)
        request = Request(handler.command, path, endpoint.name if endpoint else "unknown")
        body = Body(handler.rfile, handler.headers)
        with self._lock:
            self.requests.append(request)
            fault = next((fault for fault in list(self.faults) if fault.strikes(request)), None)
            kind = fault.kind if fault else ""
            self.down = self.down or kind == "crash"
            dropped = self.down or kind == "drop"
        try:
            if dropped or kind == "silence":
                body.read(body.size // 2)
                if fault and kind == "silence":
                    self._closing.wait(fault.seconds)
                answer = None
            elif fault and fault.answer:
                body.all()
                answer = fault.answer
            else:
                call = Call(self.state, None, urlsplit(handler.path).path, match, query, handler.headers, body)
                answer = self._act(endpoint, call, request)
        except ConnectionError:
            answer = None
        if request.status is None:
            self._listen(request, answer)
        if answer is None or kind == "lost":
            reset(handler)
            return
        if fault and kind == "slow":
            self._closing.wait(fault.seconds)
        send(handler, answer, truncated=kind == "truncated")

    def _act(self, endpoint: Endpoint | None, call: Call, request: Request) -> Answer:
        """What the endpoint's function makes of a request; the listener is called before another one is looked at."""
        try:
            if endpoint is None:
                call.body.all()
                raise Refusal(404, f"The loopback hub has no such endpoint: {request.method} {request.path}")
            received: Any = endpoint.receive(call)
        except Refusal as refusal:
            call.body.all()
            received = refusal
        except (ValueError, KeyError, TypeError) as error:
            call.body.all()
            received = Refusal(400, f"Bad request: {error!r}")
        with self._lock:
            try:
                call.user = self.state.user_of(call.headers.get("Authorization"))
                request.user = call.user.name if call.user else None
                if isinstance(received, Refusal):
                    raise received
                assert endpoint is not None
                answer = self._moved(call) or endpoint.act(call, received)
            except Refusal as refusal:
                answer = Answer.of_refusal(refusal)
            except Exception as error:
                self.problems.append(error)
                answer = Answer.of_refusal(Refusal(500, f"Internal error: {error!r}"))
            self._listen(request, answer)
        return answer

    def _moved(self, call: Call) -> Answer | None:
        """The redirect of a request for a repo that has another name now."""
        repo_id = call.match.get("id")
        for (_, old), (new, status) in self.state.moved.items():
            if repo_id == old:
                return Answer(status=status, headers={"Location": call.path.replace(old, new)})
        return None

    def _listen(self, request: Request, answer: Answer | None) -> None:
        with self._lock:
            request.status = answer.status if answer else None
            if self.listener is not None:
                try:
                    self.listener(self, request)
                except BaseException as error:
                    self.problems.append(error)
