"""Each monitor's number equals the same number found another way: from the weights, the gradients, the attention."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from pretrain_miniature import pretrain, write_inputs, write_run_config
from torch import nn

from data_recipes.registry import named_subclasses
from data_recipes.rows.reader import PackedRows
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import OptimizerSettings, PretrainConfig
from train.curriculum.batches import MicroBatch
from train.errors import TrainError
from train.launch.world import World
from train.model_setup.parameter_groups import parameter_groups
from train.monitors.activations import AttentionLogits, HiddenStateVariance, NormOutputVariance
from train.monitors.base import Gauge, Monitor, make_monitors
from train.monitors.losses import LossBySource
from train.monitors.optimization import Optimization, Weights
from train.monitors.speed import Speed
from train.run.log import Trackers, flattened

WORLD = World(torch.device("cpu"), 0, 1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def records(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The log of a run of 8 steps, measured at each, 3 micro-batches of 4 rows a step."""
    path = tmp_path_factory.mktemp("measured") / "config.yaml"
    monitors = {"interval": 1, "peak_tflops": 0.1}
    config = write_run_config(inputs, path, max_steps=8, heldout=None, micro_batch_rows=4, monitors=monitors)
    assert pretrain(config) == 0
    return [json.loads(line) for line in (path.parent / "run" / "metrics.jsonl").read_text().splitlines()]


def make_config(**monitors: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "output_dir": "run",
            "model": {},
            "tokenizer": "tokenizer",
            "data": {"dir": "data"},
            "tokens_per_step": 64,
            "monitors": {"interval": 1, **monitors},
        }
    )


def make_model(**keys: Any) -> Any:
    torch.manual_seed(0)
    config = YuLanMiniConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=60,
        initializer_range=0.3,
        tie_word_embeddings=True,
        **({"q_proj_alpha": 0.7, "k_proj_alpha": 1.3} | keys),
    )
    config._attn_implementation = "sdpa"
    return YuLanMiniForCausalLM(config).train()


def make_optimizer(model: Any, **options: Any) -> torch.optim.Optimizer:
    groups = parameter_groups(model, lr_factor=lambda name: 1.0, settings=OptimizerSettings(weight_decay=0))
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-15, fused=True, **options)
    for group in optimizer.param_groups:
        group["lr"] = 0.02
    return optimizer


def make_batch(rows: int = 2, tokens: int = 24, documents: list[int] | None = None) -> MicroBatch:
    input_ids = torch.randint(3, 60, (rows, tokens), generator=torch.Generator().manual_seed(1))
    arguments = {}
    if documents is not None:
        arguments["position_ids"] = torch.cat([torch.arange(length) for length in documents]).expand(rows, -1)
    return MicroBatch(input_ids, input_ids, torch.zeros(rows, dtype=torch.int64), 0, arguments)


PHASE = SimpleNamespace(
    name="1", context_length=16, subsets=(("a", "code", 100), ("b", "math", 100), ("c", "math", 100))
)


def measure(monitor: Monitor, *batches: MicroBatch) -> dict[str, Any]:
    """A step of one forward and backward pass a batch, as the loop does it; the record with its tensors."""
    monitor.measuring = True
    monitor.before_step(1)
    for batch in batches:
        monitor.before_forward(PHASE, batch)  # type: ignore[arg-type]
        monitor.model(
            input_ids=batch.input_ids, labels=batch.labels, position_ids=batch.position_ids, use_cache=False
        ).loss.backward()
    record: dict[str, Any] = {"step": 1, "phase": "1", "loss": torch.zeros(()), "spike": torch.zeros(())}
    monitor.before_update(record)
    monitor.optimizer.step()
    monitor.after_update(record)
    return record


def test_hidden_state_variance_is_that_of_the_layers_outputs() -> None:
    model = make_model()
    outputs = [model(input_ids=make_batch().input_ids, output_hidden_states=True).hidden_states[1:-1]]
    monitor = HiddenStateVariance(model, make_optimizer(model), WORLD, make_config())
    found = measure(monitor, make_batch())["hidden_state_variance"]
    torch.testing.assert_close(found[:-1], torch.stack([hidden.var() for hidden in outputs[0]]))


