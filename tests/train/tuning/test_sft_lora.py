"""The small LoRA config of the README: 64 dialogues of a user's on the miniature."""

import json
import os
from itertools import islice
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from sft_miniature import write_sft_config
from transformers import AutoModelForCausalLM

from train.config_file import load_config
from train.sft import run
from train.tuning.config import SftConfig


def test_64_dialogues_tune_the_miniature_and_its_adapter_loads_and_merges(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (smoke_run / "01-corpus" / "dialogues" / "train.jsonl").open() as file:
        Path("mine.jsonl").write_text("".join(islice(file, 64)))
    base = smoke_run / "05-merged"
    out = run(load_config(SftConfig, "sft-lora", [f"model={base}"]))
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 40
    assert sum(losses[-8:]) < 0.85 * sum(losses[:8])

    ids = torch.arange(20, 60)[None]
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)  # as it was tuned; stored in bfloat16
    adapted = PeftModel.from_pretrained(whole, out / "adapter")
    with torch.no_grad():
        beside = adapted(ids).logits
        merged = adapted.merge_and_unload()(ids).logits
        ours = AutoModelForCausalLM.from_pretrained(out)(ids).logits
    assert (beside - ours).abs().max() < 1e-4
    assert (merged - ours).abs().max() < 1e-4

    found = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert Path(found["base_model_name_or_path"]) == base.absolute()  # from any folder

    card = (out / "adapter" / "README.md").read_text()
    for told in ("LoRA adapter of 05-merged", "dialogues 64", "rank 16, alpha 32", f"{losses[-1]:.3f} in the last"):
        assert told in card
    assert "More Information" not in card
    assert str(tmp_path) not in card
    assert str(smoke_run) not in card


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_tuned_models_files_have_the_access_that_the_umask_gives(tmp_path: Path, mask: int) -> None:
    path = write_sft_config(tmp_path, lora={"rank": 2, "alpha": 4}, max_steps=1)
    before = os.umask(mask)
    try:
        out = run(load_config(SftConfig, path))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {0o666 & ~mask}
