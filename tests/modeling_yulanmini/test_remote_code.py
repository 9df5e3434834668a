"""The two files beside saved weights: they are the package's, and they work where the package is not installed."""

import ast
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import modeling_yulanmini
from modeling_yulanmini import YuLanMiniForCausalLM
from modeling_yulanmini.checkpoint_reader import REMOTE_FILES, differing_files, packaged_checksums

# Runs in a process of its own where importing the package fails; prints the names of the classes it used.
LOAD_WITHOUT_PACKAGE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "modeling_yulanmini":
            raise ImportError("the package is not installed here")

sys.meta_path.insert(0, Refuse())
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

folder, again, inputs, outputs = sys.argv[1:]
tokens = load_file(inputs)["input_ids"]
trust = {"trust_remote_code": True}
config = AutoConfig.from_pretrained(folder, **trust)
model = AutoModelForCausalLM.from_pretrained(folder, **trust)
base = AutoModel.from_pretrained(folder, **trust)
classifier = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **trust)
built = AutoModel.from_config(config, **trust)
used = [type(each) for each in (config, model, base, classifier, built)]
classes = {used_class.__module__.split(".")[-1] + "." + used_class.__name__ for used_class in used}
assert not any(name.split(".")[0] == "modeling_yulanmini" for name in sys.modules), "the package was imported"

with torch.no_grad():
    output = model(tokens, labels=tokens)
    results = {
        "logits": output.logits,
        "loss": output.loss.reshape(1),
        "hidden": base(tokens).last_hidden_state,
        "generated": model.generate(
            tokens[:, :5], max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
        ),
    }
save_file({name: tensor.contiguous() for name, tensor in results.items()}, outputs)
model.save_pretrained(again)
print(sorted(classes))
"""


@pytest.fixture
def saved(golden_model, tmp_path) -> Path:
    golden_model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_saving_puts_the_packages_own_files_beside_the_weights(saved):
    package = Path(modeling_yulanmini.__file__).parent
    for name in REMOTE_FILES:
        assert (saved / name).read_bytes() == (package / name).read_bytes()
    assert sorted(path.name for path in saved.glob("*.py")) == sorted(REMOTE_FILES)
    assert differing_files(saved) == []


def test_auto_map_names_all_classes_and_only_the_folders_own_files(saved):
    auto_map = json.loads((saved / "config.json").read_text())["auto_map"]
    assert auto_map == {
        "AutoConfig": "configuration_yulanmini.YuLanMiniConfig",
        "AutoModel": "modeling_yulanmini.YuLanMiniModel",
        "AutoModelForCausalLM": "modeling_yulanmini.YuLanMiniForCausalLM",
        "AutoModelForSequenceClassification": "modeling_yulanmini.YuLanMiniForSequenceClassification",
    }


def test_altered_and_missing_files_are_noticed(saved):
    with (saved / "modeling_yulanmini.py").open("a") as file:
        file.write("# altered\n")
    (saved / "configuration_yulanmini.py").unlink()
    assert differing_files(saved) == list(REMOTE_FILES)
    assert all(len(checksum) == 64 for checksum in packaged_checksums().values())


@pytest.mark.parametrize("name", REMOTE_FILES)
def test_files_stand_alone(name):
    """They import the standard library, torch, transformers with what it always brings, and each other."""
    tree = ast.parse((Path(modeling_yulanmini.__file__).parent / name).read_text())
    for node in ast.walk(tree):
        roots: set[str] = set()
        if isinstance(node, ast.Import):
            roots = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert (node.level, node.module) == (1, "configuration_yulanmini")
        elif isinstance(node, ast.ImportFrom):
            roots = {node.module.split(".")[0]}
        assert roots <= {"torch", "transformers", "safetensors", *sys.stdlib_module_names}, roots


def test_older_transformers_is_named_in_the_error(monkeypatch):
    monkeypatch.setattr("transformers.__version__", "5.21.3")
    file = Path(modeling_yulanmini.__file__).parent / "configuration_yulanmini.py"
    with pytest.raises(ImportError, match=r"needs transformers 5\.22 or newer, found 5\.21\.3"):
        runpy.run_path(str(file))
    monkeypatch.setattr("transformers.__version__", "6.0.0.dev0")
    assert "YuLanMiniConfig" in runpy.run_path(str(file))


def test_works_where_the_package_cannot_be_imported(golden_model, saved, expected, tmp_path):
    inputs, outputs = tmp_path / "inputs.safetensors", tmp_path / "outputs.safetensors"
    save_file({"input_ids": expected["input_ids"]}, inputs)
    again = tmp_path / "saved-again"
    process = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT_PACKAGE, str(saved), str(again), str(inputs), str(outputs)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.strip().splitlines()[-1] == str(
        [
            "configuration_yulanmini.YuLanMiniConfig",
            "modeling_yulanmini.YuLanMiniForCausalLM",
            "modeling_yulanmini.YuLanMiniForSequenceClassification",
            "modeling_yulanmini.YuLanMiniModel",
        ]
    )
    results = load_file(outputs)
    with torch.no_grad():
        output = golden_model(expected["input_ids"], labels=expected["input_ids"])
        generated = golden_model.generate(
            expected["input_ids"][:, :5], max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    torch.testing.assert_close(results["logits"], output.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results["loss"][0], output.loss, atol=1e-5, rtol=1e-5)
    assert torch.equal(results["generated"], generated)
    # What the remote code saves, the package loads: same files, same map, same weights.
    assert differing_files(again) == []
    reloaded = YuLanMiniForCausalLM.from_pretrained(again)
    for ours, theirs in zip(reloaded.parameters(), golden_model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (again / "config.json").read_text() == (saved / "config.json").read_text()


def test_published_class_names_are_in_the_remote_file():
    from modeling_yulanmini import modeling_yulanmini as modeling

    for name in ("YuLanMiniModelForCausalLM", "MiniYuLanModelForCausalLM"):
        assert getattr(modeling, name) is YuLanMiniForCausalLM
