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
    """Some two hundred requests make up the whole publication; a kill comes after a few or after many."""
    run = lay_out_run(tmp_path / "run")
    promise = Promise({(repo.type, repo_id): [wanted(repo)] for repo_id, repo in run.items()})
    chance = random.Random(kills)
    killed = 0
    for _ in range(kills):
        killer = Killer(chance.randrange(5, 60), chance.random() * 0.02)
        killed += run_until_killed(hub, tmp_path / "run", tmp_path, promise, killer) != 0
    assert killed >= kills // 2
    assert run_until_killed(hub, tmp_path / "run", tmp_path, promise, Killer(10**9, 0)) == 0
    for repo_id, repo in run.items():
        assert_complete(hub, repo_id, repo)
    assert not hub.problems, hub.problems[0]
    # Of one repo at a time, contents that have arrived are not sent again, but for those that a kill met on their way.
    large = (".safetensors", ".parquet")
    contents = {
        (repo_id, file.sha256)
        for repo_id, repo in run.items()
        for branch in repo.branches
        for path, file in branch.files.items()
        if path.endswith(large)
    }
    uploads = [request.path for request in hub.requests if request.endpoint == "lfs-upload"]
    assert len(uploads) <= len(contents) + 5 * killed