def test_recomputed_layers_are_not_counted_twice() -> None:
    plain = make_model()
    expected = measure(HiddenStateVariance(plain, make_optimizer(plain), WORLD, make_config()), make_batch())
    model = make_model(gradient_checkpointing_step=2)
    monitor = HiddenStateVariance(model, make_optimizer(model), WORLD, make_config())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = measure(monitor, make_batch())
    torch.testing.assert_close(found["hidden_state_variance"], expected["hidden_state_variance"])


def test_norm_outputs_include_the_scales_behind_the_norm() -> None:
    model = make_model(input_layernorm_alpha=3.0, gate_up_proj_alpha=0.5)
    monitor = NormOutputVariance(model, make_optimizer(model), WORLD, make_config())
    record = measure(monitor, make_batch())
    # Behind an RMSNorm the mean square is 1, so the variance is just below the scale's square.
    for key, square in (("norm_output_variance", 9.0), ("mlp_norm_output_variance", 0.25)):
        assert record[key].shape == (3,)
        assert ((record[key] > 0.9 * square) & (record[key] <= square * 1.0001)).all()


@pytest.mark.parametrize("documents", [None, [10, 14]])
@pytest.mark.parametrize("qk_layernorm", [False, True])
def test_attention_logits_are_those_of_the_real_attention(
    documents: list[int] | None, qk_layernorm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(qk_layernorm=qk_layernorm)
    batch = make_batch(documents=documents)
    expected: list[float] = []
    attend = nn.functional.scaled_dot_product_attention

    def watch(query: torch.Tensor, key: torch.Tensor, *args: Any, scale: float, **kwargs: Any) -> torch.Tensor:
        repeated = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        logits = (query[0] @ repeated[0].transpose(1, 2)) * scale
        positions = batch.position_ids[0] if batch.position_ids is not None else torch.arange(24)
        document = (positions == 0).cumsum(0)
        visible = (document[:, None] == document[None]).tril()
        expected.append(logits.masked_fill(~visible, -torch.inf).max().item())
        return attend(query, key, *args, scale=scale, **kwargs)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watch)
    monitor = AttentionLogits(model, make_optimizer(model), WORLD, make_config())
    found = measure(monitor, batch)["attention_logit_max"]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert model.config._attn_implementation == "sdpa"


