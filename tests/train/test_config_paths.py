"""Configs by name and by path; what a relative path counts from; a run that was moved goes on where it was."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from pretrain_miniature import metrics, pretrain, same_weights, write_inputs, write_run_config
from sft_miniature import write_sft_config

from data_recipes.manifest import claim_folder, read_manifest
from train.config import PretrainConfig
from train.config_file import CONFIGS, configs, find_config, load_config, resolved, settings_text
from train.errors import TrainError
from train.sft import main as tune
from train.tuning.config import SftConfig


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def write_config(path: Path, **paths: str) -> Path:
    values = {"model": {}, "tokens_per_step": 64, "data": {"dir": paths.pop("data", "data")}, **paths}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"output_dir": "run", "tokenizer": "tokenizer", **values}))
    return path


def test_paths_of_a_file_count_from_it_and_typed_ones_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "mine" / "run.yaml", tokenizer="/else/where", init={"path": "~/checkpoint"})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", "/home/someone")
    for typed in (config, Path("../mine/run.yaml")):
        loaded = load_config(PretrainConfig, typed, ["data.dir=rows", "heldout={dir: ../text}", "data.phases=[1]"])
        assert loaded.output_dir == tmp_path / "mine" / "run"
        assert loaded.tokenizer == Path("/else/where")
        assert loaded.data.dir == Path("rows")
        assert loaded.init is not None
        assert loaded.init.path == Path("/home/someone/checkpoint")
        assert loaded.heldout is not None
        assert loaded.heldout.dir == tmp_path / "text"


def test_the_current_folder_has_a_name_and_so_has_a_run_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(Path("config.yaml"), output_dir=".")
    assert load_config(PretrainConfig, config).output_dir == tmp_path
    assert load_config(PretrainConfig, config, ["output_dir=."]).output_dir == tmp_path


def test_paths_of_the_packages_configs_count_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for typed in ("tiny", CONFIGS / "tiny.yaml"):
        assert load_config(PretrainConfig, typed).output_dir == Path("runs/tiny/04-pretrain")


def test_a_path_wins_over_a_name_and_a_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    assert find_config("tiny") == CONFIGS / "tiny.yaml"
    Path("tiny").rmdir()
    write_config(Path("tiny"), output_dir="mine")
    assert load_config(PretrainConfig, "tiny").output_dir == Path("mine")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("tinny", "'tiny'"), ("sft-tini", "'sft-tiny'"), ("tiny.yml", "'tiny'"), ("sub/rnu.yaml", "'sub/run.yaml'")],
)
def test_a_mistyped_config_names_the_nearest(
    typed: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(Path("sub/run.yaml"))
    with pytest.raises(TrainError, match=f"no such file.*Did you mean {hint}"):
        find_config(typed)


def test_every_config_of_the_package_has_a_plain_name() -> None:
    places = (CONFIGS, CONFIGS / "instruct", CONFIGS / "accelerate")
    assert not [path for path in CONFIGS.rglob("*.yaml") if path.parent not in places]
    assert {"tiny", "proxy-0.2b", "sft-tiny", "yulanmini-2.4b"} <= set(configs())


def test_a_saved_config_means_the_same_places_after_its_run_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    claim_folder(whole, kind="reproduction")
    write_config(whole / "run.yaml", data="rows", tokenizer=str(tmp_path / "outside"), init={"path": "run/first"})
    monkeypatch.chdir(tmp_path)
    first = load_config(PretrainConfig, "whole/run.yaml")
    saved = resolved(first, first.output_dir)
    first.output_dir.mkdir()
    (first.output_dir / "config.yaml").write_text(settings_text(saved))
    assert (saved["output_dir"], saved["data"]["dir"], saved["init"]["path"]) == (".", "../rows", "first")
    assert saved["tokenizer"] == str(tmp_path / "outside")  # not the run's own: it stays where it is

    whole.rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = load_config(PretrainConfig, tmp_path / "moved" / "run" / "config.yaml")
    assert again.output_dir == tmp_path / "moved" / "run"
    assert again.data.dir == tmp_path / "moved" / "rows"
    assert resolved(again, again.output_dir) == saved


def test_a_folder_of_nobodys_around_a_run_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(PretrainConfig, write_config(tmp_path / "run.yaml"))
    assert resolved(config, config.output_dir)["data"]["dir"] == str(tmp_path / "data")


def test_links_inside_a_run_are_its_own_and_a_linked_run_knows_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "run").symlink_to("disk/run")
    (tmp_path / "run" / "tokenizer").symlink_to(tmp_path / "tokenizer")
    monkeypatch.chdir(tmp_path)
    config = load_config(PretrainConfig, write_config(tmp_path / "run.yaml", tokenizer="run/tokenizer"))
    saved = resolved(config, config.output_dir)
    assert (saved["output_dir"], saved["tokenizer"]) == (".", "tokenizer")


def test_a_stopped_run_goes_on_after_its_folder_was_moved(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = write_run_config(inputs, tmp_path / "undisturbed" / "config.yaml")
    assert pretrain(undisturbed) == 0
    whole = tmp_path / "whole"
    claim_folder(whole, kind="reproduction")
    for name in ("tokenizer", "data", "heldout"):
        shutil.copytree(inputs / name, whole / name)
    values = yaml.safe_load(undisturbed.read_text()) | {"output_dir": "run", "tokenizer": "tokenizer"}
    values |= {"data": {"dir": "data", "phases": [1, 2, 26]}, "heldout": values["heldout"] | {"dir": "heldout"}}
    (whole / "run.yaml").write_text(yaml.safe_dump(values))
    assert pretrain(whole / "run.yaml", "--set", "max_steps=8") == 0

    whole.rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "moved" / "run"
    assert pretrain(run / "config.yaml", "--set", "max_steps=null") == 0
    assert "resuming from step 8" in capsys.readouterr().err
    assert metrics(run) == metrics(tmp_path / "undisturbed" / "run")
    assert same_weights(run, tmp_path / "undisturbed" / "run")
    assert list(Path.cwd().iterdir()) == []
    # Where it was is nowhere in it, so that it may be shown to others.
    told = [path for path in run.rglob("*") if path.suffix in (".json", ".yaml", ".jsonl")]
    assert not [path for path in told if str(tmp_path) in path.read_text()]
    trainer = json.loads((run / "checkpoints" / "step-00000018" / "trainer.json").read_text())
    assert trainer["tokenizer"] == "../../../tokenizer"


def test_a_tuned_model_is_known_as_finished_after_it_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    claim_folder(whole, kind="reproduction")
    write_sft_config(whole, model="model", tokenizer="tokenizer", dialogues="dialogues.jsonl", output_dir="out")
    monkeypatch.chdir(tmp_path)
    assert tune(["whole/sft.yaml", "--set", "max_steps=1"]) == 0
    manifest = read_manifest(whole / "out")
    assert str(tmp_path) not in json.dumps(manifest)

    whole.rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tune(["../moved/out/config.yaml"]) == 0
    assert "finished before" in capsys.readouterr().err
    config = load_config(SftConfig, "../moved/out/config.yaml")
    assert config.model == tmp_path / "moved" / "model"
