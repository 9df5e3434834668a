"""One repo on the Hub, as far as publishing looks at it and changes it: each request once, every failure in a sentence.

All calls of huggingface_hub are made here, with the token of its `get_token()`. It raises whatever its layers raise
(of HTTP, sockets, JSON, LFS, Xet), so whatever comes out of it is a `HubFailure`; nothing of ours runs inside.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile as HubFile
from huggingface_hub.utils import parse_ratelimit_headers

from hub_cards.errors import HubError
from hub_cards.repos.folder import MAIN, RepoType

Result = TypeVar("Result")

# The client waits for ever; a connection that is silent for so long is lost. Commits of thousands of files take tens of
# seconds.
SILENCE_SECONDS = 100.0
PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
# Seconds before what failed in passing is tried again. Requests that the client repeats itself have taken half a minute
# by then.
WAITS = (2.0, 10.0, 30.0)
LONGEST_WAIT = 300.0  # the Hub counts requests in windows of five minutes


class HubFailure(HubError):
    """The Hub refused, or could not be reached, when asked to do `doing`. `passing`: in `wait` seconds it may do it."""

    def __init__(
        self, doing: str, reason: str, *, passing: bool = False, wait: float = 0.0, status: int | None = None
    ) -> None:
        super().__init__(f"could not {doing}: {reason}")
        self.doing, self.passing, self.wait, self.status = doing, passing, wait, status


@dataclass(frozen=True)
class Refs:
    """What the branches and tags of a repo stand at: the id of a commit by name."""

    branches: dict[str, str]
    tags: dict[str, str]


class RemoteRepo:
    """The repo `repo_id`. It need not be there before `make`."""

    def __init__(self, api: HfApi, repo_id: str, type: RepoType) -> None:
        self.api, self.repo_id, self.type = api, repo_id, type
        self._which: dict[str, Any] = {"repo_id": repo_id, "repo_type": type}

    @property
    def url(self) -> str:
        """Where a browser finds the repo."""
        return f"{self.api.endpoint}/{'' if self.type == 'model' else f'{self.type}s/'}{self.repo_id}"

    def whoami(self) -> dict[str, Any]:
        return read("see whose token it is", self.api.whoami)

    def is_private(self) -> bool | None:
        """None where there is no such repo, or none that the token may see."""
        try:
            return bool(read("look at it", lambda: self.api.repo_info(**self._which)).private)
        except HubFailure as failure:
            if isinstance(failure.__cause__, RepositoryNotFoundError):
                return None
            raise

    def make(self, *, private: bool | None, sdk: str | None) -> None:
        """Make the repo; nothing where it is there already."""
        make = self.api.create_repo
        ask("make it", lambda: make(**self._which, private=private, space_sdk=sdk, exist_ok=True))

    def set_private(self, private: bool) -> None:
        change = self.api.update_repo_settings
        ask(f"make it {'private' if private else 'public'}", lambda: change(**self._which, private=private))

    def refs(self, *, again: bool = True) -> Refs:
        """What is there now; `again`: tried again where it failed in passing."""
        request = read if again else ask
        found = request("list its branches", lambda: self.api.list_repo_refs(**self._which))
        branches, tags = ({ref.name: ref.target_commit for ref in refs} for refs in (found.branches, found.tags))
        return Refs(branches, tags)

    def titles(self, revision: str) -> dict[str, str]:
        """The titles of a revision's commits by their ids, the last commit first."""
        commits = read("list its commits", lambda: self.api.list_repo_commits(**self._which, revision=revision))
        return {commit.commit_id: commit.title for commit in commits}

    def tree(self, commit: str) -> dict[str, HubFile]:
        """The files of a commit by path; hashes, no content."""

        def listing() -> dict[str, HubFile]:
            entries = self.api.list_repo_tree(**self._which, revision=commit, recursive=True)
            return {entry.path: entry for entry in entries if isinstance(entry, HubFile)}

        return read("list its files", listing)

    def download(self, path: str, commit: str, folder: Path) -> Path:
        """A file as it is in a commit, written into `folder`, which is its cache as well."""

        def fetch() -> str:
            return self.api.hf_hub_download(
                **self._which, filename=path, revision=commit, local_dir=folder, cache_dir=folder / ".cache"
            )

        return Path(read(f"download {path}", fetch))

    def send(self, files: Sequence[CommitOperationAdd], revision: str) -> None:
        """Send what large files hold, ahead of the commit that `revision` will get; what has arrived is not sent twice.
        Of those files the content of the operations is emptied, small ones are left as they are."""
        send = self.api.preupload_lfs_files
        ask("send files", lambda: send(**self._which, additions=files, revision=revision))

    def commit(
        self, revision: str, parent: str, title: str, files: Iterable[CommitOperationAdd], deleted: Iterable[str]
    ) -> str:
        """One commit on top of `parent`, which the branch `revision` must still stand at; its id."""
        operations: list[Any] = [
            *files,
            *(CommitOperationDelete(path, is_folder=False) for path in deleted),
        ]

        def write() -> str:
            made = self.api.create_commit(
                **self._which, operations=operations, commit_message=title, revision=revision, parent_commit=parent
            )
            return made.oid

        return ask(f"commit to {revision}", write)

    def create_branch(self, name: str, commit: str) -> None:
        create = self.api.create_branch
        ask(f"make the branch {name}", lambda: create(**self._which, branch=name, revision=commit))

    def delete_branch(self, name: str) -> None:
        ask(f"delete the branch {name}", lambda: self.api.delete_branch(**self._which, branch=name))

    def set_tag(self, name: str, commit: str, *, stands: bool) -> None:
        """A tag at a commit. One that `stands` elsewhere is taken away first: the Hub cannot move it."""
        if stands:
            ask(f"move the tag {name}", lambda: self.api.delete_tag(**self._which, tag=name))
        ask(f"set the tag {name}", lambda: self.api.create_tag(**self._which, tag=name, revision=commit))

    def first_commit(self) -> str:
        """The oldest commit, which the Hub made with the repo."""
        return list(self.titles(MAIN))[-1]