def test_attention_logits_of_rows_longer_than_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 28K phases have rows of seven times `TOKENS`."""
    found = []
    for tokens, looked_at in ((24, 10), (10, 10)):
        monkeypatch.setattr(AttentionLogits, "TOKENS", looked_at)
        model = make_model()
        whole = make_batch(rows=1)
        batch = MicroBatch(whole.input_ids[:, :tokens], whole.labels[:, :tokens], whole.subset_ids, 0, {})
        monitor = AttentionLogits(model, make_optimizer(model), WORLD, make_config())
        found.append(measure(monitor, batch)["attention_logit_max"].tolist())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_documents_given_by_their_lengths_begin_where_they_begin() -> None:
    model = make_model()
    monitor = AttentionLogits(model, make_optimizer(model), WORLD, make_config())
    ends = torch.tensor([0, 10, 24, 31, 48])  # over both rows
    monitor.measuring = True
    batch = make_batch()
    by_lengths = MicroBatch(batch.input_ids, batch.labels, batch.subset_ids, 0, {"cu_seq_lens_q": ends})
    assert torch.equal(monitor._starts(by_lengths), monitor._starts(make_batch(documents=[10, 14])))  # type: ignore[arg-type]


def test_measuring_attention_logits_changes_neither_loss_nor_gradients() -> None:
    gradients = []
    for watched in (False, True):
        model = make_model()
        monitor = AttentionLogits(model, make_optimizer(model), WORLD, make_config())
        monitor.measuring = watched
        monitor.before_step(1)
        monitor.before_forward(SimpleNamespace(), make_batch())  # type: ignore[arg-type]
        model(input_ids=make_batch().input_ids, labels=make_batch().labels).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_update_rms_is_the_distance_that_the_weights_moved() -> None:
    model = make_model()
    monitor = Optimization(model, make_optimizer(model), WORLD, make_config())
    measure(monitor, make_batch())
    monitor.optimizer.zero_grad()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    record = measure(monitor, make_batch(rows=3))
    names = [group["name"] for group in monitor.optimizer.param_groups]
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    for group, found in zip(monitor.optimizer.param_groups, record["update_rms"], strict=True):
        moved = torch.cat([(p.detach() - before[by_id[id(p)]]).flatten() for p in group["params"]])
        assert found.item() == pytest.approx(moved.square().mean().sqrt().item(), rel=1e-3), group["name"]
    gradients = torch.cat([p.grad.flatten() for p in monitor.optimizer.param_groups[0]["params"]])
    assert record["grad_rms"][0].item() == pytest.approx(gradients.square().mean().sqrt().item(), rel=1e-5)
    host = {key: record[key].tolist() for key in ("grad_rms", "update_rms")}
    monitor.on_records([host])
    assert list(host["grad_rms"]) == names


def test_an_update_that_was_left_out_has_no_size() -> None:
    model = make_model()
    monitor = Optimization(model, make_optimizer(model), WORLD, make_config())
    monitor.measuring = True
    model(input_ids=make_batch().input_ids, labels=make_batch().labels).loss.backward()
    monitor.optimizer.step()
    record: dict[str, Any] = {"loss": torch.zeros(()), "spike": torch.ones(())}
    monitor.after_update(record)
    assert record["update_rms"].tolist() == [0.0] * len(monitor.optimizer.param_groups)


def test_weights_and_alphas_are_those_of_the_model() -> None:
    model = make_model()
    for index, layer in enumerate(model.model.layers):
        nn.init.constant_(layer.down_proj_alpha, float(index + 1))
    monitor = Weights(model, make_optimizer(model), WORLD, make_config())
    monitor.measuring = True
    record: dict[str, Any] = {"loss": torch.zeros(())}
    monitor.after_update(record)
    host = {key: value.tolist() for key, value in record.items()}
    monitor.on_records([host])
    assert host["alphas"]["down_proj_alpha"] == [1.0, 2.0, 3.0]
    assert host["alphas"]["q_proj_alpha"] == pytest.approx([0.7] * 3)
    weight = model.model.embed_tokens.weight
    assert host["weight_rms"]["embedding"] == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-5)
    assert host["weight_rms"]["norms"] == pytest.approx(1.0)


def test_loss_by_source_splits_the_step_loss(records: list[dict[str, Any]], inputs: Path) -> None:
    for record in records:
        rows = PackedRows(inputs / "data" / f"phase-{int(record['phase']):02d}")
        per_step = 384 // rows.context_length
        start = (record["step"] - 1) % 6 * per_step
        ids = rows.rows(start, start + per_step).subset_ids
        share = {name: float((ids == index).mean()) for index, name in enumerate(rows.subset_names)}
        whole = sum(share[name] * loss for name, loss in record["loss_by_subset"].items())
        assert whole == pytest.approx(record["loss"], rel=1e-4)
        assert set(record["loss_by_domain"]) == {"other"}
    assert any(len(record["loss_by_subset"]) == 2 for record in records)


def test_loss_by_source_leaves_out_what_is_no_target() -> None:
    model = make_model()
    monitor = LossBySource(model, make_optimizer(model), WORLD, make_config())
    batch = make_batch(rows=3)
    labels = batch.labels.clone()
    labels[0, 5:] = -100
    batch = MicroBatch(batch.input_ids, labels, torch.tensor([0, 2, 2]), 0)
    record = measure(monitor, batch)
    host = {"phase": "1", "loss_by_subset": record["loss_by_subset"].tolist()}
    assert [host["loss_by_subset"][at] for at in (1, 3, 5)] == [4, 0, 46]
    monitor.on_records([host])
    assert set(host["loss_by_subset"]) == {"a", "c"}
    assert set(host["loss_by_domain"]) == {"code", "math"}


def test_a_run_logs_every_monitor(records: list[dict[str, Any]]) -> None:
    expected = {
        "hidden_state_variance",
        "norm_output_variance",
        "mlp_norm_output_variance",
        "attention_logit_max",
        "grad_rms",
        "update_rms",
        "weight_rms",
        "alphas",
        "loss_by_subset",
        "loss_by_domain",
        "tokens_per_second",
        "data_wait_share",
        "mfu",
        "memory_gib",
    }
    for record in records:
        assert expected <= set(record)
        assert set(record["mfu"]) == {"palm", "causal", "yulan"}
        assert 0 < record["mfu"]["causal"] < record["mfu"]["palm"] < record["mfu"]["yulan"]
        assert record["memory_gib"] > 0.01


def test_speed_is_taken_over_all_steps_since_the_last_measurement() -> None:
    model = make_model()
    monitor = Speed(model, make_optimizer(model), WORLD, make_config(interval=2))
    past = [
        {"step": step, "phase": "1", "tokens": 100, "seconds": seconds, "waited": 0.5}
        for step, seconds in ((1, 1.0), (2, 3.0), (3, 1.0), (4, 1.0))
    ]
    monitor.on_records(past)
    assert [record.get("tokens_per_second") for record in past] == [None, 50.0, None, 100.0]
    assert past[1]["data_wait_share"] == 0.25
    assert "mfu" not in past[1], "no peak is known for a CPU"


def test_gauge_takes_the_largest_over_micro_batches() -> None:
    gauge = Gauge(2, WORLD, reduction="max")
    gauge.add(0, torch.tensor(1.0))
    assert gauge.result() is None, "a place that reported nothing is not filled with a guess"
    for value in (5.0, 2.0):
        gauge.add(1, torch.tensor(value))
    assert gauge.result().tolist() == [1.0, 5.0]  # type: ignore[union-attr]


class FakeTracker:
    """Stands in for wandb and the like."""

    name = "fake"
    requires_logging_directory = False
    opened: list["FakeTracker"]

    def __init__(self, run_name: str) -> None:
        self.run_name = run_name
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.opened.append(self)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.configuration = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        pass


def test_trackers_get_every_number_at_its_step(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTracker.opened = []
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "fake", FakeTracker)
    monkeypatch.setattr("train.run.log.filter_trackers", lambda names, folder: names)
    config = write_run_config(
        inputs,
        tmp_path / "config.yaml",
        max_steps=4,
        heldout=None,
        monitors={"interval": 2, "trackers": ["fake"], "project": "mine", "names": ["hidden_state_variance"]},
    )
    assert pretrain(config) == 0
    (tracker,) = FakeTracker.opened
    assert tracker.run_name == "mine"
    assert [step for step, _ in tracker.logged] == [1, 2, 3, 4]
    assert all(math.isfinite(values["loss"]) for _, values in tracker.logged)
    assert "hidden_state_variance/01" in tracker.logged[1][1]
    assert "hidden_state_variance/01" not in tracker.logged[0][1]


def test_tensorboard_files_appear_beside_the_run(inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = write_run_config(
        inputs, tmp_path / "config.yaml", max_steps=2, heldout=None, monitors={"trackers": ["tensorboard"]}
    )
    assert pretrain(config) == 0
    assert list((tmp_path / "run" / "trackers").rglob("events.out.tfevents.*"))


def test_nested_figures_are_flattened_by_path() -> None:
    record = {"step": 3, "phase": "7", "mfu": {"palm": 0.5}, "alphas": {"q": [1.0, 2.0]}, "loss": None}
    assert flattened(record) == {"step": 3, "mfu/palm": 0.5, "alphas/q/00": 1.0, "alphas/q/01": 2.0}


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    model = make_model()
    known = ", ".join(named_subclasses(Monitor))
    with pytest.raises(TrainError, match=f"no monitor 'hidden_variance'. Known: {known}"):
        make_monitors(make_config(names=["hidden_variance"]), model, make_optimizer(model), WORLD)
    with pytest.raises(TrainError, match=r"no tracker 'wandbb'. Known: .*wandb"):
        Trackers(["wandbb"], "yulanmini", Path("unused"), "", active=True)


def test_a_monitor_in_a_module_beside_the_others_is_found_and_on(tmp_path: Path) -> None:
    """What CONTRIBUTING says of adding one: a single file."""
    import train.monitors

    (tmp_path / "planted.py").write_text(
        "from train.monitors.base import Monitor\n\n\nclass Planted(Monitor):\n    name = 'planted'\n"
    )
    train.monitors.__path__.append(str(tmp_path))
    try:
        model = make_model()
        assert "planted" in make_monitors(make_config(), model, make_optimizer(model), WORLD)
    finally:
        train.monitors.__path__.remove(str(tmp_path))
        planted = named_subclasses(Monitor)["planted"]
        planted.__module__ = "elsewhere"
    assert "planted" not in named_subclasses(Monitor)
