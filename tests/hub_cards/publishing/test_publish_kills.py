"""A process that publishes a run is killed at random moments; started again it goes on."""

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from laid_out_repos import Promise, assert_complete, lay_out_run, wanted

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys
from pathlib import Path
from hub_cards.publishing.publish import Asked
from hub_cards.publishing.several import publish_run
from hub_cards.repos.folder import open_repo

folder = Path(sys.argv[1])
names = ("tiny", "tiny-checkpoints", "tiny-data")
publish_run({f"someone/{name}": open_repo(folder / name) for name in names}, Asked(), title="tiny", progress=False)
"""


class Killer:
    """Sends SIGKILL to a process when the Hub has answered so many requests, at once or a moment later."""

    def __init__(self, after: int, delay: float) -> None:
        self.left, self.delay = after, delay
        self.process: subprocess.Popen | None = None

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0 and self.process is not None:
            threading.Timer(self.delay, self.process.send_signal, (signal.SIGKILL,)).start()


def run_until_killed(hub, folder, tmp_path, promise, killer) -> int:
    hub.listener = lambda hub, request: (promise(hub, request), killer())
    environment = hub.environment(tmp_path / "hf") | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    killer.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = killer.process.communicate(timeout=200)
    assert killer.process.returncode in (0, -signal.SIGKILL), errors.decode()
    return killer.process.returncode


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_publication_killed_at_any_moment_goes_on_when_it_is_started_again(hub, tmp_path, kills):
    """A new run, and then other contents over it, each killed at so many moments: after a few requests, or many."""
    chance = random.Random(kills)
    versions: dict[tuple[str, str], list] = {}
    killed, sent = 0, 0
    for version, shards in (("first", 1), ("second", 3)):
        run = lay_out_run(tmp_path / version, version=version, shards=shards)
        for repo_id, repo in run.items():
            versions.setdefault((repo.type, repo_id), []).append(wanted(repo))
        promise = Promise(versions)
        for _ in range(kills // 2):
            killer = Killer(chance.randrange(5, 60), chance.random() * 0.02)
            killed += run_until_killed(hub, tmp_path / version, tmp_path, promise, killer) != 0
        assert run_until_killed(hub, tmp_path / version, tmp_path, promise, Killer(10**9, 0)) == 0
        for repo_id, repo in run.items():
            assert_complete(hub, repo_id, repo)
        assert not hub.problems, hub.problems[0]
        sent += len(large_contents(run))
    assert killed >= kills // 2
    # What has arrived is not sent again, but for what a kill met on its way.
    uploads = [request for request in hub.requests if request.endpoint == "lfs-upload"]
    assert len(uploads) <= sent + 5 * killed


def large_contents(run) -> set[tuple[str, str]]:
    """What the repos of a run hold in large files."""
    return {
        (repo_id, file.sha256)
        for repo_id, repo in run.items()
        for branch in repo.branches
        for path, file in branch.files.items()
        if path.endswith((".safetensors", ".parquet"))
    }
