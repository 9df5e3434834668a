"""What the offline check finds in a repo, each fault on its own."""

import json
import os
from pathlib import Path

import pytest
import yaml

from hub_cards.checks.check import check_repo
from hub_cards.errors import HubError


def edit_metadata(repo: Path, **changes) -> None:
    """Set keys of the card's metadata; None removes a key."""
    _, header, body = (repo / "README.md").read_text().split("---\n", 2)
    metadata = {**yaml.safe_load(header), **changes}
    header = yaml.safe_dump({key: value for key, value in metadata.items() if value is not None}, sort_keys=False)
    (repo / "README.md").write_text(f"---\n{header}---\n{body}")


def errors_of(repo: Path) -> str:
    return "\n".join(f"{item.place}: {item.message}" for item in check_repo(repo) if item.severity == "error")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"license": "apache2.0"}, "license: the Hub does not know 'apache2.0'. Did you mean 'apache-2.0'?"),
        ({"license": "other"}, "license: other needs 'license_name'"),
        ({"license": None}, "no 'license'"),
        ({"license_link": "README.md"}, "license_link 'README.md': expected LICENSE, LICENSE.md or a URL"),
        ({"license_link": "LICENSE"}, "license_link: the repo has no file LICENSE"),
        ({"license_link": ["LICENSE"]}, "license_link ['LICENSE']: expected LICENSE"),
        ({"language": ["en", "chinese"]}, "language: the Hub does not know 'chinese'. Known: aa, ab,"),
        ({"pipeline_tag": "text_generation"}, "Did you mean 'text-generation'?"),
        ({"library_name": "transformer"}, "Did you mean 'transformers'?"),
        ({"base_model_relation": "fine-tune"}, "Did you mean 'finetune'?"),
        ({"base_model": "tiny"}, "base_model: 'tiny' has no namespace"),
        ({"datasets": ["a/b/c"]}, "datasets: "),
        ({"pipline_tag": "text-generation"}, "unknown key 'pipline_tag'. Did you mean 'pipeline_tag'?"),
        ({"model-index": []}, "is the Hub's old form of scores"),
    ],
)
def test_wrong_metadata_of_a_model_is_named_with_the_nearest_right_word(repo_copy, changes, message):
    repo = repo_copy("tiny-instruct")
    edit_metadata(repo, **changes)
    assert f"README.md: {message}" in errors_of(repo) or message in errors_of(repo)


def test_the_licence_of_a_dataset_is_linked_by_a_name_that_the_hub_takes(repo_copy):
    repo = repo_copy("tiny-data")
    assert (repo / "LICENSE").is_file()
    assert "license_link" not in errors_of(repo)
    edit_metadata(repo, license_link="https://example.org/licence")
    assert "license_link" not in errors_of(repo)
    edit_metadata(repo, license_link="LICENSE")
    (repo / "LICENSE").unlink()
    assert "license_link: the repo has no file LICENSE" in errors_of(repo)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"config_name": "x", "data_files": "data/phase-1/*.arrow"}, "no file matches data/phase-1/*.arrow"),
        ({"config_name": "x", "data_files": "../secret.json"}, "leads out of the repo"),
        ({"config_name": "x y", "data_files": "README.md"}, "config_name 'x y'"),
        ({"config_name": "x"}, "no data_files"),
        ({"config_name": "phase-01", "data_files": "README.md"}, "'phase-01' is there twice"),
        ({"config_name": "x", "data_files": "README.md", "default": True}, "more than one default"),
    ],
)
def test_wrong_configs_of_a_dataset_are_found(repo_copy, config, message):
    repo = repo_copy("tiny-data")
    configs = yaml.safe_load((repo / "README.md").read_text().split("---\n")[1])["configs"]
    edit_metadata(repo, configs=[*configs, config])
    assert message in errors_of(repo)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dataset": {"id": "a/b", "task_id": "c"}, "value": "94 %"}, "the value '94 %' is not a number"),
        ({"dataset": {"id": "a/b"}, "value": 1}, "no dataset.task_id"),
        ({"datasets": {"id": "a/b", "task_id": "c"}, "value": 1}, "unknown key 'datasets'. Did you mean 'dataset'?"),
        ({"dataset": {"id": "a/b", "task_id": "c"}, "value": 1, "source": {"name": "x"}}, "a source needs its url"),
    ],
)
def test_scores_of_another_shape_are_found(repo_copy, content, message):
    repo = repo_copy("tiny")
    (repo / ".eval_results" / "more.yaml").write_text(yaml.safe_dump([content]))
    assert f".eval_results/more.yaml: [0]: {message}" in errors_of(repo)


