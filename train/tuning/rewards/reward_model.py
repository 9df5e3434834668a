"""A reward model's word for how good an answer is: a sequence classifier by folder or Hub id."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from data_recipes.instruct.reward_model import RewardModel, find_reward_model
from train.tuning.rewards.base import Completion, Reward, RewardSettings


class RewardModelSettings(RewardSettings):
    """`model`: a folder or a Hub id, at a `revision`. Scored `batch_tokens` at once, longer conversations than
    `max_tokens` without their beginnings."""

    model: str
    revision: str | None = None
    max_tokens: int = Field(8192, gt=1)
    batch_tokens: int = Field(16384, gt=0)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"


class ModelReward(Reward):
    """The output of a reward model for prompt and answer, as it is; published: Skywork-Reward-Llama-3.1-8B-v0.2."""

    name = "reward_model"
    Settings = RewardModelSettings

    def __init__(self, settings: RewardModelSettings) -> None:
        super().__init__(settings)
        self.encoder = find_reward_model(settings.model, settings.revision)

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    @cached_property
    def model(self) -> RewardModel:
        sizes: dict[str, Any] = self.settings.model_dump(include={"max_tokens", "batch_tokens", "dtype"})
        return RewardModel(self.encoder, **sizes)

    def score(self, completions: Sequence[Completion]) -> list[float]:
        answers = [{"role": "assistant", "content": completion.text} for completion in completions]
        return self.model.rewards([[*item.prompt, answer] for item, answer in zip(completions, answers, strict=True)])
