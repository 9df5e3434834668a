"""Checkpoints from elsewhere and re-balanced ones: the next step is the one that would have followed."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from published_layout import write_universal
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.modeling_yulanmini import saved_name
from train.checkpoints.export import export_checkpoint
from train.checkpoints.import_deepspeed import import_optimizer
from train.checkpoints.rebalance import is_checkpoint, rebalance_checkpoint
from train.checkpoints.sharded import load_state, read_trainer, write_trainer
from train.checkpoints.tensors import CheckpointEntries
from train.config import OptimizerSettings
from train.errors import TrainError
from train.model_setup.parameter_groups import parameter_groups

IDS = torch.randint(90, (4, 24), generator=torch.Generator().manual_seed(0))


def small_config(**overrides) -> YuLanMiniConfig:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "vocab_size": 90, "initializer_range": 0.02}
    return YuLanMiniConfig.reparametrized(base_width=8, **shape | overrides)


def build(config: YuLanMiniConfig, *, seed: int, lr_factor: float = 0.25, **optimizer):
    torch.manual_seed(seed)
    settings = OptimizerSettings(**optimizer)
    model = YuLanMiniForCausalLM(config)
    groups = parameter_groups(
        model, lr_factor=lambda name: lr_factor if "proj.weight" in name else 1.0, settings=settings
    )
    return model, torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-15, fused=True)


def step(model, optimizer, ids: torch.Tensor = IDS) -> float:
    loss = model(ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["lr_factor"]
    optimizer.step()
    return loss.item()


@pytest.fixture
def trained():
    """A model and its optimizer after three steps; the steps that follow are what a copy has to repeat."""
    model, optimizer = build(small_config(), seed=0)
    for _ in range(3):
        step(model, optimizer)
    return model, optimizer


@pytest.mark.parametrize("wrapped", [True, False])
def test_training_goes_on_bit_for_bit_after_an_import(tmp_path, trained, wrapped):
    universal = write_universal(tmp_path, *trained, wrapped=wrapped)
    result = import_optimizer(universal, tmp_path / "imported", config=small_config(), tokenizer=tmp_path)
    assert result["step"] == 243198
    assert result["tensors"] == len(list((universal / "zero").iterdir()))
    expected = [step(*trained) for _ in range(3)]
    model, optimizer = build(small_config(), seed=1)
    load_state(tmp_path / "imported", model, optimizer)
    assert [step(model, optimizer) for _ in range(3)] == expected
    for ours, theirs in zip(model.parameters(), trained[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert read_trainer(tmp_path / "imported")["step"] == 243198


def test_training_goes_on_from_what_deepspeed_itself_wrote(tmp_path):
    """Made by tests/data/make_deepspeed_universal.py; the losses are those of the same run going on in DeepSpeed."""
    with tarfile.open(Path(__file__).parents[2] / "data" / "deepspeed_universal.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected = json.loads((tmp_path / "expected.json").read_text())
    config = YuLanMiniConfig.reparametrized(base_width=expected["base_width"], **expected["shape"])
    result = import_optimizer(
        tmp_path / "global_step3_universal", tmp_path / "imported", config=config, tokenizer=tmp_path
    )
    assert result["step"] == 3
    model, optimizer = build(config, seed=5, lr_factor=0.5, weight_decay_on="matrices")  # as the file was made
    load_state(tmp_path / "imported", model, optimizer)
    ids = torch.tensor(expected["input_ids"])
    assert [step(model, optimizer, ids) for _ in range(3)] == pytest.approx(expected["losses"], abs=1e-6)


def test_imported_groups_are_the_published_ones(tmp_path, trained):
    import_optimizer(
        write_universal(tmp_path, *trained), tmp_path / "imported", config=small_config(), tokenizer=tmp_path
    )
    entries = CheckpointEntries(tmp_path / "imported")
    groups = {entries.read(f"optimizer.param_groups.{index}.name"): index for index in range(5)}
    matrices = f"optimizer.param_groups.{groups['matrices']}"
    assert entries.read(f"{matrices}.lr_factor") == 8 / 32
    assert entries.read(f"{matrices}.weight_decay") == 0.1
    assert entries.read(f"{matrices}.betas") == (0.9, 0.95)
    assert entries.read(f"{matrices}.eps") == 1e-15
    assert entries.read(f"optimizer.param_groups.{groups['scales']}.weight_decay") == 0.1


def test_a_checkpoint_gives_moments_and_the_config_rates_and_decay(tmp_path, trained):
    imported = tmp_path / "imported"
    import_optimizer(write_universal(tmp_path, *trained), imported, config=small_config(), tokenizer=tmp_path)
    model, optimizer = build(small_config(), seed=1, lr_factor=0.5, weight_decay=0.05, weight_decay_on="matrices")
    load_state(imported, model, optimizer)
    found = {group["name"]: (group["lr_factor"], group["weight_decay"]) for group in optimizer.param_groups}
    assert found["matrices"] == (0.5, 0.05)
    assert found["scales"] == (1.0, 0.0)
    for ours, theirs in zip(model.parameters(), trained[0].parameters(), strict=True):
        assert torch.equal(optimizer.state[ours]["exp_avg_sq"], trained[1].state[theirs]["exp_avg_sq"])


def test_missing_surplus_and_misshapen_parameters_are_named(tmp_path, trained):
    universal = write_universal(tmp_path, *trained)
    zero, attention = universal / "zero", "model.layers.1.self_attn"
    out = tmp_path / "imported"

    def refused(message: str) -> None:
        with pytest.raises(TrainError, match=message):
            import_optimizer(universal, out, config=small_config(), tokenizer=tmp_path)
        assert not out.exists()

    (zero / f"{attention}.q_proj.weight").rename(tmp_path / "aside")
    refused(r"q_proj\.weight: missing")
    (tmp_path / "aside").rename(zero / f"{attention}.q_proj.weight")
    (zero / "model.extra.weight").mkdir()
    refused(r"model\.extra\.weight: no parameter")
    (zero / "model.extra.weight").rmdir()
    file = zero / f"{attention}.k_proj.weight" / "exp_avg.pt"
    good = file.read_bytes()
    torch.save({"param": torch.zeros(16, 31)}, file)
    refused(r"exp_avg\.pt: shape \[16, 31\].*\[16, 32\]")
    file.write_bytes(good[:200])
    refused(r"exp_avg\.pt: damaged")
    torch.save({"param": torch.full((16, 32), float("nan"))}, file)
    refused(r"exp_avg\.pt: holds NaN")


class Payload:
    """What a hostile file would hold: unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_but_tensors_is_unpickled(tmp_path, trained):
    universal = write_universal(tmp_path, *trained)
    file = universal / "zero" / "model.norm.weight" / "fp32.pt"
    torch.save({"param": Payload(tmp_path / "ran")}, file)
    with pytest.raises(TrainError, match=r"norm\.weight.fp32\.pt: damaged, or not safe"):
        import_optimizer(universal, tmp_path / "imported", config=small_config(), tokenizer=tmp_path)
    assert not (tmp_path / "ran").exists()
    # The model states of a real run hold objects of all kinds: then the folder's name tells the step.
    torch.save({"param": trained[0].model.norm.weight.detach()}, file)
    torch.save({"global_steps": Payload(tmp_path / "ran")}, universal / "mp_rank_00_model_states.pt")
    result = import_optimizer(universal, tmp_path / "imported", config=small_config(), tokenizer=tmp_path)
    assert result["step"] == 243198
    assert not (tmp_path / "ran").exists()


