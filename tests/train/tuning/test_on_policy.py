"""Whole on-policy runs on a Llama of 30k parameters: what they leave, resuming, failures, and that training works."""

import json
import os
import statistics
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks
from on_policy_miniature import write_on_policy_config
from peft import PeftModel
from test_sft import wait_until
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from data_recipes.manifest import read_manifest, verify_files
from train.config_file import load_config
from train.on_policy import run
from train.tuning.config import OnPolicyConfig
from train.tuning.rewards import base
from train.tuning.rewards.base import Reward, RewardError

TIMES = ("seconds", "step_time")
KNOWN = base.reward_kinds()


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in metrics_of(folder)]


def tune(folder: Path, **changes: Any) -> Path:
    return run(load_config(OnPolicyConfig, write_on_policy_config(folder, **changes)))


def plant(monkeypatch: pytest.MonkeyPatch, reward: type[Reward]) -> None:
    """Make a reward known by its name, as one in a module of the folder would be."""
    monkeypatch.setattr(base, "reward_kinds", lambda: KNOWN | {reward.name: reward})


class Digits(Reward):
    """The share of an answer's characters that are digits."""

    name = "digits"

    def score(self, completions):
        return [sum(map(str.isdigit, item.text)) / max(1, len(item.text)) for item in completions]


class Noise(Reward):
    """Random numbers of the same spread, whatever the answer is."""

    name = "noise"

    def __init__(self, settings):
        super().__init__(settings)
        self.generator = torch.Generator().manual_seed(0)

    def score(self, completions):
        return (0.3 * torch.randn(len(completions), generator=self.generator)).tolist()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return tune(tmp_path_factory.mktemp("undisturbed"))


def test_a_run_leaves_one_whole_folder_that_loads_and_stops_at_the_end_of_a_turn(undisturbed):
    assert verify_files(undisturbed) == []
    manifest = read_manifest(undisturbed, kind="on-policy")
    assert manifest["counts"]["steps"] == 8
    assert manifest["counts"]["prompts"] == 32
    tokenizer = AutoTokenizer.from_pretrained(undisturbed)
    model = AutoModelForCausalLM.from_pretrained(undisturbed)
    assert set(model.generation_config.eos_token_id) == {
        tokenizer.convert_tokens_to_ids("<|eot_id|>"),
        tokenizer.eos_token_id,
    }
    said = pipeline("text-generation", str(undisturbed))([{"role": "user", "content": "1+1=?"}], max_new_tokens=4)
    assert said[0]["generated_text"][-1]["role"] == "assistant"
    assert not undisturbed.with_name("out.work").exists()


def test_every_step_has_a_line_with_rewards_by_name_kl_entropy_lengths_and_shares(undisturbed):
    lines = metrics_of(undisturbed)
    assert [line["step"] for line in lines] == list(range(1, 9))
    for line in lines:
        means = [line[f"rewards/{name}/mean"] for name in ("reward_model", "unfinished", "verified_answer")]
        assert line["reward"] == pytest.approx(means[0] + 0.5 * means[1] + means[2], abs=1e-5)
        assert {"kl", "entropy", "completions/mean_length", "completions/clipped_ratio"} <= line.keys()
        assert 0 <= line["frac_reward_zero_std"] <= 1
    assert lines[0]["kl"] == 0
    assert all(line["kl"] != 0 for line in lines[1:])


