"""One publisher of a repo at a time: a branch on the Hub, made from the repo's first commit, says whose turn it is.

Branches that are under way are named after it. A run that was killed leaves them behind, and whoever comes next cannot
tell it from one that is still at work on another machine: it clears them, and one that is at work finds its own gone at
its next step, and ends. The Hub makes a branch whole or refuses; of two that begin at once the lower name goes on.
"""

import re
import secrets

from hub_cards.errors import HubError
from hub_cards.publishing.remote import HubFailure, Refs, RemoteRepo

STAGING = "yulanmini-staging-"
_STAGING_NAME = re.compile(rf"({STAGING}[0-9a-f]{{12}})(-.+)?")
OVERTAKEN = "another publisher of it is at work; this one ends. What is there is whole. Let the other finish."


class Moved(HubError):
    """A branch is not where it was when it was looked at."""


def is_staging(branch: str) -> bool:
    """Whether a branch of the Hub is of a publisher at work, or of one that was killed."""
    return _STAGING_NAME.fullmatch(branch) is not None


class Turn:
    """The right to change a repo, from `take` until `give_back`."""

    def __init__(self, remote: RemoteRepo, first_commit: str) -> None:
        self.remote, self.first_commit = remote, first_commit
        self.name = f"{STAGING}{secrets.token_hex(6)}"
        self._left_over: set[str] | None = None

    def staging(self, branch: str) -> str:
        """The name under which a branch is filled before it gets its own."""
        return f"{self.name}-{branch}"

    def take(self) -> list[str]:
        """Begin; returns the branches of earlier runs that were cleared. Called again after a failure it goes on."""
        refs = self.remote.refs()
        if self._left_over is None:
            self._left_over = {name for name in refs.branches if is_staging(name)}
        if self.name not in refs.branches:
            self.remote.create_branch(self.name, self.first_commit)
            refs = self.remote.refs()
        others = {name for name in refs.branches if is_staging(name) and not name.startswith(self.name)}
        if any(name < self.name for name in others - self._left_over):
            self.give_back()
            raise self.overtaken()
        for name in sorted(others):
            self.delete(name)
        return sorted(others)

    def refs(self) -> Refs:
        """What branches and tags stand at; HubError where it is another's turn by now."""
        refs = self.remote.refs()
        if self.name not in refs.branches:
            raise self.overtaken()
        return refs

    def give_back(self) -> None:
        """End, whatever came before; of a connection that is lost the next run clears up."""
        try:
            for name in self.remote.refs(again=False).branches:
                if name.startswith(self.name):
                    self.delete(name)
        except HubFailure:
            return

    def overtaken(self) -> HubError:
        return HubError(f"{self.remote.repo_id}: {OVERTAKEN}")

    def delete(self, name: str) -> None:
        """Take a staging branch away, unless another has."""
        try:
            self.remote.delete_branch(name)
        except HubFailure as failure:
            if failure.status != 404:
                raise
