"""Send a laid-out repo to the Hub so that nothing is ever half visible, and the same command goes on where one ended.

In this order: branches that are not there, each whole before it has its name; then those that change, their contents
sent ahead so that the commits follow each other closely; `main` with the index last; all of it is looked at again.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml
from huggingface_hub import HfApi, get_token
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from data_recipes.errors import listed
from hub_cards.checks.header import FRONT_MATTER, id_problems
from hub_cards.errors import HubError
from hub_cards.publishing.changes import Change, check_places, chosen_branches
from hub_cards.publishing.plan import Plan, look, unseen_plan
from hub_cards.publishing.remote import HubFailure, RemoteRepo, persist
from hub_cards.publishing.sending import Sender
from hub_cards.publishing.turn import Moved, Turn
from hub_cards.publishing.verify import verify_content, verify_refs
from hub_cards.repos.folder import CARD_NAME, MAIN, Branch, Repo

# A publisher whose turn was taken has at most one change under way, which may come between a look and a commit.
MOST_LOOKS = 3


@dataclass(frozen=True)
class Asked:
    """What the user wants. `private`: None leaves it to the account, or as it is."""

    private: bool | None = None
    revision: str | None = None
    replace_foreign: bool = False
    download: bool = True


@dataclass
class Published:
    """What was done. `commits`: of each branch; `done`: what became of it; `notes`: what else is worth saying."""

    repo_id: str
    url: str
    private: bool
    commits: dict[str, str] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plan_publish(repo: Repo, repo_id: str, asked: Asked, *, api: HfApi | None = None) -> Plan:
    """What `publish` would do. Without a token the Hub is not looked at."""
    branches = check_asked(repo, repo_id, asked)
    if not _has_token(api):
        return unseen_plan(branches, "no access token: what is on the Hub was not looked at")
    remote = RemoteRepo(api or HfApi(), repo_id, repo.type)
    private = remote.is_private()
    if private is None:
        plan = unseen_plan(branches, "")
        plan.notes.append(f"{repo_id} would be made{_visibility(asked.private)}")
        return plan
    plan = look(remote, repo, branches, replace_foreign=asked.replace_foreign)
    if asked.private not in (None, private):
        plan.notes.append(f"{repo_id} would be changed{_visibility(asked.private)} before anything is sent")
    return plan


def publish(repo: Repo, repo_id: str, asked: Asked, *, api: HfApi | None = None, progress: bool = True) -> Published:
    """Publish a laid-out repo, which is not checked here, as `repo_id`.

    HubError for what may not be sent, for files of somebody else in the way, and where the Hub refuses or is gone: it
    says what is sure to be there. Given again it goes on.
    """
    branches = check_asked(repo, repo_id, asked)
    if not _has_token(api):
        raise HubError("no access token; run `hf auth login`, or set HF_TOKEN.")
    remote = RemoteRepo(api or HfApi(), repo_id, repo.type)
    result = Published(repo_id, remote.url, private=False)
    try:
        with quiet_client():
            result.private = persist(lambda: open_repo_on_hub(remote, repo, asked.private))
            plan = look(remote, repo, branches, replace_foreign=asked.replace_foreign)
            if not plan.is_done:
                plan = send_all(remote, repo, branches, asked, result, progress=progress)
            result.notes += plan.notes
            if plan.kept:
                result.notes.append(f"on the Hub and not in {repo.folder}: {listed(plan.kept)}; left as they are")
            for change in plan.changes:
                result.commits.setdefault(change.branch.name, change.head or "")
                result.done.setdefault(change.branch.name, "kept")
            verify(remote, branches, result, download=asked.download, progress=progress)
    except HubFailure as failure:
        raise HubError(
            f"{repo_id}: {failure}.\n{_what_is_there(repo, branches, result)}\nThe same command goes on from there."
        ) from failure
    return result


def check_asked(repo: Repo, repo_id: str, asked: Asked) -> list[Branch]:
    """The branches to publish; HubError for what can be seen to be wrong without the Hub."""
    for problem in id_problems(repo_id):
        raise HubError(f"--repo-id: {problem}.")
    branches = chosen_branches(repo, asked.revision)
    check_places(repo, branches)
    return branches


def open_repo_on_hub(remote: RemoteRepo, repo: Repo, private: bool | None) -> bool:
    """Make the repo if need be, and have it seen by whom it shall be; whether it is private. Nothing is sent before."""
    role = ((remote.whoami().get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise HubError("the access token may only read. Make one that may write at hf.co/settings/tokens.")
    there = remote.is_private()
    if there is None:
        remote.make(private=private, sdk=_sdk(repo))
        there = remote.is_private()
    if private not in (None, there):
        remote.set_private(private)
        there = remote.is_private()
    if there is None:
        raise HubError(f"{remote.repo_id}: made, and not to be seen. Nothing was sent. The same command tries again.")
    if private not in (None, there):
        raise HubError(
            f"{remote.repo_id}: still{_visibility(there)} after it was to be made{_visibility(private)}. "
            f"Nothing was sent. Change it at {remote.url}/settings, or choose another repo."
        )
    return there


def send_all(
    remote: RemoteRepo, repo: Repo, branches: list[Branch], asked: Asked, result: Published, *, progress: bool
) -> Plan:
    """Look and carry out what is to be done, as long as it is this publisher's turn; what was to be done."""
    turn = Turn(remote, remote.first_commit())
    try:
        cleared = persist(turn.take)
        if cleared:
            result.notes.append(f"cleared what a publisher before left: {listed(cleared)}")
        for looks in range(1, MOST_LOOKS + 1):
            turn.refs()
            plan = look(remote, repo, branches, replace_foreign=asked.replace_foreign)
            try:
                carry_out(plan, remote, turn, result, progress=progress)
                break
            except Moved:  # by a publisher who had asked for it before the turn was taken
                if looks == MOST_LOOKS:
                    raise
            except HubFailure as failure:
                if failure.status == 404:  # a staging branch is gone: has another taken the turn?
                    turn.refs()
                raise
    finally:
        turn.give_back()
    return plan


