"""A rehearsal publishes repos to a Hub of its own, loads them back as a user does, and says what comes back wrong."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_recipes.manifest import write_manifest
from hub_cards.errors import HubError
from hub_cards.loopback.hub import LoopbackHub
from hub_cards.rehearsal import user
from hub_cards.rehearsal.check import summed
from hub_cards.rehearsal.rehearse import Watch, planned, rehearse, user_of_hub
from hub_cards.repos.folder import KIND, open_repo

BRANCH = "phase01-step000036-tokens64.5K"


def save_llama(folder: Path, seed: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)).save_pretrained(folder)


def manifest_of(folder: Path, repo_type: str, branches: list[str]) -> None:
    write_manifest(folder, kind=KIND, inputs={}, config={"type": repo_type, "branches": branches}, counts={})


@pytest.fixture
def model(tmp_path) -> Path:
    """A repo with a model in `main` and another one in a branch."""
    folder = tmp_path / "repos" / "me" / "model"
    save_llama(folder, 1)
    save_llama(folder / "revisions" / BRANCH, 2)
    for place in (folder, folder / "revisions" / BRANCH):
        (place / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    manifest_of(folder, "model", [BRANCH])
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "repos" / "me" / "data"
    configs = [{"config_name": name, "data_files": [{"split": "train", "path": f"{name}/*.parquet"}]} for name in "ab"]
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    for name in ("a/0", "a/1", "b/0"):
        pq.write_table(pa.table({"n": [len(name), 7]}), folder / f"{name}.parquet")
    (folder / "README.md").write_text(f"---\nlicense: mit\nconfigs: {json.dumps(configs)}\n---\n# Data\n")
    manifest_of(folder, "dataset", [])
    return folder


def test_all_comes_back_but_what_was_broken_before_and_the_users_own_things_are_left_alone(
    model, data, tmp_path, monkeypatch
):
    """Offline, with a cache and a token of the user's set: neither is used."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "of-the-user"))
    monkeypatch.setenv("HF_TOKEN", "a-token-of-the-user")
    # A config that does not fit its weights, and a data set with a file that cannot be read, as they were laid out.
    config = model / "revisions" / BRANCH / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 8', '"hidden_size": 4'))
    manifest_of(model, "model", [BRANCH])
    (data / "b" / "0.parquet").write_bytes((data / "b" / "0.parquet").read_bytes()[:-9])
    manifest_of(data, "dataset", [])
    folders = {"me/model": model, "me/data": data}
    checks = list(rehearse(folders, title="me", progress=False))
    assert sorted((check.repo, check.how, check.what) for check in checks) == sorted(planned(folders))
    wrong = {(check.repo, check.how, check.what) for check in checks if check.problem}
    assert wrong == {("me/model", "from_pretrained", BRANCH), ("me/data", "load_dataset", "b")}
    rows = {(row["repo"], row["how"]): row for row in summed(checks)}
    assert rows["me/model", "snapshot_download"]["compared"] == {"files": 9}
    assert rows["me/model", "publish-run"]["compared"] == {"branches": 2}
    assert rows["me/data", "load_dataset"]["compared"] == {"rows": 4}
    assert rows["me/model", "watched"]["compared"] == {"branches": 2, "moves": 3}
    assert not (tmp_path / "of-the-user").exists()
    assert os.environ["HF_TOKEN"] == "a-token-of-the-user"


def test_repos_of_two_namespaces_and_what_is_no_repo_are_refused(model, data, tmp_path):
    with pytest.raises(HubError, match="repos of one namespace are rehearsed together, not of me, you"):
        list(rehearse({"me/model": model, "you/data": data}, title="x"))
    with pytest.raises(ValueError, match=r"manifest\.json"):
        list(rehearse({"me/model": tmp_path}, title="x"))


@pytest.mark.parametrize("own", [{"HF_HOME": "home"}, {"HF_ENDPOINT": "https://huggingface.co"}])
def test_the_users_process_does_nothing_with_a_home_or_a_hub_that_is_not_the_rehearsals(tmp_path, monkeypatch, own):
    asked = {"repos": {"me/model": str(tmp_path / "nothing")}, "title": "x", "home": str(tmp_path)}
    for name, value in ({"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"} | own).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="but not yours"):
        user.main(asked)


def test_the_watch_sees_a_branch_that_shows_what_is_not_its_own(model):
    watch = Watch({"me/model": open_repo(model)})
    with LoopbackHub(user="me", listener=watch) as hub:
        own = {path: file.place.read_bytes() for path, file in open_repo(model).branches[0].files.items()}
        main = {path: file.place.read_bytes() for path, file in open_repo(model).branches[1].files.items()}
        hub.put("model", "me/model")
        hub.put("model", "me/model", main, branch=BRANCH)  # the weights of another branch
        watch(hub, hub.requests)
        assert [problem for _, problem in watch.problems] == [
            f"{BRANCH} was seen with model.safetensors of another content, manifest.json, which is not of it"
        ]
        watch.problems.clear()
        hub.repo("model", "me/model").branches.pop(BRANCH)
        hub.put("model", "me/model", own, branch=BRANCH)
        hub.put("model", "me/model", {"README.md": b"half"}, branch="staging")
        watch(hub, hub.requests)
        assert watch.problems == []
        [check] = watch.checks(hub)
        assert check.problem == "a branch is left that is not of the repo: staging"
        hub.repo("model", "me/model").branches.pop(BRANCH)
        [check] = watch.checks(hub)
        assert check.problem.startswith(f"{BRANCH} is not there")


def test_a_user_who_was_started_early_is_asked_later_and_one_who_is_never_asked_ends(data):
    with user_of_hub("me", imports=["json"]) as user:
        checks = list(rehearse({"me/data": data}, title="me", progress=False, user=user))
        assert {check.how for check in checks} == {"publish-run", "snapshot_download", "load_dataset", "watched"}
        assert not any(check.problem for check in checks)
    with user_of_hub("me") as user:
        user.process.stdin.close()
        assert user.process.wait(60) == 0
    assert not Path(user.home).exists()


def test_a_user_who_cannot_begin_is_told_of_with_what_it_said(data):
    with user_of_hub("me", imports=["no_such_module"]) as user:
        user.process.wait(60)
        with pytest.raises(HubError, match="no_such_module"):
            list(rehearse({"me/data": data}, title="me", progress=False, user=user))
