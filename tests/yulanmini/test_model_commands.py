"""`yulanmini model`: results on stdout, one message and exit 2 for bad input."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from yulanmini.cli import main

CONFIG = {
    "model_type": "yulanmini",
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "scale_emb": 10.0,
    "initializer_range": 0.05,
    "hidden_states_shrink": 0.9,
    "model_reproduce": "cerebras",
    "init_scale_o": 1,
}


@pytest.fixture
def yulanmini(monkeypatch, capsys):
    """Run one command line in this process; returns exit code, stdout and stderr."""

    def invoke(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["yulanmini", "model", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, stdout=captured.out, stderr=captured.err)

    return invoke


@pytest.fixture
def created(tmp_path, yulanmini) -> Path:
    (tmp_path / "small.json").write_text(json.dumps(CONFIG))
    result = yulanmini("create", tmp_path / "new", "--config", tmp_path / "small.json", "--json")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["parameters"] == sum(
        tensor.numel() for tensor in load_file(tmp_path / "new" / "model.safetensors").values()
    )
    return tmp_path


def test_merge_prints_the_certificate(created, yulanmini):
    result = yulanmini("merge", created / "new", created / "merged", "--dtype", "bfloat16", "--json")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads((created / "merged" / "merge_certificate.json").read_text())


def test_dry_run_writes_nothing(created, yulanmini):
    result = yulanmini("merge", created / "new", created / "not-made", "--dry-run", "--json")
    assert json.loads(result.stdout)["architecture"] == "LlamaForCausalLM"
    assert not (created / "not-made").exists()


def test_bad_input_is_one_message_and_exit_2(created, yulanmini):
    (created / "full").mkdir()
    (created / "full" / "file").touch()
    for arguments, named in (
        (("merge", created / "absent", created / "x"), "absent"),
        (("merge", created / "new", created / "full"), "not empty"),
        (("merge", created / "new", created / "x", "--target", "lama"), "llama"),
        (("params", "yulanmini-2.5b"), "yulanmini-2.4b"),
    ):
        result = yulanmini(*arguments)
        assert result.code == 2, arguments
        assert [line for line in result.stderr.splitlines() if line.startswith("error: ") and named in line]
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


def test_rebalance_average_and_params(created, yulanmini):
    assert yulanmini("rebalance", created / "new", created / "balanced", "--rms", "0.02").code == 0
    averaged = yulanmini(
        "average", created / "new", created / "balanced", created / "mean", "--weight", 3, "--weight", 1
    )
    assert averaged.code == 0, averaged.stderr
    counts = json.loads(yulanmini("params", created / "mean", "--json").stdout)
    assert counts["total"] == json.loads(yulanmini("params", created / "small.json", "--json").stdout)["total"]


def test_dynamics_prints_a_row_a_checkpoint(created, yulanmini):
    command = ("dynamics", created / "new", "--out", created / "dynamics")
    planned = yulanmini(*command, "--dry-run", "--json")
    assert (planned.code, json.loads(planned.stdout)) == (0, {"checkpoints": ["new"]})
    assert not (created / "dynamics").exists()
    result = yulanmini(*command, "--json")
    assert result.code == 0, result.stderr
    assert [row["checkpoint"] for row in json.loads(result.stdout)] == ["new"]
    assert (created / "dynamics" / "dynamics.svg").is_file()
    wrong = yulanmini("dynamics", created / "absent", "--out", created / "dynamics")
    assert (wrong.code, wrong.stderr.count("\n")) == (2, 1)
    assert "no such folder" in wrong.stderr