def persist(step: Callable[[], Result]) -> Result:
    """The result of a step that looks at what is there before it changes it; again where a part failed in passing."""
    tries: Counter[str] = Counter()
    while True:
        try:
            return step()
        except HubFailure as failure:
            if not failure.passing or tries[failure.doing] == len(WAITS):
                raise
            time.sleep(max(WAITS[tries[failure.doing]], failure.wait))
            tries[failure.doing] += 1


def read(doing: str, call: Callable[[], Result]) -> Result:
    """What a request returns that changes nothing, tried again by itself."""
    try:
        return persist(lambda: ask(doing, call))
    except HubFailure as failure:
        failure.passing = False  # it has had its tries
        raise


def ask(doing: str, call: Callable[[], Result]) -> Result:
    """What `call`, which calls the client once, returns; HubFailure in place of whatever it raises."""
    hooks = get_session().event_hooks
    if _bound not in hooks["request"]:
        hooks["request"].append(_bound)
        hooks["response"].append(_refuse_page)
    try:
        return call()
    except Exception as error:
        raise failure(doing, error) from error


def failure(doing: str, error: Exception) -> HubFailure:
    """An error of the client in one sentence: what failed, with which answer, and whether it may pass."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, OfflineModeIsEnabled):
            return HubFailure(doing, "HF_HUB_OFFLINE is set, which forbids requests")
        if isinstance(link, HfHubHTTPError):
            status = link.response.status_code
            # Of the client's paragraphs, what the server said; else their first line that says something.
            reason = link.server_message or next(line for line in str(link).splitlines() if line.strip())
            advice = {
                401: "; is the token of `hf auth login` or HF_TOKEN still good?",
                403: "; the token needs the right to write there",
            }.get(status, "")
            passing = status in PASSING_STATUSES
            wait = _wait_asked_for(link.response.headers) if passing else 0.0
            reason = f"{' '.join(reason.split())} ({status}{advice})"
            return HubFailure(doing, reason, passing=passing, wait=wait, status=status)
    for link in chain:
        if isinstance(link, httpx2.HTTPError):
            reason = " ".join(str(link).split()) or type(link).__name__
            return HubFailure(doing, f"no connection ({reason})", passing=True)
    reason = " ".join(str(error).split()) or type(error).__name__
    garbled = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))
    if isinstance(error, ValueError) and not garbled:  # the client's own checks, and what LFS refuses file by file
        return HubFailure(doing, reason)
    return HubFailure(doing, f"no answer that can be read ({type(error).__name__}: {reason})", passing=True)


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _wait_asked_for(headers: httpx2.Headers) -> float:
    """Seconds after which the Hub wants to be asked again, as far as it says so."""
    asked = headers.get("Retry-After", "")
    limit = parse_ratelimit_headers(headers)
    seconds = float(asked) if asked.isdigit() else limit.reset_in_seconds + 1 if limit and not limit.remaining else 0
    return min(seconds, LONGEST_WAIT)


def _bound(request: httpx2.Request) -> None:
    """Put a limit to silence where the client has none."""
    limits = request.extensions.get("timeout") or {}
    for name in ("connect", "read", "write"):
        limits[name] = SILENCE_SECONDS if limits.get(name) is None else limits[name]
    request.extensions = {**request.extensions, "timeout": limits}


def _refuse_page(response: httpx2.Response) -> None:
    """A page instead of an answer, as of a network that wants a login first, is no success."""
    is_page = "text/html" in response.headers.get("Content-Type", "") and response.status_code < 400
    of_a_file = response.request.method in ("GET", "HEAD") and not response.request.url.path.startswith("/api/")
    if is_page and not of_a_file:
        raise httpx2.RemoteProtocolError("a web page came instead of an answer", request=response.request)