def save_checkpoint(folder: Path, model, optimizer) -> Path:
    """A checkpoint as train/checkpoints/sharded.py leaves it."""
    folder.mkdir()
    state = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    write_trainer(folder, {"step": 3, "model_config": model.config.to_dict()})
    return folder


def test_a_rebalanced_checkpoint_has_the_function_and_the_next_steps_direction(tmp_path, trained):
    model, optimizer = trained
    source = save_checkpoint(tmp_path / "step-3", model, optimizer)
    factors = rebalance_checkpoint(source, tmp_path / "rebalanced", rms=0.07).factors
    assert read_trainer(tmp_path / "rebalanced")["step"] == 3
    moved, moved_optimizer = build(small_config(), seed=1)
    load_state(tmp_path / "rebalanced", moved, moved_optimizer)
    weight = moved.model.layers[1].mlp.down_proj.weight
    assert weight.square().mean().sqrt().item() == pytest.approx(0.07, rel=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(moved(IDS).logits, model(IDS).logits, atol=1e-5, rtol=0)
    # What AdamW would do next, m / sqrt(v), is unchanged.
    for (name, theirs), (_, ours) in zip(model.named_parameters(), moved.named_parameters(), strict=True):
        old, new = optimizer.state[theirs], moved_optimizer.state[ours]
        assert old["step"] == new["step"]
        torch.testing.assert_close(
            new["exp_avg"] / new["exp_avg_sq"].sqrt(), old["exp_avg"] / old["exp_avg_sq"].sqrt(), atol=1e-4, rtol=1e-4
        )
        factor = factors.get(saved_name(name), 1.0)
        torch.testing.assert_close(new["exp_avg"] * factor, old["exp_avg"], atol=0, rtol=1e-5)


def test_training_goes_on_from_a_rebalanced_checkpoint_as_from_the_one_before(tmp_path):
    """Fifty steps beside a control, from matrices that began at the published size."""
    model, optimizer = build(small_config(initializer_range=5e-5), seed=0)
    for number in range(30):
        step(model, optimizer, progressions(number))
    source = save_checkpoint(tmp_path / "step-30", model, optimizer)
    change = rebalance_checkpoint(source, tmp_path / "rebalanced")
    assert max(change.steps.values()) > 1.1, "the matrices were equal already; nothing was tested"
    moved, moved_optimizer = build(small_config(), seed=1)
    load_state(tmp_path / "rebalanced", moved, moved_optimizer)
    for number in range(30, 80):
        losses = [step(m, o, progressions(number)) for m, o in ((moved, moved_optimizer), (model, optimizer))]
        assert losses[0] == pytest.approx(losses[1], abs=0.05), number


def progressions(number: int) -> torch.Tensor:
    """Rows that count up by 1, 2 or 3: new ones at each step, and something to learn."""
    generator = torch.Generator().manual_seed(number)
    first, by = (torch.randint(low, high, (4, 1), generator=generator) for low, high in ((0, 90), (1, 4)))
    return (first + by * torch.arange(24)) % 90


def test_a_checkpoint_is_told_from_a_model_folder(tmp_path, trained):
    assert is_checkpoint(save_checkpoint(tmp_path / "step-3", *trained))
    trained[0].save_pretrained(tmp_path / "model")
    assert not is_checkpoint(tmp_path / "model")


def test_an_imported_checkpoint_can_be_exported(tmp_path, trained):
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    import_optimizer(
        write_universal(tmp_path, *trained), tmp_path / "in", config=small_config(), tokenizer=tmp_path / "tokenizer"
    )
    export_checkpoint(tmp_path / "in", tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, trained[0](IDS).logits)
