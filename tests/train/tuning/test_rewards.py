"""Rewards by name: their settings, what a reward model gives, and what becomes of one that fails."""

from pathlib import Path

import pytest
import torch
from on_policy_miniature import write_classifier
from sft_miniature import write_tokenizer
from transformers import AutoTokenizer

from data_recipes.errors import DataError
from modeling_yulanmini import YuLanMiniForSequenceClassification
from train.tuning.rewards.base import (
    Completion,
    Reward,
    RewardError,
    make_rewards,
    reward_kinds,
    scores_of,
    settings_of,
)

CONVERSATIONS = [("1+1=?", "2"), ("Say a long thing", "A long thing it is, and longer still." * 3), ("你好", "你好！")]


def completions() -> list[Completion]:
    return [
        Completion([{"role": "user", "content": question}], answer, where=f"prompts.jsonl, line {line}")
        for line, (question, answer) in enumerate(CONVERSATIONS, start=1)
    ]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("classifier"))


def test_a_reward_model_reads_its_output_at_the_conversations_last_token(classifier):
    """Alone and unpadded, as the head is meant to be read; not at the token before an end of turn that is padding."""
    settings = settings_of("reward_model", {"model": str(classifier), "dtype": "float32"})
    (reward,) = make_rewards({"reward_model": settings})
    scores = reward.score(completions())
    model = YuLanMiniForSequenceClassification.from_pretrained(classifier).eval()
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    for score, (question, answer) in zip(scores, CONVERSATIONS, strict=True):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model.score(model.model(ids).last_hidden_state[:, -1]).item()
        assert score == pytest.approx(expected, abs=1e-5)
    assert reward.score(completions()[1:2]) == scores[1:2]  # to the bit, whatever it is scored with
    assert len(reward.fingerprint) == 64


def test_what_is_no_reward_model_is_refused_before_it_is_loaded(tmp_path, classifier):
    with pytest.raises(DataError, match="no such model on this machine"):
        make_rewards({"reward_model": settings_of("reward_model", {"model": str(tmp_path / "nowhere")})})
    two = YuLanMiniForSequenceClassification.from_pretrained(classifier, num_labels=2, ignore_mismatched_sizes=True)
    two.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(DataError, match="has 2 outputs; a reward model has one"):
        make_rewards({"reward_model": settings_of("reward_model", {"model": str(tmp_path)})})


def test_a_reward_and_its_settings_are_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"'unfinishd' is no reward.*unfinished"):
        settings_of("unfinishd", {})
    with pytest.raises(ValueError, match=r"unfinished.wieght: extra inputs are not permitted.*weight"):
        settings_of("unfinished", {"wieght": 2})
    assert settings_of("unfinished", None).weight == 1.0
    assert {"reward_model", "unfinished", "language_mixing", "one_line_filler"} <= reward_kinds().keys()


class Planted(Reward):
    """Gives what it is told to, by the line of the prompt."""

    def __init__(self, by_line: dict) -> None:
        self.name = "planted"
        self.by_line = by_line

    def score(self, completions):
        values = [self.by_line.get(item.where.rpartition(" ")[2], 1.0) for item in completions]
        if any(isinstance(value, Exception) for value in values):
            raise next(value for value in values if isinstance(value, Exception))
        return values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "good", torch.tensor([1.0, 2.0]), True])
def test_a_reward_that_gives_no_number_is_named_with_the_prompts_line(value):
    with pytest.raises(RewardError, match=r"the reward 'planted' gave .* to prompts.jsonl, line 2; expected a finite"):
        scores_of(Planted({"2": value}), completions())


def test_a_reward_that_raises_is_named_with_the_prompts_line():
    with pytest.raises(RewardError, match=r"'planted' failed at prompts.jsonl, line 3: ZeroDivisionError: by zero"):
        scores_of(Planted({"3": ZeroDivisionError("by zero")}), completions())


def test_a_reward_that_gives_too_few_scores_is_refused():
    reward = Planted({})
    reward.score = lambda completions: [1.0]
    with pytest.raises(RewardError, match="gave 1 scores for 3 answers"):
        scores_of(reward, completions())
