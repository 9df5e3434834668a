"""`yulanmini train pretrain|sft|config` from a folder full of a user's own modules: started, stopped, mistyped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pretrain_miniature import environment, metrics, pretrain, same_weights, write_inputs, write_run_config
from sft_miniature import write_sft_config

from data_recipes.manifest import read_manifest
from train.config import PretrainConfig
from train.config_file import CONFIGS, configs, load_config, resolved, script_of
from train.launch.launcher import accelerate_options
from train.launch.stop import EXIT_CODE_FILE, FOLDER_VARIABLE, report_exit_code
from train.selection.config import SelectConfig
from train.tuning.config import DpoConfig, OnPolicyConfig, SftConfig
from yulanmini.cli import run as run_yulanmini

# -P as for the installed command: Python does not look for modules in the current folder.
YULANMINI = [sys.executable, "-P", "-m", "yulanmini.cli"]
THEIRS = ("train", "eval", "yulanmini", "accelerate", "torch", "config", "errors", "random", "run", "launch")
THEIR_PACKAGES = ("datasets", "data_recipes", "transformers", "tiny")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_inputs(tmp_path_factory.mktemp("inputs"))
    write_run_config(folder, folder / "run.yaml")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose modules end whatever imports them."""
    for name in THEIRS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the user`s {name}.py was imported')")
    for name in THEIR_PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the user`s {name} was imported')")
    return tmp_path


def train(place: Path, *arguments: str, without: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*YULANMINI, "train", *arguments],
        cwd=place,
        env={name: value for name, value in (environment() | changes).items() if name != without},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
def test_pretraining_starts_among_a_users_own_modules(inputs: Path, place: Path) -> None:
    # Of what accelerate is not told it prints a notice; the number of threads may stand in this variable.
    typed = ("pretrain", str(inputs / "run.yaml"), "--set", "max_steps=2", "output_dir=out")
    done = train(place, *typed, without="OMP_NUM_THREADS")
    assert done.returncode == 0, done.stderr
    assert read_manifest(place / "out")["counts"]["steps"] == 2
    assert "Traceback" not in done.stderr
    assert "accelerate" not in done.stderr


