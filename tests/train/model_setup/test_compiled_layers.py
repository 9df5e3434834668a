"""`compile: true`: compiled layers train as eager ones do, and monitors see into them all the same."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pretrain_miniature import metrics, pretrain, write_inputs, write_run_config
from torch._dynamo.utils import counters

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini import modeling_yulanmini as modeling
from train.config import RecomputationSettings
from train.model_setup.recomputation import set_layer_execution, set_loss_execution

LAYERS = 10  # more than the eight variants of a function after which torch.compile gives up
STAGES = [
    {"phases": "1-25", "rope_theta": 10_000},
    {"phases": "26-27", "rope_theta": 490_000, "document_mask": True, "micro_batch_rows": 2},
]
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler on a CPU"
)


def write_config(inputs: Path, path: Path, **changes: Any) -> Path:
    write_run_config(inputs, path, heldout=None, micro_batch_rows=6, stages=STAGES)
    config = yaml.safe_load(path.read_text())
    config["model"]["num_hidden_layers"] = LAYERS
    config["monitors"] = {"interval": 4, "names": ["norm_output_variance", "attention_logits", "optimization"]}
    path.write_text(yaml.safe_dump(config | changes))
    return path


@needs_compiler
@pytest.mark.slow
def test_compiled_layers_with_mask_accumulation_and_resume_train_as_eager_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    counters.clear()
    inputs = write_inputs(tmp_path / "inputs")
    eager = write_config(inputs, tmp_path / "eager" / "config.yaml")
    compiled = write_config(inputs, tmp_path / "compiled" / "config.yaml", compile=True)
    assert pretrain(eager) == 0
    assert not counters["stats"]
    assert pretrain(compiled, "--set", "max_steps=8") == 0
    assert pretrain(compiled) == 0
    # Context 32, context 96 with a document mask, and the same layers again for the run that went on; and the loss.
    assert 2 <= counters["stats"]["unique_graphs"] <= 8
    assert not counters["unimplemented"]
    assert not counters["graph_break"]
    one, two = metrics(eager.parent / "run"), metrics(compiled.parent / "run")
    assert [line["step"] for line in two] == [line["step"] for line in one]
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], abs=2e-5)
    assert [line["grad_norm"] for line in two] == pytest.approx([line["grad_norm"] for line in one], rel=1e-3)
    for key in ("norm_output_variance", "mlp_norm_output_variance", "attention_logit_max"):
        theirs = [line[key] for line in two if key in line]
        assert len(theirs) == 4
        assert theirs == [pytest.approx(line[key], rel=1e-3) for line in one if key in line]


def test_layers_run_plain_in_steps_that_look_inside_them_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def watched(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        if function is modeling.chunk_terms:
            return function
        return lambda *args, **kwargs: (calls.append(1), function(*args, **kwargs))[1]

    monkeypatch.setattr(torch, "compile", watched)
    inputs = write_inputs(tmp_path / "inputs")
    config = write_config(inputs, tmp_path / "config.yaml", compile=True, micro_batch_rows=None)
    assert pretrain(config, "--set", "max_steps=4") == 0
    assert len(calls) == 3 * LAYERS  # steps 1 to 3; step 4 measures
    assert "norm_output_variance" in metrics(tmp_path / "run")[-1]


def test_compiling_without_a_compiler_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    inputs = write_inputs(tmp_path / "inputs")
    assert pretrain(write_config(inputs, tmp_path / "config.yaml", compile=True)) == 2
    message = capsys.readouterr().err
    assert "no-such-compiler" in message
    assert "compile=false" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_loss_is_the_loss(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """As torch.compile traces and functionalizes it: the function overwrites its logits."""
    torch._dynamo.reset()
    compile_with = torch.compile
    traced = lambda function, **settings: compile_with(function, **(settings | {"backend": "aot_eager"}))  # noqa: E731
    monkeypatch.setattr(torch, "compile", traced)
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_ELEMENTS", 7 * 97)
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_MIN_TOKENS", 1)
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 97, bias=False, dtype=dtype)
    hidden_states = torch.randn(40, 16, dtype=dtype, requires_grad=True)
    targets = torch.randint(97, (40,))
    targets[3:8] = -100
    results = []
    try:
        for compiled in (False, True):
            set_loss_execution(compile=compiled)
            loss, z_term = modeling.linear_cross_entropy(hidden_states, head, targets, z_loss=0.02)
            results.append((loss, z_term, *torch.autograd.grad(loss, [hidden_states, head.weight])))
    finally:
        set_loss_execution(compile=False)
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_memory_budget_decides_what_a_compiled_layer_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less is kept from forward to backward at a smaller budget; the gradients stay what they are."""
    compile_with = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, **settings: compile_with(function, **(settings | {"backend": "aot_eager_decomp_partition"})),
    )
    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    model = YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=32, **shape, **heads)).train()
    rows = torch.randint(4, 97, (2, 64))
    kept: dict[float, int] = {}
    gradients = {}
    try:
        for budget in (1.0, 0.5, 0.0):
            set_layer_execution(model, RecomputationSettings(mode="budget", budget=budget), compile=True)
            saved = 0

            def count(tensor: torch.Tensor) -> torch.Tensor:
                nonlocal saved
                saved += tensor.numel()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                loss = model(rows, labels=rows, use_cache=False).loss
            loss.backward()
            kept[budget] = saved
            gradients[budget] = [parameter.grad.clone() for parameter in model.parameters()]
            model.zero_grad()
    finally:
        set_layer_execution(model, RecomputationSettings(), compile=False)
    assert kept[0.0] < kept[0.5] < kept[1.0]
    for found in (gradients[0.5], gradients[0.0]):
        for ours, theirs in zip(found, gradients[1.0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_memory_budget_without_compile_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    config = write_config(inputs, tmp_path / "config.yaml", micro_batch_rows=None)
    for more in ([], ["--dry-run"]):
        assert pretrain(config, "--set", "recomputation={mode: budget}", *more) == 2
        assert "recomputation.mode is budget, which torch.compile carries out" in capsys.readouterr().err
