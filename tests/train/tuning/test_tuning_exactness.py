"""What tuning promises of gradients and merges: packed = apart, only answers trained, adapters and scales commute."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sft_miniature import dialogue, write_sft_config, write_tokenizer, write_yulanmini
from transformers import AutoModelForCausalLM, pipeline
from transformers.utils import is_flash_attn_2_available
from trl import pack_dataset

from modeling_yulanmini.merge import merge
from train.config_file import load_config
from train.errors import TrainError
from train.sft import Sft, run
from train.tuning.config import SftConfig
from train.tuning.data import packed
from train.tuning.run import new_trainer, read_inputs


def gradients(
    folder: Path, *, dtype: torch.dtype = torch.float64, **changes
) -> tuple[float, dict[str, torch.Tensor], dict]:
    """Loss, every gradient and the inputs of a first batch that holds all dialogues."""
    tuning = Sft(load_config(SftConfig, write_sft_config(folder, **changes)))
    trainer, _ = new_trainer(tuning, read_inputs(tuning))
    trainer.model.to(dtype)
    batch = next(iter(trainer.get_train_dataloader()))
    count = (batch["labels"][:, 1:] != -100).sum()
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
    loss.backward()
    return loss.item(), {name: one.grad for name, one in trainer.model.named_parameters()}, batch


def packed_rows(folder: Path) -> int:
    with pytest.raises(TrainError, match=r"^\d+ rows x") as too_few:
        gradients(folder, packing="bfd", max_length=200, batch_size=64, micro_batch_size=64, epochs=1)
    return int(str(too_few.value).split()[0])


def packed_and_apart(folder: Path, attention: str, *, z_loss: float = 0.0, dtype: torch.dtype) -> tuple:
    """What `gradients` gives for the same dialogues packed into one row, and padded in rows of their own."""
    write_yulanmini(folder / "model")
    common = {"max_length": 200, "epochs": 1, "z_loss": z_loss, "dtype": dtype}
    apart = gradients(
        folder, **common, attention="sdpa", batch_size=64, micro_batch_size=64, output_dir=str(folder / "a")
    )
    rows = packed_rows(folder)
    assert rows < 32
    sizes = {"packing": "bfd", "batch_size": rows, "micro_batch_size": rows}
    together = gradients(folder, **common, **sizes, attention=attention, output_dir=str(folder / "p"))
    assert together[2]["input_ids"].shape[0] == 1
    return together, apart


@pytest.mark.parametrize("attention", ["auto", "sdpa"])
@pytest.mark.parametrize("z_loss", [0.0, 0.02])
def test_packed_dialogues_have_the_loss_and_every_gradient_of_separate_ones(tmp_path, attention, z_loss):
    together, apart = packed_and_apart(tmp_path, attention, z_loss=z_loss, dtype=torch.float64)
    assert together[0] == pytest.approx(apart[0], rel=1e-6)
    torch.testing.assert_close(together[1], apart[1], rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not is_flash_attn_2_available(), reason="needs a GPU and flash-attn")
def test_flash_attention_keeps_packed_dialogues_apart_within_its_precision(tmp_path):
    """It computes in bfloat16 alone, whose 8 bits leave each gradient a few parts in a hundred."""
    together, apart = packed_and_apart(tmp_path, "flash_attention_2", dtype=torch.bfloat16)
    assert together[0] == pytest.approx(apart[0], rel=1e-2)
    for name, gradient in apart[1].items():
        assert (together[1][name] - gradient).norm() <= 0.05 * gradient.norm() + 1e-4, name


def test_the_comparison_sees_dialogues_that_look_at_each_other(tmp_path, monkeypatch):
    """Without what tells them apart the gradients differ: the test above can fail."""
    common = {"max_length": 200, "epochs": 1, "packing": "bfd"}
    rows = packed_rows(tmp_path)
    common |= {"batch_size": rows, "micro_batch_size": rows}
    _, right, _ = gradients(tmp_path, **common, output_dir=str(tmp_path / "right"))
    forward = AutoModelForCausalLM.from_pretrained(tmp_path / "model").model.__class__.forward

    def as_one(self, *args, cu_seq_lens_q=None, max_length_q=None, **kwargs):
        kwargs["position_ids"] = torch.arange(kwargs["input_ids"].shape[1])[None]
        return forward(self, *args, **kwargs)

    monkeypatch.setattr("transformers.models.llama.modeling_llama.LlamaModel.forward", as_one)
    _, wrong, _ = gradients(tmp_path, **common, output_dir=str(tmp_path / "wrong"))
    assert any(not torch.allclose(right[name], wrong[name], rtol=1e-3) for name in right)


@pytest.mark.parametrize("packing", ["none", "bfd"])
def test_only_the_assistants_tokens_carry_loss(tmp_path, packing):
    """Another answer changes the loss of its own tokens; another question, seen by none of them, changes nothing."""
    write_tokenizer(tmp_path / "tokenizer")
    rows = packed_rows(tmp_path) if packing == "bfd" else 64
    _, _, batch = gradients(
        tmp_path,
        packing=packing,
        max_length=200,
        batch_size=rows,
        micro_batch_size=rows,
        epochs=1,
        output_dir=str(tmp_path / "o"),
    )
    trained = batch["input_ids"][batch["labels"] != -100]
    answers = sorted(f"{dialogue(number)['messages'][1]['content']}<|eot_id|>" for number in range(64))
    from transformers import AutoTokenizer

    text = AutoTokenizer.from_pretrained(tmp_path / "tokenizer").decode(trained)
    assert sorted(f"{part}<|eot_id|>" for part in text.split("<|eot_id|>")[:-1]) == answers


def test_packing_fills_its_rows():
    """Lengths as dialogues have them: log-normal, a median of 300 tokens, at the published 28,672."""
    lengths = np.random.default_rng(0).lognormal(np.log(300), 1.0, size=20_000).astype(int).clip(2, 28_672)
    rows = Dataset.from_dict({"input_ids": [np.zeros(length, np.int32) for length in lengths]})
    assert lengths.sum() / (28_672 * len(packed(rows, 28_672))) >= 0.99
    assert lengths.sum() / (28_672 * len(pack_dataset(rows, 28_672, "bfd"))) < 0.98  # as TRL calls it


def test_merging_the_adapter_then_the_scales_is_merging_the_scales_then_the_adapter(tmp_path):
    write_yulanmini(tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    out = run(
        load_config(
            SftConfig,
            write_sft_config(
                tmp_path, tokenizer=None, lora={"rank": 4, "alpha": 8}, max_steps=4, optimizer={"lr": 0.01}
            ),
        )
    )
    from peft import PeftModel

    merge(out, tmp_path / "adapter-first")
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float64), out / "adapter"
    )
    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        expected = adapted.double()(ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter-first", dtype=torch.float64)(ids).logits
        # The other way round: scales into the weights, and each adapter's product scaled as its weight was.
        merge(tmp_path / "model", tmp_path / "scales-first")
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "scales-first", dtype=torch.float64)
        before = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float64)
        factors = {
            name: base.get_parameter(name) / before.get_parameter(name)
            for name, _ in before.named_parameters()
            if name.endswith("proj.weight")
        }
        tuned = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float64)
        for name, factor in factors.items():
            base.get_parameter(name).add_((tuned.get_parameter(name) - before.get_parameter(name)) * factor)
        other = base(ids).logits
    assert (found - expected).abs().max() < 1e-4
    assert (found - other).abs().max() < 1e-4
    assert (found - before(ids).logits).abs().max() > 1e-2


def test_scales_are_trained_or_frozen_as_the_config_says(tmp_path):
    write_yulanmini(tmp_path / "model")
    was = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    for train_scales in (True, False):
        out = tmp_path / str(train_scales)
        path = write_sft_config(tmp_path, max_steps=2, train_scales=train_scales, output_dir=str(out))
        run(load_config(SftConfig, path))
        now = AutoModelForCausalLM.from_pretrained(out).state_dict()
        moved = {name for name in was if not torch.equal(was[name], now[name])}
        assert any(name.endswith("proj.weight") for name in moved)
        assert any(name.endswith("_alpha") for name in moved) == train_scales


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_scales": False}, "has no scales"),
        (
            {"lora": {"rank": 2, "alpha": 4, "target_modules": ["q_proj", "qproj"]}},
            "no linear layer 'qproj'. Did you mean 'q_proj'",
        ),
        ({"lora": {"rank": 2, "alpha": 4, "target_modules": ["lm_head"]}}, "leave it out"),
        ({"trainer": {"loss_type": "dtf"}}, "TRL refuses these settings: .*dtf"),
        ({"trainer": {"use_liger_kernel": True}}, "liger"),
        ({"trainer": {"optim": "paged_adamw_9bit"}}, "paged_adamw_9bit"),
    ],
)
def test_what_a_model_or_trl_has_not_is_one_message(tmp_path, changes, message):
    with pytest.raises(TrainError, match=message):
        run(load_config(SftConfig, write_sft_config(tmp_path, **changes)))


def test_other_losses_of_trl_are_used_on_a_cpu_too(tmp_path):
    first = {}
    for name, trainer in {"nll": {}, "dft": {"loss_type": "dft"}, "smooth": {"label_smoothing_factor": 0.3}}.items():
        path = write_sft_config(tmp_path, max_steps=1, trainer=trainer, output_dir=str(tmp_path / name))
        out = run(load_config(SftConfig, path))
        first[name] = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert first["dft"] < 0.5 * first["nll"]
    assert abs(first["smooth"] - first["nll"]) > 1e-4


def test_held_out_dialogues_are_measured_exactly_whatever_the_batches(tmp_path):
    measured = []
    for size in (1, 7):
        evaluation = {"share": 0.2, "every_steps": 2, "micro_batch_size": size}
        path = write_sft_config(tmp_path, max_steps=3, evaluation=evaluation, output_dir=str(tmp_path / str(size)))
        out = run(load_config(SftConfig, path))
        measured.append([json.loads(line) for line in (out / "evaluation.jsonl").read_text().splitlines()])
    assert [line["step"] for line in measured[0]] == [0, 2, 3]
    for one, other in zip(*measured, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert one["tokens"] == other["tokens"] > 13
    assert measured[0][-1]["loss"] < measured[0][0]["loss"]
    assert pipeline("text-generation", str(out))([{"role": "user", "content": "1+1=?"}], max_new_tokens=2)


def test_trackers_get_every_step_and_end_up_in_the_folder(tmp_path):
    pytest.importorskip("tensorboard")
    path = write_sft_config(tmp_path, max_steps=2, monitors={"trackers": ["tensorboard"]})
    out = run(load_config(SftConfig, path))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = {file.parent for file in (out / "trackers").rglob("events.out.tfevents*")}
    log = EventAccumulator(str(events))
    log.Reload()
    assert [event.step for event in log.Scalars("loss")] == [1, 2]


@pytest.mark.parametrize("merged", [True, False], ids=["llama", "yulanmini"])
def test_adapters_on_weights_in_four_bits_are_merged_into_the_whole_ones(tmp_path, merged):
    pytest.importorskip("bitsandbytes")
    if not merged:
        write_yulanmini(tmp_path / "model")
    lora = {"rank": 4, "alpha": 8}
    path = write_sft_config(tmp_path, lora=lora, quantization={"double": False}, max_steps=3, dtype="bfloat16")
    out = run(load_config(SftConfig, path))
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    was = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16).state_dict()
    now = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(torch.equal(was[name].float(), now[name]) for name in was if not name.endswith("proj.weight"))
    moved = max((now[name] - was[name].float()).abs().max() for name in was if name.endswith("proj.weight"))
    assert 0 < moved < 0.1  # by the adapters alone: rounding to 4 bits would move weights of +-0.3 further
