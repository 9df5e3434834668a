"""`yulanmini hub` from the command line, against a Hub on the loopback interface."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import TOKEN, LoopbackHub

from hub_cards.checks.check import check_repo


@pytest.fixture
def hub():
    server = LoopbackHub()
    yield server
    server.close()


@pytest.fixture
def command(hub, tmp_path):
    """A function that runs `yulanmini hub ...` with nothing of this machine's account."""

    def call(*arguments: str | Path, token: str | None = TOKEN) -> subprocess.CompletedProcess:
        names = ("PATH", "HOME", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **({"HF_TOKEN": token} if token else {}),
        }
        return subprocess.run(
            [sys.executable, "-m", "yulanmini.cli", "hub", *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )

    return call


def content(folder: Path, *, without_revisions: bool = False) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if not (without_revisions and name.startswith("revisions/"))}


def test_main_and_every_revision_arrive_byte_for_byte(hub, command, published):
    folder = published / "tiny-checkpoints"
    done = command("publish", folder, "--repo-id", "someone/tiny-checkpoints", "--private", "--json")
    assert done.returncode == 0, done.stderr
    branches = hub.repos["models/someone/tiny-checkpoints"]
    assert branches["main"] == content(folder, without_revisions=True)
    revisions = sorted(path.name for path in (folder / "revisions").iterdir())
    assert sorted(branches) == ["main", *revisions]
    for name in revisions:
        assert content(folder / "revisions" / name).items() <= branches[name].items()
    assert hub.private["someone/tiny-checkpoints"]
    assert [item["branch"] for item in json.loads(done.stdout)["branches"]] == ["main", *revisions]
    assert TOKEN not in done.stdout + done.stderr


def test_a_failed_commit_is_told_and_the_same_command_goes_on_without_sending_weights_again(hub, command, published):
    folder = published / "tiny-checkpoints"
    arguments = ("publish", folder, "--repo-id", "someone/tiny-checkpoints")
    first, *others = sorted(path.name for path in (folder / "revisions").iterdir())
    weights = (folder / "revisions" / first / "model.safetensors").read_bytes()
    hub.fail = [("POST", f"/commit/{first}")]
    failed = command(*arguments)
    assert failed.returncode == 2
    assert "the disk of the loopback hub is full" in failed.stderr
    assert "The same command resumes the upload" in failed.stderr
    assert "Traceback" not in failed.stderr
    branches = hub.repos["models/someone/tiny-checkpoints"]
    assert branches[first]["model.safetensors"] != weights
    assert not set(others) & set(branches)
    hub.requests.clear()
    assert command(*arguments).returncode == 0
    assert branches[first]["model.safetensors"] == weights
    assert set(others) < set(branches)
    sent = [path for method, path in hub.requests if method == "PUT"]
    assert len(sent) == len(others) - 1  # the first was there, and the last is the same as main


def test_one_revision_can_be_sent_alone(hub, command, published):
    folder = published / "tiny-checkpoints"
    name = sorted(path.name for path in (folder / "revisions").iterdir())[0]
    assert command("publish", folder, "--repo-id", "someone/tiny", "--revision", name).returncode == 0
    assert hub.repos["models/someone/tiny"]["main"] == {}
    assert hub.repos["models/someone/tiny"][name] == content(folder / "revisions" / name)
    unknown = command("publish", folder, "--repo-id", "someone/tiny", "--revision", "phase99")
    assert unknown.returncode == 2
    assert "no such revision" in unknown.stderr


def test_a_dataset_goes_to_a_dataset_repo(hub, command, published):
    done = command("publish", published / "tiny-data", "--repo-id", "someone/tiny-data")
    assert done.returncode == 0, done.stderr
    assert hub.repos["datasets/someone/tiny-data"]["main"] == content(published / "tiny-data")
    assert f"{hub.url}/datasets/someone/tiny-data" in done.stderr


def test_a_dry_run_sends_nothing_and_needs_no_token(hub, command, published):
    done = command("publish", published / "tiny", "--repo-id", "someone/tiny", "--dry-run", "--json", token=None)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sent"] is False
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "message"), [(None, "no access token; run `hf auth login`"), ("wrong", "Invalid credentials")]
)
def test_without_a_good_token_nothing_is_made(hub, command, published, token, message):
    done = command("publish", published / "tiny", "--repo-id", "someone/tiny", token=token)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.repos == {}


def test_a_repo_with_an_error_never_leaves(hub, command, repo_copy):
    repo = repo_copy("tiny")
    (repo / "training_config.yaml").write_text("token: hf_" + "x" * 34)
    done = command("publish", repo, "--repo-id", "someone/tiny")
    assert done.returncode == 2
    assert "training_config.yaml: line 1 holds a Hugging Face token" in done.stderr
    assert hub.requests == []


def test_the_verbs_say_what_they_found(command, published, small_run, tmp_path):
    card = command("card", small_run, "--model", "base", "--repo-id", "someone/tiny")
    assert card.stdout == (published / "tiny" / "README.md").read_text()
    again = command("card", published / "tiny-instruct", "--json")
    assert json.loads(again.stdout)["card"] == (published / "tiny-instruct" / "README.md").read_text()
    assert command("card", small_run).returncode == 2
    assert command("check", published / "tiny", "--run", small_run).returncode == 0
    layout = command("layout", small_run, tmp_path / "hub", "--repo-id", "me/mine", "--json")
    assert layout.returncode == 0, layout.stderr
    assert all(check_repo(Path(repo["folder"])) == [] for repo in json.loads(layout.stdout)["repos"])


def test_check_exits_2_with_the_findings_as_json(command, repo_copy):
    repo = repo_copy("tiny")
    (repo / "optimizer.pt").write_bytes(b"")
    done = command("check", repo, "--json")
    assert done.returncode == 2
    [finding] = json.loads(done.stdout)["findings"]
    assert finding["place"] == "optimizer.pt"
