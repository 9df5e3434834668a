"""A branch becomes what it shall be in one commit, made of files whose content is what the check saw.

The commit is one whatever the protocol: contents go ahead in batches (`preupload_lfs_files`: by Xet where the package
hf_xet is there, else by LFS), then `create_commit` names them all. `upload_folder` would make several of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from huggingface_hub import CommitOperationAdd

from hub_cards.errors import HubError
from hub_cards.publishing.changes import Change, change_of, changed_since, checked_content, tag_of
from hub_cards.publishing.plan import TITLE
from hub_cards.publishing.remote import HubFailure, Refs, RemoteRepo
from hub_cards.publishing.turn import Moved, Turn
from hub_cards.repos.folder import RepoFile

BATCH_FILES, BATCH_BYTES = 64, 2 << 30


class Bar(Protocol):
    """Counts bytes; tqdm is one."""

    def update(self, n: float | None = 1) -> bool | None:
        """Count these."""


class Sender:
    """Makes and changes branches. Each call looks at what is there first, so it can be called again."""

    def __init__(self, remote: RemoteRepo, turn: Turn, bar: Bar) -> None:
        self.remote, self.turn, self.bar = remote, turn, bar
        self.moved_tags: list[str] = []
        # By branch and path: after a failure nothing is read and sent again that has arrived.
        self._ready: dict[tuple[str, str], CommitOperationAdd] = {}

    def make(self, change: Change) -> str:
        """A branch that is not there: filled under another name, from the repo's first commit; its commit."""
        name, commit = change.branch.name, None
        refs = self.turn.refs()
        if name not in refs.branches:
            staging, first = self.turn.staging(name), self.turn.first_commit
            if staging not in refs.branches:
                self.remote.create_branch(staging, first)
            commit = self._bring(staging, change, refs.branches.get(staging, first), looked_at=first)
            self.turn.refs()
            try:
                self.remote.create_branch(name, commit)
            except HubFailure as failure:
                if failure.status == 409:
                    raise self._moved(name) from failure
                raise
        return self._finish(change, commit)

    def replace(self, change: Change) -> str:
        """A branch that is there, in one commit on top of the one that was looked at; its commit."""
        commit = self._bring(change.branch.name, change, self._head(change), looked_at=change.head)
        return self._finish(change, commit)

    def prepare(self, change: Change, revision: str) -> list[CommitOperationAdd]:
        """Send what the files of a change hold; HubError for one that is not what the check saw."""
        files = change.branch.files
        ready: dict[str, CommitOperationAdd] = {}
        waiting = []
        for path in change.add:
            done = self._ready.get((change.branch.name, path))
            if done is not None:
                ready[path] = done
            else:
                waiting.append((path, files[path]))
        for batch in batches(waiting):
            for operation in self._send(batch, revision):
                self._ready[change.branch.name, operation.path_in_repo] = ready[operation.path_in_repo] = operation
            self.bar.update(sum(file.size for _, file in batch))
        return [ready[path] for path in change.add]

    def check_whole(self, commits: Mapping[str, str]) -> None:
        """HubError unless the branches, which an index is to name, stand where they were brought."""
        refs = self.turn.refs()
        for name, commit in commits.items():
            if refs.branches.get(name) != commit:
                raise self._moved(name)

    def _head(self, change: Change) -> str:
        head = self.turn.refs().branches.get(change.branch.name)
        if head is None:
            raise self._moved(change.branch.name)
        return head

    def _bring(self, revision: str, change: Change, head: str, *, looked_at: str | None) -> str:
        """The commit at which `revision` holds what the branch shall hold, made on top of `looked_at` if need be."""
        left = change_of(change.branch, head, self.remote.tree(head))
        if left.will == "keep":
            return head
        if head != looked_at:
            raise self._moved(revision)
        title = f"{TITLE}{change.branch.name}, {len(change.branch.files)} files"
        files = self.prepare(left, revision)
        for operation in files:
            if operation.path_or_fileobj != b"":
                operation.path_or_fileobj = checked_content(change.branch.files[operation.path_in_repo])
        try:
            return self.remote.commit(revision, head, title, files, left.delete)
        except HubFailure as failure:
            if failure.status == 412:  # the Hub's answer where `head` is not the branch's any more
                raise self._moved(revision) from failure
            raise

    def _moved(self, revision: str) -> HubError:
        """The error of a branch that is not as it was looked at; of a turn that is over, where that is why."""
        self.turn.refs()
        return Moved(f"{self.remote.repo_id}: {revision} was changed since it was looked at. Give the command again.")

    def _finish(self, change: Change, brought: str | None) -> str:
        """Tag a branch that is complete, and take away the name under which it was filled; its commit."""
        refs = self.turn.refs()
        commit = refs.branches.get(change.branch.name)
        if commit is None:
            raise self._moved(change.branch.name)
        if commit != brought:  # somebody has made it, or we have and the answer was lost
            self._bring(change.branch.name, change, commit, looked_at=None)
        self._tag(change, commit, refs)
        if self.turn.staging(change.branch.name) in refs.branches:
            self.turn.delete(self.turn.staging(change.branch.name))
        for path in change.add:
            self._ready.pop((change.branch.name, path), None)
        return commit

    def _tag(self, change: Change, commit: str, refs: Refs) -> None:
        tag = tag_of(change.branch.name)
        stands = refs.tags.get(tag or "")
        if tag is not None and stands != commit:
            if stands is not None:
                self.moved_tags.append(f"{tag} from {stands[:8]} to {commit[:8]}")
            self.remote.set_tag(tag, commit, stands=stands is not None)

    def _send(self, batch: Sequence[tuple[str, RepoFile]], revision: str) -> list[CommitOperationAdd]:
        operations = []
        for path, file in batch:
            try:
                operations.append(CommitOperationAdd(path, file.place))
            except (OSError, ValueError) as error:
                raise changed_since(file) from error
        try:
            self.remote.send(operations, revision)
        except HubFailure:
            # A file that became shorter while it was read ends the connection.
            for _, file in batch:
                if not file.place.is_file() or file.place.stat().st_size != file.size:
                    raise changed_since(file) from None
            raise
        for operation, (_, file) in zip(operations, batch, strict=True):
            if operation.path_or_fileobj == b"":  # it was sent; its hash is of what was read for that
                if operation.upload_info.sha256.hex() != file.sha256:
                    raise changed_since(file)
            else:  # it is sent with the commit; kept until then, small files of many branches are much
                checked_content(file)
        return operations


def batches(files: Sequence[tuple[str, RepoFile]]) -> Iterator[list[tuple[str, RepoFile]]]:
    """Files in order, so many at a time that a bar moves and what was sent is known after an interruption."""
    batch: list[tuple[str, RepoFile]] = []
    for item in files:
        if batch and (len(batch) == BATCH_FILES or sum(file.size for _, file in batch) + item[1].size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