@pytest.mark.slow
def test_tuning_starts_among_a_users_own_modules(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = write_sft_config(tmp_path_factory.mktemp("tuning"))
    done = train(place, "sft", str(config), "--set", "max_steps=1", "--set", "output_dir=out")
    assert done.returncode == 0, done.stderr
    assert read_manifest(place / "out")["counts"]["steps"] == 1


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_yulanmini(["train", *arguments])
    return int(stopped.value.code or 0)


def test_a_dry_run_needs_no_launcher(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: pytest.fail("a process was started"))
    assert call("pretrain", str(inputs / "run.yaml"), "--dry-run", "--json", "--set", "max_steps=2", "seed=1") == 0
    assert json.loads(capsys.readouterr().out)["total_tokens"] == 18 * 384
    config = write_sft_config(tmp_path / "tuning", epochs=3)
    assert call("sft", str(config), "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], found["dialogues"], found["finished"]) == (24, 64, False)
    assert not (tmp_path / "tuning" / "out").exists()
    assert not (tmp_path / "tuning" / "out.work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "tinny"], "Did you mean 'tiny'?"),
        (["pretrain", "sft-tiny"], "a config for `yulanmini train sft`, not for `pretrain`"),
        (["sft", "tiny"], "a config for `yulanmini train pretrain`, not for `sft`"),
        (["pretrain", "tiny", "--set", "optimizer.lrr=1"], "Did you mean 'lr'?"),
        (["pretrain", "tiny", "--set", "seed=1", "max_steps"], "'max_steps': expected KEY=VALUE"),
        (["pretrain", "tiny", "--", "--num_procecces", "2"], "--num_procecces"),
        (["pretrain", "tiny", "--accelerate-config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["pretrain", "tiny", "--accelerate-config", "8-gpu"], "Did you mean '8-gpus'?"),
        (["sft", "sft-tiny", "--dry-run"], "key 'model'"),
        (["config", "tinny"], "Did you mean 'tiny'?"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_started(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from yulanmini.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["yulanmini", "train", *arguments])
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: pytest.fail("a process was started"))
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert message in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("name", configs())
def test_a_printed_config_says_the_same_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"sft": SftConfig, "dpo": DpoConfig, "on-policy": OnPolicyConfig, "select": SelectConfig}
    kind: Any = kinds.get(script_of(name), PretrainConfig)
    monkeypatch.chdir(tmp_path)
    assert call("config", name) == 0
    text = capsys.readouterr().out
    assert text.startswith("# ")
    (tmp_path / "mine.yaml").write_text(text)
    by_name = load_config(kind, name)
    expected = resolved(by_name, by_name.output_dir)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mine = load_config(kind, "../mine.yaml")
    assert resolved(mine, mine.output_dir) == expected


def test_configs_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("config", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in listed} == {
        path.stem for path in [*CONFIGS.glob("*.yaml"), *CONFIGS.glob("instruct/*.yaml")]
    }
    assert all(10 < len(entry["what"]) < 120 for entry in listed)
    assert {entry["name"] for entry in listed if entry["verb"] == "sft"} == {
        name for name in configs() if name.startswith("sft-")
    }


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(inputs: Path, place: Path, number: signal.Signals) -> None:
    undisturbed = write_run_config(inputs, place / "undisturbed" / "config.yaml")
    assert pretrain(undisturbed) == 0
    arguments = ["pretrain", str(inputs / "run.yaml"), "--set", "output_dir=out"]
    process = subprocess.Popen(
        [*YULANMINI, "train", *arguments],
        cwd=place,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 200
    while len(metrics(place / "out")) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "saved at step" in told
    assert "Traceback" not in told
    assert train(place, *arguments).returncode == 0
    assert metrics(place / "out") == metrics(place / "undisturbed" / "run")
    assert same_weights(place / "out", place / "undisturbed" / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--processes", "2"],
        ["--accelerate-config", str(CONFIGS / "accelerate" / "cpu.yaml")],  # accelerate's own launcher of ranks
        ["--", "--num_processes", "2"],
    ],
    ids=["processes", "config file", "options"],
)
def test_two_ranks_train_and_a_mistake_is_told_once(inputs: Path, place: Path, options: list[str]) -> None:
    before, after = (options, []) if options[0] != "--" else ([], options)
    arguments = ["pretrain", str(inputs / "run.yaml"), *before, "--set", "max_steps=2"]
    done = train(place, *arguments, "output_dir=out", *after)
    assert done.returncode == 0, done.stderr
    (trainer,) = place.glob("out/checkpoints/step-00000002/trainer.json")
    assert json.loads(trainer.read_text())["ranks"] == 2
    done = train(place, *arguments, "output_dir=bad", "device=cuda", *after)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_ranks_of_tuning_stop_together_and_go_on(tmp_path: Path) -> None:
    config = write_sft_config(tmp_path, epochs=8, checkpoint={"every_steps": 1000})
    command = [*YULANMINI, "train", "sft", str(config), "--processes", "2"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 200
    while len(metrics(tmp_path / "out.work")) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "stopped after step" in told
    assert list((tmp_path / "out.work").glob("checkpoint-*/seal.json"))
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in metrics(tmp_path / "out")] == list(range(1, 65))


def test_the_exit_code_is_that_of_the_first_rank_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    for code in (2, 1, 0):
        report_exit_code(code)
    assert (tmp_path / EXIT_CODE_FILE).read_text() == "2"


def test_accelerate_is_told_everything_unless_the_user_has_configured_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert accelerate_options(3)[:3] == ["--cpu", "--num_processes", "3"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert accelerate_options()[:3] == ["--multi_gpu", "--num_processes", "4"]
    assert accelerate_options(1)[:2] == ["--num_processes", "1"]
    own = tmp_path / "default_config.yaml"
    own.write_text("num_processes: 8")
    assert accelerate_options(2, config_file=own) == ["--config_file", str(own), "--num_processes", "2"]
    packaged = str(CONFIGS / "accelerate" / "8-gpus.yaml")
    assert accelerate_options(config_file=Path("8-gpus")) == ["--config_file", packaged]
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(own))
    assert accelerate_options(more=["--mixed_precision", "no"]) == ["--mixed_precision", "no"]
    assert os.environ.get("ACCELERATE_USE_CPU") is None
