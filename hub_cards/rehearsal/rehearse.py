"""Publish laid-out repos to a loopback Hub and load them back, in a process that knows nothing of the user's account.

A child process does both (`user.py`), with a Hugging Face home, an endpoint and a token of its own: the user's cache
is neither read nor written, and being offline does not matter. This process is the Hub, and watches it.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from hub_cards.errors import HubError
from hub_cards.loopback.hub import LoopbackHub
from hub_cards.loopback.lfs_rule import ATTRIBUTES
from hub_cards.loopback.protocol import Request
from hub_cards.rehearsal.check import Check, differs
from hub_cards.rehearsal.user import jobs_of
from hub_cards.repos.folder import MAIN, Repo, open_repo

# What loads models and rows takes seconds to be imported; the user's process may do it before there are repos.
LIBRARIES = (
    "hub_cards.publishing.several",
    "datasets.packaged_modules.parquet.parquet",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
)


@dataclass(frozen=True)
class User:
    """A process that publishes and loads as it is told, once, and the Hub that it knows; what it says goes to files."""

    hub: LoopbackHub
    home: str
    process: subprocess.Popen[str]
    errors: IO[str]


@contextmanager
def user_of_hub(namespace: str, *, imports: Sequence[str] = ()) -> Iterator[User]:
    """A user with a Hub, a Hugging Face home and a token that are thrown away afterwards; it imports these first."""
    with (
        LoopbackHub(user=namespace) as hub,
        tempfile.TemporaryDirectory(prefix="yulanmini-rehearsal-") as home,
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "hub_cards.rehearsal.user", *imports],
            env=hub.environment(Path(home)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield User(hub, home, process, errors)
        finally:
            process.kill()


def rehearse(
    folders: Mapping[str, Path], *, title: str, all_loaded: bool = True, progress: bool = True, user: User | None = None
) -> Iterator[Check]:
    """Rehearse publishing these repos, by repo id, all of one namespace; each check as it is done.

    HubError where the child cannot even publish. What is wrong with a check is its `problem`. `user`: one of that
    namespace that waits for it.
    """
    repos = {repo_id: open_repo(folder) for repo_id, folder in folders.items()}
    namespaces = {repo_id.partition("/")[0] for repo_id in repos}
    if len(namespaces) != 1:
        raise HubError(f"repos of one namespace are rehearsed together, not of {', '.join(sorted(namespaces))}.")
    watch = Watch(repos)
    with nullcontext(user) if user is not None else user_of_hub(namespaces.pop()) as user:
        user.hub.listener = watch
        places = {repo_id: str(folder.resolve()) for repo_id, folder in folders.items()}
        asked = {"repos": places, "title": title, "home": user.home, "all_loaded": all_loaded}
        total = len(planned(folders, all_loaded=all_loaded))
        with tqdm(desc="rehearse", unit=" checks", total=total, delay=1, disable=None if progress else True) as bar:
            for check in chain(_checks_of(user, asked), watch.checks(user.hub)):
                bar.update()
                yield check


def planned(folders: Mapping[str, Path], *, all_loaded: bool = True) -> list[tuple[str, str, str]]:
    """What `rehearse` will try: repo, how, and what of it."""
    repos = {repo_id: open_repo(folder) for repo_id, folder in folders.items()}
    jobs = [
        (job.repo, job.how, job.what)
        for repo_id, repo in repos.items()
        for job in jobs_of(repo_id, repo, all_loaded=all_loaded)
    ]
    published = [(repo_id, "publish-run", "all branches") for repo_id in repos]
    return [*published, *jobs, *((repo_id, "watched", "after every request") for repo_id in repos)]


class Watch:
    """Looks at each branch whenever it has moved: is it what was laid out, at every moment?"""

    def __init__(self, repos: Mapping[str, Repo]) -> None:
        self.expected: dict[tuple[str, str, str], dict[str, str]] = {
            (repo.type, repo_id, branch.name): {path: file.sha256 for path, file in branch.files.items()}
            for repo_id, repo in repos.items()
            for branch in repo.branches
        }
        self.seen: dict[tuple[str, str, str], str] = {}
        self.moves: Counter[str] = Counter()
        self.problems: list[tuple[str, str]] = []

    def __call__(self, hub: LoopbackHub, request: Request) -> None:
        for repo_type, repo_id in hub.repos():
            for name, oid in hub.repo(repo_type, repo_id).branches.items():
                place = (repo_type, repo_id, name)
                if self.seen.get(place) != oid:
                    self.seen[place] = oid
                    self.look(hub, *place)

    def look(self, hub: LoopbackHub, repo_type: str, repo_id: str, name: str) -> None:
        """A branch that is new or has moved; branches of the publisher's own are none of the repo's."""
        expected = self.expected.get((repo_type, repo_id, name))
        if expected is None:
            return
        self.moves[repo_id] += 1
        there = hub.hashes(repo_type, repo_id, name)
        there.pop(ATTRIBUTES, None)
        if name == MAIN and not there:
            return  # as the Hub makes it
        if difference := differs(expected, there):
            self.problems.append((repo_id, f"{name} was seen with {difference}"))

    def checks(self, hub: LoopbackHub) -> Iterator[Check]:
        """What the Hub itself has at the end, and had on the way."""
        for repo_id in {repo_id: None for _, repo_id, _ in self.expected}:
            problems = [problem for other, problem in self.problems if other == repo_id]
            branches = [place for place in self.expected if place[1] == repo_id]
            for repo_type, _, name in branches:
                if (repo_type, repo_id) not in hub.repos() or name not in hub.repo(repo_type, repo_id).branches:
                    problems.append(f"{name} is not there")
            if (branches[0][0], repo_id) in hub.repos():
                more = set(hub.repo(branches[0][0], repo_id).branches) - {name for *_, name in branches}
                problems += [f"a branch is left that is not of the repo: {name}" for name in sorted(more)]
            compared = {"branches": len(branches), "moves": self.moves[repo_id]}
            yield Check(repo_id, "watched", "after every request", compared, problem="; ".join(problems) or None)


def _checks_of(user: User, asked: dict[str, Any]) -> Iterator[Check]:
    """The checks of the user's process, as it reports them."""
    child = user.process
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError), child.stdin as told_to_it:  # it may have ended; what it said is told below
        told_to_it.write(json.dumps(asked) + "\n")
    for line in child.stdout:
        told = json.loads(line)
        if "refused" in told:
            raise HubError(f"rehearsal: publishing is refused: {told['refused']}")
        yield Check(**told)
    if child.wait() != 0:
        user.errors.seek(0)
        last = "\n".join(user.errors.read().splitlines()[-15:])
        raise HubError(f"rehearsal: the user's process ended with {child.returncode}:\n{last}")