def test_a_card_without_metadata_or_no_card_at_all(repo_copy):
    repo = repo_copy("tiny")
    (repo / "README.md").write_text("# tiny\n")
    assert "README.md: no metadata" in errors_of(repo)
    (repo / "README.md").unlink()
    assert "README.md: missing" in errors_of(repo)


def test_a_secret_is_an_error_that_does_not_repeat_it(repo_copy):
    repo = repo_copy("tiny")
    secret = "hf_" + "aB3" * 12
    (repo / "training_config.yaml").write_text(f"name: x\ntoken: {secret}\n")
    assert "training_config.yaml: line 2 holds a Hugging Face token" in errors_of(repo)
    assert secret not in errors_of(repo)


def test_ones_own_token_is_found_whatever_its_form(repo_copy, monkeypatch):
    repo = repo_copy("tiny")
    monkeypatch.setenv("HF_TOKEN", "unusual-token-value")
    (repo / "training_config.yaml").write_text("password: unusual-token-value\n")
    assert "holds your own access token" in errors_of(repo)


def test_a_folder_of_a_machine_is_a_warning(repo_copy):
    repo = repo_copy("tiny")
    (repo / "training_config.yaml").write_text("dir: /home/alice/corpus\n")
    [finding] = check_repo(repo)
    assert (finding.severity, finding.place) == ("warning", "training_config.yaml")
    assert "/home/alice/" in finding.message


@pytest.mark.parametrize("name", ["optimizer.pt", "notes.txt", "deep/config.json", "revisions/stray.json"])
def test_a_file_that_does_not_belong_there_is_an_error(repo_copy, name):
    repo = repo_copy("tiny")
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).write_text("{}")
    assert f"{name}: not on the list of files of a model repo" in errors_of(repo)


def test_a_link_out_of_the_folder_is_refused(repo_copy):
    repo = repo_copy("tiny")
    os.symlink("/etc/hostname", repo / "scores.json.link")
    with pytest.raises(HubError, match="a symbolic link"):
        check_repo(repo)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "other/repo--modeling_x.X"}}, "takes code from another repo"),
        ({"auto_map": {"AutoModel": "modeling_gone.X"}}, "no file modeling_gone.py"),
        ({"_attn_implementation_internal": "some/kernel"}, "is an internal key that loads code"),
    ],
)
def test_a_config_that_loads_foreign_code_is_an_error(repo_copy, change, message):
    repo = repo_copy("tiny")
    config = json.loads((repo / "config.json").read_text())
    (repo / "config.json").write_text(json.dumps({**config, **change}))
    assert message in errors_of(repo)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "truncated: "),
        (lambda data: data[:100], "do not hold its header"),
        (lambda data: b"\x08" + bytes(7) + b"notjson!", "this is no safetensors file"),
    ],
)
def test_damaged_weights_are_found_in_a_revision_too(repo_copy, damage, message):
    repo = repo_copy("tiny-checkpoints")
    revision = sorted((repo / "revisions").iterdir())[0]
    weights = revision / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    assert f"revisions/{revision.name}/model.safetensors: " in errors_of(repo)
    assert message in errors_of(repo)


def test_revisions_and_index_must_agree(repo_copy):
    repo = repo_copy("tiny-checkpoints")
    revision = sorted((repo / "revisions").iterdir())[0]
    revision.rename(revision.with_name("step35"))
    assert f"checkpoints.json: it and the folders of revisions/ differ: {revision.name}, step35" in errors_of(repo)
    assert "revision 'step35': expected a name like" in errors_of(repo)
