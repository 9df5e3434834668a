"""What a step computes: documents kept apart, recomputation, re-balancing, held-out text, time limits, bad data."""

import math
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretrain_miniature import (
    SHAPE,
    TOTAL_STEPS,
    launch_ranks,
    metrics,
    pretrain,
    same_weights,
    weights,
    write_inputs,
    write_run_config,
)
from transformers import AutoTokenizer

from data_recipes.rows.reader import PackedRows
from eval.model_loading import load_model
from eval.tasks.heldout import Heldout
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import PretrainConfig, RecomputationSettings
from train.config_file import load_config
from train.curriculum.batches import StepReader, check_divisible
from train.curriculum.plan import make_curriculum
from train.errors import TrainError
from train.launch.world import World, enter_world
from train.model_setup.memory import Hardware
from train.model_setup.parameter_groups import matrix_kind
from train.model_setup.phase_edges import set_rope_theta
from train.model_setup.recomputation import recomputed_layers, set_layer_execution
from train.monitors.base import Monitor
from train.pretrain import update
from train.run.phases import known_phases
from train.run.run import Run
from train.scoring.heldout import Protocol, heldout_scores, load_heldout

ONE = World(torch.device("cpu"), 0, 1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_run_config(inputs, tmp_path_factory.mktemp("finished") / "config.yaml")
    assert pretrain(config) == 0
    return config.parent / "run"


def small_model(**changes: object) -> YuLanMiniForCausalLM:
    torch.manual_seed(0)
    shape = {"vocab_size": 263, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    return YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=32, **(shape | heads | changes)))


def masked_rows(inputs: Path, tmp_path: Path, *, by_lengths: bool = False) -> tuple[StepReader, object]:
    config = load_config(PretrainConfig, write_run_config(inputs, tmp_path / "config.yaml"))
    curriculum = make_curriculum(config, known_phases(config))
    return StepReader(curriculum, ONE, vocab_size=263, by_lengths=by_lengths), curriculum.at(12)