def test_kill_9_and_again_gives_the_weights_of_an_undisturbed_run(undisturbed, tmp_path):
    config = write_on_policy_config(undisturbed.parent, output_dir=str(tmp_path / "killed"))
    process = get_context("fork").Process(target=run, args=[load_config(OnPolicyConfig, config)])
    process.start()  # a fork has the libraries loaded
    work = tmp_path / "killed.work"
    wait_until(lambda: (work / "checkpoint-3" / "seal.json").exists())
    process.kill()
    process.join()
    assert not (tmp_path / "killed").exists()
    resumed = run(load_config(OnPolicyConfig, config))
    assert (resumed / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    assert timeless(resumed) == timeless(undisturbed)


def test_a_reward_that_raises_stops_the_run_with_the_steps_before_it_kept(undisturbed, tmp_path, monkeypatch):
    path = write_on_policy_config(
        undisturbed.parent, output_dir=str(tmp_path / "failed"), checkpoint={"every_steps": 1000}
    )
    kind = base.reward_kinds()["unfinished"]
    whole, calls = kind.score, []

    def sometimes(self, completions):
        calls.append(completions)
        if len(calls) > 5:
            raise ZeroDivisionError("no answer to divide by")
        return whole(self, completions)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "score", sometimes)
        with pytest.raises(
            RewardError, match=r"'unfinished' failed at prompts.jsonl, line \d+: ZeroDivisionError: no answer to divide"
        ):
            run(load_config(OnPolicyConfig, path))
    assert [folder.name for folder in (tmp_path / "failed.work").glob("checkpoint-*")] == ["checkpoint-5"]
    resumed = run(load_config(OnPolicyConfig, path))
    assert (resumed / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    assert timeless(resumed) == timeless(undisturbed)


def test_lora_leaves_an_adapter_that_peft_loads_and_that_is_merged_into_the_folder(tmp_path):
    out = tune(tmp_path, lora={"rank": 4, "alpha": 8}, max_steps=3, rewards={"unfinished": {}}, optimizer={"lr": 0.05})
    ids = torch.arange(10, 40)[None]
    base_model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        before = base_model(ids).logits
        adapted = PeftModel.from_pretrained(base_model, out / "adapter")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(out)(ids).logits
    assert (merged - adapted).abs().max() < 1e-4
    assert (merged - before).abs().max() > 1e-3


def fails_on_one_rank(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """What a rank says of a run whose reward fails in the third step, on the second rank only; then of the same one
    without the fault."""
    kind, calls = base.reward_kinds()["unfinished"], []
    whole = kind.score

    def sometimes(self, completions):
        calls.append(completions)
        if len(calls) > 2 and os.environ["RANK"] == "1":
            raise ZeroDivisionError("on this rank")
        return whole(self, completions)

    config = load_config(OnPolicyConfig, folder / "on-policy.yaml")
    kind.score = sometimes
    with pytest.raises(RewardError) as failed:
        run(config)
    kind.score = whole
    out = run(config)
    return str(failed.value), metrics_of(out) if os.environ["RANK"] == "0" else []


def test_two_ranks_share_a_batch_and_the_failure_of_one_stops_both_with_the_steps_kept(undisturbed, tmp_path):
    path = write_on_policy_config(
        undisturbed.parent, output_dir=str(tmp_path / "two"), checkpoint={"every_steps": 1000}
    )
    (tmp_path / "on-policy.yaml").write_text(path.read_text())
    (first, lines), (second, _) = on_ranks(2, fails_on_one_rank, tmp_path)
    assert first == second
    assert "'unfinished' failed at prompts.jsonl, line" in first
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[0]["kl"] == 0
    together, alone = (torch.tensor([line["lr"] for line in found]) for found in (lines, metrics_of(undisturbed)))
    assert torch.equal(together, alone)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "two").config.vocab_size == 263


def learning(folder: Path, reward: str, **changes: Any) -> tuple[list[float], list[float]]:
    """Rewards of the first and of the last steps of a run on one reward."""
    out = tune(
        folder,
        rewards={reward: {}},
        epochs=10,
        max_steps=25,
        batch_size=32,
        micro_batch_size=32,
        checkpoint={"every_steps": 1000},
        optimizer={"lr": 0.02, "warmup_ratio": 0.0, "min_lr_ratio": 1.0},
        **changes,
    )
    return [line["reward"] for line in metrics_of(out)[:5]], [line["reward"] for line in metrics_of(out)[-5:]]


def test_a_reward_that_can_be_learned_rises_and_one_of_noise_does_not(tmp_path, monkeypatch):
    plant(monkeypatch, Digits)
    first, last = learning(tmp_path / "digits", "digits")
    assert statistics.mean(last) > 0.5 > 5 * statistics.mean(first)
    plant(monkeypatch, Noise)
    first, last = learning(tmp_path / "noise", "noise")
    error = (statistics.variance(first) / 5 + statistics.variance(last) / 5) ** 0.5
    assert abs(statistics.mean(last) - statistics.mean(first)) < 3 * error