def carry_out(plan: Plan, remote: RemoteRepo, turn: Turn, result: Published, *, progress: bool) -> None:
    """Make the branches that are not there, change the others, then `main`."""
    from tqdm import tqdm

    main = [change for change in plan.changes if change.branch.name == MAIN]
    others = [change for change in plan.changes if change.branch.name != MAIN and change.head is not None]
    total = sum(change.to_send for change in plan.changes)
    with tqdm(desc="send", total=total, unit="B", unit_scale=True, delay=1, disable=None if progress else True) as bar:
        sender = Sender(remote, turn, bar)

        def record(change: Change, bring: Callable[[Change], str]) -> None:
            result.commits[change.branch.name] = persist(lambda: bring(change))
            result.done[change.branch.name] = {"create": "created", "replace": "replaced", "keep": "kept"}[change.will]

        try:
            for change in plan.changes:
                if change.head is None:
                    record(change, sender.make)
            for change in [*others, *main]:
                persist(lambda: sender.prepare(change, change.branch.name))  # noqa: B023 -- called right here
            for change in others:
                record(change, sender.replace)
            for change in main:
                sender.check_whole(result.commits)
                record(change, sender.replace)
        finally:
            result.notes += [f"moved the tag {moved}" for moved in sender.moved_tags]


def verify(remote: RemoteRepo, branches: list[Branch], result: Published, *, download: bool, progress: bool) -> None:
    """Look at all of it again, by hashes, and unless told not to by a download of every file."""
    from tqdm import tqdm

    verify_refs(remote, branches, result.commits)
    if download:
        total = sum(branch.size for branch in branches)
        hidden = None if progress else True
        with tqdm(desc="verify", total=total, unit="B", unit_scale=True, delay=1, disable=hidden) as bar:
            for branch in branches:
                verify_content(remote, branch, result.commits[branch.name], bar)


@contextmanager
def quiet_client() -> Iterator[None]:
    """The client's own bars, one a file, only where somebody is watching."""
    if are_progress_bars_disabled() or sys.stderr.isatty():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _has_token(api: HfApi | None) -> bool:
    return bool(api is not None and api.token) or get_token() is not None


def _visibility(private: bool | None) -> str:
    return "" if private is None else " private" if private else " public"


def _sdk(repo: Repo) -> str | None:
    """What a Space is made with, by the header of its card."""
    if repo.type != "space":
        return None
    match = FRONT_MATTER.match((repo.folder / CARD_NAME).read_text(encoding="utf-8"))
    header: Any = yaml.safe_load(match["yaml"]) if match else None
    return header.get("sdk") if isinstance(header, dict) else None


def _what_is_there(repo: Repo, branches: list[Branch], result: Published) -> str:
    """For the message of a failure: what is sure to be on the Hub."""
    there = [branch.name for branch in branches if branch.name in result.commits]
    if not there:
        return "Nothing of it was changed on the Hub, unless an answer was lost; no branch is half there."
    left = [branch.name for branch in branches if branch.name not in result.commits]
    rest = f"; as before or whole: {listed(left)}" if left else ""
    return f"Sure to be on the Hub as in {repo.folder}: {listed(there)}{rest}."
