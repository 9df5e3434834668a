"""Checkpoints: damaged ones are passed over, foreign ones refused, any of them can be exported or started from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pretrain_miniature import metrics, pretrain, same_weights, weights, write_inputs, write_run_config
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from train.checkpoints.export import export_checkpoint
from train.checkpoints.sharded import read_trainer, write_trainer
from train.errors import TrainError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_run_config(inputs, tmp_path_factory.mktemp("finished") / "config.yaml")
    assert pretrain(config) == 0
    return config.parent / "run"


@pytest.fixture
def half_way(inputs: Path, tmp_path: Path) -> Path:
    """The config of a run that has stopped after 10 of 18 steps; checkpoints at 6 (phase end), 8 and 10."""
    config = write_run_config(inputs, tmp_path / "config.yaml")
    assert pretrain(config, "--set", "max_steps=10") == 0
    return config


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def change(config: Path, **changes: Any) -> Path:
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | changes))
    return config


def test_phase_ends_stay_and_of_the_others_the_last_ones(finished: Path) -> None:
    assert checkpoints(finished) == [f"step-{step:08d}" for step in (6, 8, 12, 16, 18)]
    assert not list((finished / "checkpoints").glob(".*"))


def flip(path: Path, *, count: int) -> None:
    """Turn over all bits of up to `count` bytes in the middle of a file; its size stays."""
    content = bytearray(path.read_bytes())
    start = max(len(content) // 2 - count // 2, 0)
    content[start : start + count] = bytes(255 - byte for byte in content[start : start + count])
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", ["missing", "truncated", "no trainer.json", "4 kB", ".metadata", "rng-0.pt", "trainer.json"]
)
def test_a_damaged_latest_checkpoint_falls_back_to_the_one_before(
    half_way: Path, finished: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = tmp_path / "run" / "checkpoints" / "step-00000010"
    victim = latest / damage if (latest / damage).exists() else next(latest.glob("*.distcp"))
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:-100])
    elif damage == "missing":
        victim.unlink()
    elif damage == "no trainer.json":
        victim = latest / "trainer.json"
        victim.unlink()
    elif damage == "trainer.json":  # valid JSON still, of the same size
        victim.write_text(victim.read_text().replace('"ranks": 1', '"ranks": 7'))
    else:
        flip(victim, count=4096 if damage == "4 kB" else 1)
    assert pretrain(half_way) == 0
    message = capsys.readouterr().err
    assert str(victim) in message or victim.name in message
    assert "Going back to step 8" in message
    assert same_weights(tmp_path / "run", finished)
    assert metrics(tmp_path / "run") == metrics(finished)


def test_no_whole_checkpoint_at_all_is_an_error(
    half_way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for trainer in (tmp_path / "run" / "checkpoints").glob("*/trainer.json"):
        trainer.write_text("{")
    assert pretrain(half_way) == 2
    assert "no whole checkpoint" in capsys.readouterr().err


def test_changed_settings_are_refused_by_name_unless_forced(
    half_way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(half_way, optimizer={"lr": 1e-3}, seed=4)
    assert pretrain(half_way) == 2
    message = capsys.readouterr().err
    assert "config.optimizer.lr: was 0.003, is 0.001" in message
    assert "config.seed: was 3, is 4" in message
    assert "--force" in message
    assert pretrain(half_way, "--force", "--set", "max_steps=11") == 0
    assert metrics(tmp_path / "run")[-1]["lr"] == pytest.approx(1e-3)


def test_another_model_is_refused(half_way: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = yaml.safe_load(half_way.read_text())["model"] | {"num_hidden_layers": 3}
    assert pretrain(change(half_way, model=model)) == 2
    assert "model.num_hidden_layers: was 2, is 3" in capsys.readouterr().err


def test_data_that_changed_since_the_checkpoint_is_refused(
    half_way: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(inputs / "data", tmp_path / "data")
    manifest = tmp_path / "data" / "phase-02" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"fingerprint": "other"}))
    assert pretrain(change(half_way, data={"dir": str(tmp_path / "data"), "phases": [1, 2, 26]})) == 2
    assert "phase 2.data: was" in capsys.readouterr().err


def test_what_only_says_how_to_run_may_change(half_way: Path, finished: Path, tmp_path: Path) -> None:
    change(half_way, checkpoint={"every_steps": 5, "keep_last": 1}, monitors={"interval": 100, "names": []})
    assert pretrain(half_way) == 0
    assert same_weights(tmp_path / "run", finished)


def test_asynchronous_checkpoints_in_bfloat16_are_the_same(inputs: Path, tmp_path: Path) -> None:
    # bfloat16 with float32 master weights is sharded also on one rank, which asynchronous saving needs.
    for name, asynchronous in (("waiting", False), ("asynchronous", True)):
        config = write_run_config(
            inputs,
            tmp_path / f"{name}.yaml",
            output_dir=str(tmp_path / name),
            precision="bfloat16",
            checkpoint={"every_steps": 4, "asynchronous": asynchronous},
        )
        assert pretrain(config, "--set", "max_steps=9") == 0
        assert pretrain(config) == 0
        assert checkpoints(tmp_path / name)[-1] == "step-00000018"
    assert same_weights(tmp_path / "waiting", tmp_path / "asynchronous")
    lines = metrics(tmp_path / "waiting")
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    assert {tensor.dtype for tensor in weights(tmp_path / "waiting").values()} == {torch.float32}


def test_an_export_of_a_checkpoint_equals_the_run_s_own(finished: Path, tmp_path: Path) -> None:
    export_checkpoint(finished / "checkpoints" / "step-00000012", tmp_path / "model")
    mine, theirs = load_file(tmp_path / "model" / "model.safetensors"), weights(finished, "phase-02")
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    export_checkpoint(finished / "checkpoints" / "step-00000012", tmp_path / "half", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}


def test_a_damaged_checkpoint_is_not_exported(finished: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "step-00000012"
    shutil.copytree(finished / "checkpoints" / checkpoint.name, checkpoint)
    flip(next(checkpoint.glob("*.distcp")), count=1)
    with pytest.raises(TrainError, match=r"distcp: damaged"):
        export_checkpoint(checkpoint, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_exported_models_load_with_tokenizer_and_the_rope_base_of_their_phase(inputs: Path, finished: Path) -> None:
    bases = {}
    for phase in ("phase-01", "phase-26"):
        model = AutoModelForCausalLM.from_pretrained(finished / "models" / phase)
        bases[phase] = (model.config.rope_parameters["rope_theta"], model.config.max_position_embeddings)
        ids = AutoTokenizer.from_pretrained(finished / "models" / phase)("a e i", return_tensors="pt")["input_ids"]
        assert model(input_ids=ids).logits.isfinite().all()
    assert bases == {"phase-01": (10_000, 32), "phase-26": (490_000, 96)}
    for file in ("tokenizer.json", "tokenizer_config.json"):  # not rewritten in the words of today's transformers
        assert (finished / "models" / phase / file).read_bytes() == (inputs / "tokenizer" / file).read_bytes()


@pytest.mark.parametrize("kind", ["model folder", "checkpoint", "checkpoint with optimizer"])
def test_annealing_with_one_s_own_phase_starts_from_a_checkpoint(
    inputs: Path, finished: Path, tmp_path: Path, kind: str
) -> None:
    source = finished / ("models/phase-02" if kind == "model folder" else "checkpoints/step-00000012")
    config = write_run_config(
        inputs,
        tmp_path / "config.yaml",
        data={"dir": str(inputs / "data"), "phases": [26]},
        schedule={"annealing": {"start": 26, "floor": 0.005}},
        init={"path": str(source), "optimizer": kind.endswith("optimizer")},
    )
    assert pretrain(config) == 0
    lines, original = metrics(tmp_path / "run"), metrics(finished)[12:]
    assert [line["lr"] for line in lines] == [line["lr"] for line in original]
    assert lines[0]["loss"] == pytest.approx(original[0]["loss"], abs=1e-6)
    if kind.endswith("optimizer"):  # the same continuation as in the whole run
        assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in original], abs=1e-5)
    else:  # fresh moments: another way down
        assert lines[3]["loss"] != pytest.approx(original[3]["loss"], abs=1e-4)


def test_init_from_another_shape_names_the_parameter(
    inputs: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = yaml.safe_load((finished / "config.yaml").read_text())["model"] | {"num_hidden_layers": 3}
    config = write_run_config(
        inputs, tmp_path / "config.yaml", model=model, init={"path": str(finished / "models/phase-02")}
    )
    assert pretrain(config) == 2
    assert "model.layers.2." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "is neither a model folder (no config.json) nor a checkpoint of a run (no trainer.json). Give one"),
        ("run", "Did you mean {run}/checkpoints/step-00000018?"),
        ("damaged", ".distcp: damaged, its content differs from its checksum."),
        ("another tokenizer", "was trained with another tokenizer (fingerprint other)"),
    ],
)
def test_an_init_path_that_cannot_be_started_from_says_why(
    inputs: Path, finished: Path, tmp_path: Path, where: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = {"nowhere": tmp_path / "nowhere", "run": finished}.get(where, tmp_path / "step-00000012")
    if not path.exists() and where != "nowhere":
        shutil.copytree(finished / "checkpoints" / path.name, path)
    if where == "damaged":
        flip(next(path.glob("*.distcp")), count=1)
    if where == "another tokenizer":
        trainer = read_trainer(path)
        trainer["identity"]["tokenizer"] = "other"
        write_trainer(path, trainer, files=trainer["files"])
    assert pretrain(write_run_config(inputs, tmp_path / "config.yaml", init={"path": str(path)})) == 2
    told = capfd.readouterr().err
    assert message.format(run=finished) in told
    assert "Traceback" not in told
