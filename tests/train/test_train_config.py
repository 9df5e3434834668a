"""Bad configs: one message that names file, key and the nearest valid one, exit 2, nothing written."""

from pathlib import Path
from typing import Any

import pytest
from pretrain_miniature import pretrain, write_inputs, write_run_config

from train.config import PretrainConfig
from train.config_file import load_config, resolved
from train.errors import TrainError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def config(inputs: Path, tmp_path: Path) -> Path:
    return write_run_config(inputs, tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("optimizer.weight_decai=0.1", "optimizer.weight_decai: unknown key. Did you mean 'weight_decay'?"),
        ("max_step=3", "max_step: unknown key. Did you mean 'max_steps'?"),
        ("schedule.annealing.shape=1-sqr", "'1-sqr' is not valid. Did you mean '1-sqrt'?"),
        ("model.hiden_size=32", "model: unknown key 'hiden_size'. Did you mean 'hidden_size'?"),
        ("model.num_attention_heads=5", "model:"),
        ("model.vocab_size=100", "model.vocab_size: 100, but the tokenizer"),
        ("monitors.names=[hidden_state_varianc]", "hidden_state_variance"),
        ("parametrization.overrides={wesarr: false}", "Did you mean 'wesar'?"),
        ("optimizer.lr=-1", "optimizer.lr:"),
        ("optimizer.weight_decay_on=matrix", "'matrix' is not valid. Did you mean 'matrices'?"),
        ("tokens_per_step=1.5", "tokens_per_step:"),
        ("schedule.warmup_tokens=5", "warmup_steps and warmup_tokens are both given"),
        ("data.phases=[27,1]", "no folder"),
        ("data.dir=/nowhere", "/nowhere"),
        ("tokenizer=/nowhere", "tokenizer"),
        ("heldout.dir=/nowhere", "/nowhere: no <domain>.jsonl"),
        ("device=cuda", "no CUDA device"),
        ("attention=flash_attention_2", "Try attention=auto"),
        ("optimizer", "expected key=value"),
        ("tokens_per_step.a=1", "--set tokens_per_step.a=1: 'tokens_per_step' is a value, not a section"),
        ("stages.7.rope_theta=1", "'stages' is a list of 2; give an index below that"),
        ("stages.first=1", "'stages' is a list of 2"),
    ],
)
def test_a_mistake_is_named(config: Path, change: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(config, "--set", change) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert sum(line.startswith("error:") for line in captured.err.splitlines()) == 1
    assert "Traceback" not in captured.err
    assert not list(config.parent.glob("run/metrics.jsonl"))


def test_a_key_given_twice_and_broken_yaml_are_refused(config: Path) -> None:
    config.write_text(config.read_text() + "seed: 4\n")
    with pytest.raises(TrainError, match="'seed' is given twice"):
        load_config(PretrainConfig, config)
    config.write_text("a: [")
    with pytest.raises(TrainError, match="not valid YAML"):
        load_config(PretrainConfig, config)
    with pytest.raises(TrainError, match="no such file"):
        load_config(PretrainConfig, config.with_name("other.yaml"))


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("optimizer.lr=1e-3", ("optimizer", "lr"), 1e-3),
        ("data.phases=[1,2]", ("data", "phases"), [1, 2]),
        ("data.phases=1-5", ("data", "phases"), "1-5"),
        ("heldout=null", ("heldout",), None),
        ("heldout.bytes_per_domain=500", ("heldout", "bytes_per_domain"), 500),
        ("stages.1.rope_theta=5", ("stages", 1, "rope_theta"), 5.0),
        ("model.rms_norm_eps=1e-5", ("model", "rms_norm_eps"), 1e-5),
        ("data.dir=1e", ("data", "dir"), str(Path("1e").absolute())),
        ("checkpoint.keep_last=7", ("checkpoint", "keep_last"), 7),
    ],
)
def test_set_changes_one_value(config: Path, tmp_path: Path, change: str, path: tuple[Any, ...], value: Any) -> None:
    found: Any = resolved(load_config(PretrainConfig, config, [change]), tmp_path / "elsewhere")
    for key in path:
        found = found[key]
    assert found == value
