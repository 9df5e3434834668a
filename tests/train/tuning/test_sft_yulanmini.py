"""Instruction tuning of the unmerged model: its scales, its z-loss, its remote code, and the merge afterwards."""

import json
from pathlib import Path

import pytest
import torch
from sft_miniature import write_sft_config, write_tokenizer, write_yulanmini
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from modeling_yulanmini import YuLanMiniForCausalLM
from modeling_yulanmini.merge import merge
from train.config_file import load_config
from train.errors import TrainError
from train.sft import run
from train.tuning.config import SftConfig
from train.tuning.data import ordered_rows, write_rows
from train.tuning.model import load_model


@pytest.fixture
def config(tmp_path) -> Path:
    write_yulanmini(tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    return write_sft_config(tmp_path, tokenizer=None, max_steps=4, optimizer={"lr": 0.002})


def first_loss(folder: Path) -> float:
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["loss"]


def test_the_wrappers_z_loss_stays_out_and_lm_head_alpha_stays_in(config, tmp_path):
    settings = load_config(SftConfig, config)
    out = run(settings)
    rows_file = tmp_path / "rows.arrow"
    write_rows(Path(settings.dialogues), rows_file, tokenizer=tmp_path / "model", max_length=128, workers=1)
    rows, _, _ = ordered_rows(settings, rows_file)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    logits, labels = [], []
    for row in rows.select(range(8)):
        targets = torch.tensor(row["labels"])[1:]
        logits.append(model(torch.tensor([row["input_ids"]])).logits[0, :-1][targets != -100])
        labels.append(targets[targets != -100])
    expected = F.cross_entropy(torch.cat(logits), torch.cat(labels)).item()
    assert first_loss(out) == pytest.approx(expected, rel=1e-5)


def test_trls_own_head_gives_the_same_loss_as_ours(config, tmp_path, monkeypatch):
    from train.tuning import loss as sft_loss

    ours = first_loss(run(load_config(SftConfig, config)))

    def without_own_head(self, *args, z_loss=0.0, **kwargs):
        sft_loss.SFTTrainer.__init__(self, *args, **kwargs)
        self.uses_own_head = False

    monkeypatch.setattr(sft_loss.DialogueTrainer, "__init__", without_own_head)
    theirs = first_loss(run(load_config(SftConfig, config, [f"output_dir={tmp_path / 'theirs'}"])))
    assert theirs == pytest.approx(ours, rel=1e-5)


def test_the_scales_learn_and_the_tuned_model_still_merges_into_a_llama(config, tmp_path):
    out = run(load_config(SftConfig, config))
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    tuned = AutoModelForCausalLM.from_pretrained(out)
    moved = [name for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])]
    assert any("alpha" in name for name in moved)
    certificate = merge(out, tmp_path / "merged")
    comparison = certificate["comparison"]["float32"]
    assert comparison["max_abs_logit_difference"] <= comparison["limit"]


def test_lora_leaves_the_scales_alone(config, tmp_path):
    out = run(load_config(SftConfig, config, ["lora.rank=4", "lora.alpha=8"]))
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    tuned = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert tuned.keys() == before.keys()
    changed = {name for name in before if not torch.equal(tuned[name], before[name])}
    assert changed
    assert all(name.endswith("proj.weight") for name in changed), changed


def test_the_tuned_folder_keeps_the_remote_code_that_its_config_names(config):
    out = run(load_config(SftConfig, config))
    mapped = json.loads((out / "config.json").read_text()).get("auto_map", {})
    assert mapped
    assert all((out / f"{target.split('.')[0]}.py").is_file() for target in mapped.values())


def test_attention_code_without_a_revision_and_weights_that_are_not_finite_are_refused(config, tmp_path):
    settings = load_config(SftConfig, config)
    with pytest.raises(TrainError, match="'owner/kernel@REVISION'"):
        load_model(settings.dtype, tmp_path / "model", "owner/kernel")
    model = YuLanMiniForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(TrainError, match=r"not finite keys in the checkpoint \(model\.norm\.weight\)"):
        load_model(settings.dtype, tmp_path / "model", "sdpa")