@pytest.mark.parametrize("attention", ["sdpa", "varlen"])
def test_packed_rows_with_a_document_mask_equal_separate_documents(
    inputs: Path, tmp_path: Path, attention: str
) -> None:
    reader, plan = masked_rows(inputs, tmp_path, by_lengths=attention == "varlen")
    rows = reader.read(plan)
    (batch,) = rows.micro_batches
    lengths = plan.phase.packed.rows(plan.row_start, plan.row_stop).doc_lengths
    assert max(map(len, lengths)) > 1
    model = small_model()
    model.set_attn_implementation(attention)
    packed = model(
        input_ids=batch.input_ids, labels=batch.labels, num_items_in_batch=rows.targets, **batch.document_arguments
    )
    packed.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    total, targets = torch.zeros(()), 0
    for row, row_lengths in enumerate(lengths):
        for document in torch.split(batch.input_ids[row], row_lengths.tolist()):
            if len(document) > 1:
                loss = model(input_ids=document[None], labels=document[None], num_items_in_batch=rows.targets).loss
                loss.backward()
                total, targets = total + loss.detach(), targets + len(document) - 1
    assert targets == rows.targets
    assert packed.loss.item() == pytest.approx(total.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


def test_all_batches_of_a_phase_have_document_arguments_of_one_size(inputs: Path, tmp_path: Path) -> None:
    reader, plan = masked_rows(inputs, tmp_path, by_lengths=True)
    packed = plan.phase.packed
    seen, longest = set(), 0
    for start in range(0, len(packed) - 4, 4):
        arguments = reader.read_rows(plan.phase, start, start + 4).document_arguments
        lengths = np.concatenate(packed.rows(start, start + 4).doc_lengths)
        ends = arguments["cu_seq_lens_q"]
        assert ends.dtype == torch.int32
        assert torch.diff(ends).tolist() == [*lengths.tolist(), *[0] * (len(ends) - 1 - len(lengths))]
        seen.add((len(ends), arguments["max_length_q"], arguments["max_length_k"]))
        longest = max(longest, int(lengths.max()))
    assert seen == {(65, longest, longest)}


def test_a_batch_of_more_documents_than_the_phase_has_doubles_their_number(inputs: Path, tmp_path: Path) -> None:
    reader, plan = masked_rows(inputs, tmp_path, by_lengths=True)
    reader._documents["26"] = (2, 96)
    ends = reader.read_rows(plan.phase, 0, 4).document_arguments["cu_seq_lens_q"]
    count = sum(map(len, plan.phase.packed.rows(0, 4).doc_lengths))
    assert count <= len(ends) - 1 < 2 * count
    assert (len(ends) - 1) & (len(ends) - 2) == 0  # a power of two, as 2 is
    assert ends[-1] == 4 * 96


def test_ranks_share_a_step_without_gap_or_overlap(inputs: Path, tmp_path: Path) -> None:
    config = load_config(PretrainConfig, write_run_config(inputs, tmp_path / "config.yaml"))
    curriculum = make_curriculum(config, known_phases(config))
    plan = curriculum.at(3)
    parts = []
    for rank in range(4):
        reader = StepReader(curriculum, World(torch.device("cpu"), rank, 4), vocab_size=263, by_lengths=False)
        parts += [batch.input_ids for batch in reader.read(plan).micro_batches]
        reader.close()
    expected = PackedRows(inputs / "data" / "phase-01").rows(36, 48).input_ids
    assert torch.cat(parts).tolist() == expected.tolist()


def test_ranks_that_do_not_divide_the_rows_are_refused_with_those_that_do(inputs: Path, tmp_path: Path) -> None:
    config = load_config(PretrainConfig, write_run_config(inputs, tmp_path / "config.yaml"))
    with pytest.raises(TrainError, match=r"phase 1: 12 rows a step .* 5 ranks. Ranks that fit: 1, 2, 3, 4, 6, 12"):
        check_divisible(make_curriculum(config, known_phases(config)), 5)
    changed = load_config(PretrainConfig, tmp_path / "config.yaml", ["micro_batch_rows=5"])
    with pytest.raises(TrainError, match="micro_batch_rows 5 does not divide the 12 rows"):
        check_divisible(make_curriculum(changed, known_phases(changed)), 1)


def test_the_published_rule_keeps_every_kth_layer() -> None:
    kept = [
        index
        for index, again in enumerate(recomputed_layers(RecomputationSettings(mode="every", k=7), 56))
        if not again
    ]
    assert kept == [0, 7, 14, 21, 28, 35, 42, 49]
    assert recomputed_layers(RecomputationSettings(mode="every", k=56), 56).count(False) == 1


@pytest.mark.parametrize("mode", ["every", "full", "selective"])
def test_recomputation_changes_no_bit_of_the_gradients(mode: str) -> None:
    model = small_model()
    ids = torch.randint(0, 263, (3, 24), generator=torch.Generator().manual_seed(1))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients()
    calls = []
    model.model.layers[1].mlp.register_forward_hook(lambda *_: calls.append(1))
    set_layer_execution(model, RecomputationSettings(mode=mode, k=4), compile=False)
    assert all(torch.equal(a, b) for a, b in zip(gradients(), expected, strict=True))
    assert len(calls) == 2  # forward, and again in the backward pass


def test_the_rope_base_of_a_live_model_is_that_of_a_new_one() -> None:
    model, new = small_model(), small_model(rope_theta=490_000.0)
    ids = torch.arange(40)[None]
    assert not torch.equal(model(input_ids=ids).logits, new(input_ids=ids).logits)
    set_rope_theta(model, 490_000)
    assert torch.equal(model(input_ids=ids).logits, new(input_ids=ids).logits)
    assert model.config.rope_parameters["rope_theta"] == 490_000


def test_a_run_goes_on_after_re_balancing_as_one_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty steps beyond it beside a control, at the published rate, decay, clipping and initial size of matrices."""
    inputs = write_inputs(tmp_path / "inputs", steps_per_phase=50)
    for name in ("moved", "plain"):
        config = write_run_config(
            inputs,
            tmp_path / f"{name}.yaml",
            output_dir=str(tmp_path / name),
            model=SHAPE | {"initializer_range": 5e-5},
            data={"dir": str(inputs / "data"), "phases": [1, 2]},
            optimizer={"lr": 1e-2, "weight_decay": 0.1, "clip": 1.0},
            schedule={"warmup_steps": 4},
            stages=[{"phases": 1, "rebalance": name == "moved"}, {"phases": 2}],
            heldout=None,
            checkpoint={},
        )
        assert pretrain(config) == 0
    output = capsys.readouterr().err
    assert re.search(r"phase 1: \d+ tensors re-balanced to an RMS of .* times what it was", output)

    matrices = {name: rms for name, rms in root_mean_squares(tmp_path / "moved").items() if "_proj.weight" in name}
    assert max(matrices.values()) == pytest.approx(min(matrices.values()), rel=1e-5)
    before = {name: rms for name, rms in root_mean_squares(tmp_path / "plain").items() if "_proj.weight" in name}
    assert min(before.values()) < min(matrices.values()) < max(before.values())

    losses, norms = (
        {name: [line[key] for line in metrics(tmp_path / name)] for name in ("moved", "plain")}
        for key in ("loss", "grad_norm")
    )
    assert len(losses["moved"]) == 100
    assert losses["moved"][:50] == losses["plain"][:50]
    assert losses["moved"][50] == pytest.approx(losses["plain"][50], abs=1e-5)
    assert losses["moved"][51:] != losses["plain"][51:]
    for step in range(50, 100):
        assert losses["moved"][step] == pytest.approx(losses["plain"][step], abs=0.02), f"step {step + 1}"
    assert max(norms["moved"][50:]) < 1.5 * max(norms["plain"][50:])


def root_mean_squares(run: Path) -> dict[str, float]:
    """Of each tensor of the model after phase 1."""
    return {name: tensor.square().mean().sqrt().item() for name, tensor in weights(run, "phase-01").items()}


def test_re_balancing_a_model_without_scales_is_refused(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_run_config(
        inputs,
        tmp_path / "run.yaml",
        parametrization={"name": "standard"},
        stages=[{"phases": "1-26", "rebalance": True}],
    )
    assert pretrain(config) == 2
    assert "rebalance is true, but this model has no learnable scales" in capsys.readouterr().err


def test_held_out_text_counts_every_token_and_byte_once(inputs: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs / "tokenizer")
    folder = tmp_path / "heldout"
    folder.mkdir()
    (folder / "code.jsonl").write_text('{"text": "' + "abc" * 40 + '"}\n{"text": "x"}\n{"text": ""}\n')
    domains = load_heldout(folder, tokenizer, bytes_per_domain=10_000)
    assert [(domain.name, domain.bytes) for domain in domains] == [("code", 121)]
    # A model that knows nothing but that all tokens are as likely: its loss is the same for any window.
    model = small_model().eval()
    model.model.embed_tokens.weight.data.zero_()
    (record,) = heldout_scores(model, domains, Protocol(16, 8, (1,)), ONE, tokens_per_batch=64)
    assert record["tokens"] == 121
    assert record["loss"] == pytest.approx(math.log(263), rel=1e-5)
    assert record["bits_per_byte"] == pytest.approx(math.log2(263), rel=1e-5)


def test_windows_of_held_out_text_see_what_precedes_them(inputs: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs / "tokenizer")
    (tmp_path / "math.jsonl").write_text('{"text": "one two three"}\n')
    (domain,) = load_heldout(tmp_path, tokenizer, bytes_per_domain=1_000)
    model = small_model()
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer("one two three", add_special_tokens=False)["input_ids"]]])
    protocol = Protocol(64, 32, (tokenizer.eos_token_id,))
    (record,) = heldout_scores(model, [domain], protocol, ONE, tokens_per_batch=64)
    output = model(input_ids=ids, labels=ids)
    assert record["loss"] == pytest.approx((output.loss - output.z_loss).item(), rel=1e-5)
    assert model.training


def test_the_manifest_of_each_phase_is_read_once(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_text = Counter[str](), Path.read_text

    def counting(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name == "manifest.json":
            read[path.parent.name] += 1
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", counting)
    monitors = {"interval": 1, "peak_tflops": 0.1}
    config = write_run_config(inputs, tmp_path / "config.yaml", max_steps=8, heldout=None, monitors=monitors)
    assert pretrain(config) == 0
    assert {name: count for name, count in read.items() if name.startswith("phase-")} == {
        "phase-01": 1,
        "phase-02": 1,
        "phase-26": 1,
    }


def test_a_run_and_an_evaluation_of_its_model_measure_the_same(inputs: Path, finished: Path) -> None:
    task = Heldout(context=32, bytes_per_domain=800)
    result = task.score(load_model(finished / "models" / "phase-26", device="cpu"), task.read(inputs))
    scores = {row["group"]: row for row in result.rows}
    logged = {line["domain"]: line for line in metrics(finished, "heldout.jsonl") if line["step"] == TOTAL_STEPS}
    assert set(logged) == set(scores) == {"code", "math"}
    for domain, score in scores.items():
        assert logged[domain]["protocol"] == score["protocol"] == "overlapping windows of 32 tokens, stride 16"
        assert logged[domain]["bits_per_byte"] == pytest.approx(score["value"], rel=1e-6)
        assert (logged[domain]["tokens"], logged[domain]["bytes"]) == (score["tokens"], score["bytes"])


@pytest.mark.parametrize("decay_on", ["everything", "matrices"])
def test_updates_equal_those_of_a_plain_adamw(inputs: Path, tmp_path: Path, decay_on: str) -> None:
    changes = {"heldout": None, "optimizer": {"lr": 3e-3, "weight_decay_on": decay_on}}
    config = load_config(PretrainConfig, write_run_config(inputs, tmp_path / "config.yaml", **changes))
    run = Run(config, enter_world(config))
    start = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
    plain = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    groups = [
        {"params": [value], "lr": 1.0, "weight_decay": 0.1 if decay_on == "everything" or matrix_kind(name) else 0.0}
        for name, value in plain.items()
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-15)
    for step in range(3):
        plan = run.curriculum.at(step)
        run.enter_phase(plan)
        gradients: dict[str, torch.Tensor] = {}
        run.monitors = {"gradients": Gradients(run.model, run.optimizer, run.world, config, gradients)}
        update(run, plan)
        for group, name in zip(adamw.param_groups, plain, strict=True):
            plain[name].grad = gradients[name]
            group["lr"] = plan.lr  # base width and hidden size are equal here: one rate for all
        adamw.step()
        for name, parameter in run.model.named_parameters():
            torch.testing.assert_close(parameter.detach(), plain[name].detach(), rtol=1e-5, atol=1e-7)
        run.step += 1
    assert {float(state["step"]) for state in run.optimizer.state.values()} == {3.0}
    run.close()
    run.world.close()


class Gradients(Monitor):
    """Copies the clipped gradients of a step."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments[:-1])
        self.into = arguments[-1]

    def before_update(self, record: dict[str, Any]) -> None:
        self.into |= {name: parameter.grad.clone() for name, parameter in self.model.named_parameters()}


def test_max_hours_saves_and_ends_well_before_the_end(inputs: Path, finished: Path, tmp_path: Path) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml")
    assert pretrain(config, "--max-hours", "0") == 0
    assert len(metrics(tmp_path / "run")) == 1
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert pretrain(config) == 0
    assert same_weights(tmp_path / "run", finished)


def test_running_out_of_memory_says_which_micro_batches_would_fit(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr("train.pretrain.update", full)
    config = write_run_config(inputs, tmp_path / "config.yaml")
    assert pretrain(config) == 2
    message = capsys.readouterr().err
    # Fewer than the 12 and 4 rows that did not fit, in parts of one size.
    assert "these micro_batch_rows fit 1 x CPU: 6 at context 32, 2 at context 96" in message
    monkeypatch.setattr("train.model_setup.memory.this_host", lambda: Hardware("CPU", 1, 1e6, 0.0))
    assert pretrain(config) == 2
    assert "not even one row at a time fits" in capsys.readouterr().err


def config_of_copied_data(inputs: Path, folder: Path) -> tuple[Path, Path]:
    """A config that trains on a copy of the data, which a test may spoil, and where the copy is."""
    data = folder / "data"
    shutil.copytree(inputs / "data", data)
    config = write_run_config(inputs, folder / "config.yaml", data={"dir": str(data), "phases": [1, 2, 26]})
    return config, data


def test_a_token_outside_the_vocabulary_names_the_row(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data = config_of_copied_data(inputs, tmp_path)
    path = data / "phase-01" / "rows-00000.arrow"
    ids = PackedRows(inputs / "data" / "phase-01").rows(30, 31).input_ids[0]
    path.write_bytes(path.read_bytes().replace(ids.tobytes(), np.full_like(ids, 900).tobytes()))
    assert pretrain(config) == 2
    assert "row 30 holds token 900" in capsys.readouterr().err


def test_a_truncated_phase_is_refused_before_training(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data = config_of_copied_data(inputs, tmp_path)
    path = data / "phase-26" / "rows-00000.arrow"
    path.write_bytes(path.read_bytes()[:-50])
    assert pretrain(config) == 2
    assert "phase 26" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_tokenizer_than_the_data_s_is_refused(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer

    shutil.copytree(inputs / "tokenizer", tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    tokenizer.add_tokens(["another"])
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    config = write_run_config(inputs, tmp_path / "config.yaml", tokenizer=str(tmp_path / "tokenizer"))
    assert pretrain(config) == 2
    assert "was built with a tokenizer of" in capsys.readouterr().err


def test_a_mistake_on_several_ranks_is_said_once_before_they_start(inputs: Path, tmp_path: Path) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml")
    done = launch_ranks(config, 5)
    assert done.stderr.count("12 rows a step cannot be shared by 5 ranks") == 1
    assert done.returncode != 0
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_tasks_at_phase_ends_leave_scores_and_a_failure_does_not_end_the_run(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"{{python}} -m yulanmini.cli eval run {{model}} --data '{inputs}' --device cpu --out {{scores}} --suite "
    config = write_run_config(
        inputs, tmp_path / "config.yaml", heldout=None, evaluation={"command": f"{command} heldout"}
    )
    assert pretrain(config, "--set", "data.phases=[1]", "schedule.annealing=null") == 0
    assert (tmp_path / "run" / "scores" / "phase-01" / "scores.json").is_file()
    for folder, wrong in (("b", f"{command} none"), ("c", "no-such-program {model} {scores}")):
        changes = ("data.phases=[1]", "schedule.annealing=null", f'evaluation.command="{wrong}"')
        assert pretrain(config, "--set", *changes, f"output_dir={tmp_path / folder}") == 0
        assert "warning: " in capsys.readouterr().err
        assert (tmp_path / folder / "manifest.json").is_file()


def test_a_command_that_names_no_model_is_refused(inputs: Path, tmp_path: Path) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml", evaluation={"command": "score-it {scores}"})
    with pytest.raises(TrainError, match=r"evaluation.command: .* does not name both \{model\} and \{scores\}"):
        load_config(PretrainConfig, config)
