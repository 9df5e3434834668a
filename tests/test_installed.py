"""The package as `pip install .` leaves it, used from a folder of a user's that holds modules of the same names."""

import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from pretrain_miniature import environment, write_inputs, write_run_config
from sft_miniature import write_dialogues, write_llama, write_tokenizer

from data_recipes.manifest import read_manifest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("modeling_yulanmini", "data_recipes", "train", "eval", "hub_cards", "yulanmini")


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("sources") / "yulanmini"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(copy), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip("install", str(wheel), "--no-deps", "--no-index", "--no-compile", "--target", str(target))
    return target


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = [path.relative_to(REPOSITORY) for room in ROOMS for path in (REPOSITORY / room).rglob("*")]
    kept = {path.as_posix() for path in files if (REPOSITORY / path).is_file() and "__pycache__" not in path.parts}
    assert kept <= set(ZipFile(wheel).namelist())


@pytest.mark.slow
def test_every_first_step_works_from_a_folder_with_the_users_own_modules(installed: Path, tmp_path: Path) -> None:
    for name in ("train", "eval", "yulanmini", "accelerate", "datasets"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the user`s {name}.py was imported')")
    variables = environment() | {"PYTHONPATH": str(installed)}

    def call(*arguments: str) -> str:
        command = [sys.executable, "-P", str(installed / "bin" / "yulanmini"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
        return done.stdout

    where = [sys.executable, "-P", "-c", "import train; print(train.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == installed / "train" / "__init__.py"
    inputs = write_inputs(tmp_path / "inputs")
    settings = yaml.safe_load(write_run_config(inputs, tmp_path / "run.yaml").read_text())

    # A config by name, made one of the user's own.
    mine = yaml.safe_load(call("train", "config", "tiny")) | {
        key: settings[key] for key in ("model", "tokens_per_step", "schedule", "heldout")
    }
    mine |= {"output_dir": "out", "tokenizer": "inputs/tokenizer", "data": {"dir": "inputs/data", "phases": [1, 2, 26]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    call("train", "pretrain", "mine.yaml", "--set", "max_steps=2")
    assert read_manifest(tmp_path / "out")["counts"]["steps"] == 2

    # Low-rank tuning on 64 dialogues.
    write_tokenizer(write_llama(tmp_path / "model"))
    write_dialogues(tmp_path / "mine.jsonl", 64)
    call("train", "sft", "sft-lora", "--set", "model=model", "epochs=1")
    assert (tmp_path / "my-tune" / "adapter" / "adapter_model.safetensors").is_file()

    # A published mix, built from the user's own text by an absolute path.
    recipe = yaml.safe_load(call("recipe", "export", "27"))
    text = {"path": str(tmp_path / "inputs" / "text" / "a.jsonl"), "text": "text"}
    recipe["subsets"] = [{**subset, "source": text} for subset in islice(recipe["subsets"], 5)]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    small = ("--tokens", "3000", "--context-length", "32", "--tokenizer", "inputs/tokenizer")
    call("data", "build", "recipe.yaml", "--out", "rows", *small)
    assert read_manifest(tmp_path / "rows" / "phase-27")["context_length"] == 32
