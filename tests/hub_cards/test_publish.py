"""`yulanmini hub` from the command line, against a Hub on the loopback interface."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_clients import point_at

from data_recipes.errors import error_line
from hub_cards.checks.check import check_repo
from hub_cards.loopback.hub import LoopbackHub
from yulanmini import cli


@pytest.fixture
def hub():
    with LoopbackHub(orgs=("org",)) as server:
        yield server


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(hub, tmp_path, monkeypatch, capsys):
    """A function that runs `yulanmini hub ...` in this process, which has imported what it needs, with nothing of this
    machine's account."""
    point_at(monkeypatch, hub.url, tmp_path / "cache")

    def call(*arguments: str | Path, token: str | None = None) -> Done:
        monkeypatch.setenv("HF_TOKEN", hub.token if token is None else token)
        capsys.readouterr()
        code, message = 0, ""
        try:
            cli.run(["hub", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        except Exception as error:
            if not cli.is_bad_input(error):
                raise
            code, message = 2, error_line(error)
        out, err = capsys.readouterr()
        return Done(code, out, err + message)

    return call


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def theirs(hub: LoopbackHub, repo_type: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
    files = hub.files(repo_type, repo_id, revision)
    del files[".gitattributes"]
    return files


def test_main_and_every_revision_arrive_byte_for_byte(hub, command, published):
    folder = published / "tiny-checkpoints"
    done = command("publish", folder, "--repo-id", "org/tiny-checkpoints", "--private", "--json")
    assert done.returncode == 0, done.stderr
    repo = hub.repo("model", "org/tiny-checkpoints")
    revisions = sorted(path.name for path in (folder / "revisions").iterdir())
    assert sorted(repo.branches) == ["main", *revisions]
    for name in revisions:
        assert theirs(hub, "model", repo.id, name) == content(folder / "revisions" / name)
    own = {name: data for name, data in content(folder).items() if not name.startswith("revisions/")}
    assert theirs(hub, "model", repo.id) == own
    assert repo.private
    *others, last = [item["branch"] for item in json.loads(done.stdout)["branches"]]
    assert (sorted(others), last) == (revisions, "main")
    assert sorted(repo.tags) == sorted(name.partition("-step")[0] for name in revisions)
    assert hub.token not in done.stdout + done.stderr


@pytest.mark.slow  # by default the rehearsal publishes all repos of a run
def test_all_repos_of_a_run_are_published_with_a_collection_that_links_them(hub, command, small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    planned = command("publish-run", run, "--org", "org", "--name", "small", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert hub.repos() == []
    assert sorted(content(run)) == sorted(content(small_run))
    done = command("publish-run", run, "--org", "org", "--name", "small", "--private", "--json")
    assert done.returncode == 0, done.stderr
    for repo_type, repo_id in hub.repos():
        assert hub.repo(repo_type, repo_id).private
        for file in json.loads(planned.stdout)["files"]:
            if file["repo"] == repo_id:
                assert len(hub.files(repo_type, repo_id, file["branch"])[file["file"]]) == file["bytes"]
    (collection,) = hub.state.collections.values()
    assert collection.private
    assert collection.title == "small"
    assert sorted(item["id"] for item in collection.items) == sorted(repo_id for _, repo_id in hub.repos())


def test_a_model_folder_is_laid_out_beside_itself_and_published(hub, command, small_run, tmp_path):
    model = shutil.copytree(small_run / "04-pretrain" / "models" / "phase-26", tmp_path / "models" / "mine")
    planned = command("publish", model, "--repo-id", "someone/mine", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert sorted(path.name for path in model.parent.iterdir()) == ["mine"]
    assert hub.repos() == []
    done = command("publish", model, "--repo-id", "someone/mine")
    assert done.returncode == 0, done.stderr
    published = theirs(hub, "model", "someone/mine")
    assert published["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert sorted(published) == sorted(file["file"] for file in json.loads(planned.stdout)["files"])
    assert content(model.parent / "published" / "someone" / "mine") == published
    several = command("publish", small_run, "--repo-id", "someone/mine")
    assert several.returncode == 2
    assert f"hub publish-run {small_run} --org someone" in several.stderr


def test_a_dry_run_sends_nothing_and_needs_no_token(hub, command, published):
    done = command("publish", published / "tiny", "--repo-id", "someone/tiny", "--dry-run", "--json", token="")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["sent"] is False
    assert {file["file"]: file["bytes"] for file in shown["files"]} == {
        name: len(data) for name, data in content(published / "tiny").items()
    }
    assert "what is on the Hub was not looked at" in done.stderr
    assert hub.requests == []


def test_without_a_token_nothing_is_made(hub, command, published):
    done = command("publish", published / "tiny", "--repo-id", "someone/tiny", token="")
    assert done.returncode == 2
    assert "no access token; run `hf auth login`" in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.requests == []


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
    report = json.loads(done.stdout)
    assert {finding["place"] for finding in report["findings"]} == {"optimizer.pt"}
    assert report["seconds"]["allow_list"] >= 0
