"""The configs of tuning: every key of `train/configs/instruct/*.yaml`, typed; what all stages share comes first.

Only `trainer` is passed on to TRL as it is, and only what trainer_keys.py knows to have an effect there.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from train.config import AdamWSettings, DataSettings, ModelPlace, Settings
from train.tuning.rewards.base import RewardSettings, settings_of
from train.tuning.trainer_keys import check_dpo_keys, check_trainer_keys


class TuningOptimizerSettings(AdamWSettings):
    """AdamW, warm-up, then a cosine down to `min_lr_ratio` of the peak (1.0: constant)."""

    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    min_lr_ratio: float = Field(0.1, ge=0, le=1)


class LoraSettings(Settings):
    """Low-rank adapters on every linear layer but the head."""

    rank: int = Field(gt=0)
    alpha: float = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class QuantizationSettings(Settings):
    """The frozen weights in 4 bits under the adapters (QLoRA), by bitsandbytes."""

    bits: Literal[4] = 4
    kind: Literal["nf4", "fp4"] = "nf4"
    double: bool = True


class TuningRecomputationSettings(Settings):
    """Whether each layer's activations are computed again in the backward pass instead of kept."""

    mode: Literal["none", "full"] = "none"


class TuningCheckpointSettings(Settings):
    """A checkpoint every `every_steps` steps, of which the last `keep_last` stay."""

    every_steps: int = Field(gt=0)
    keep_last: int = Field(2, gt=0)


class TuningEvaluationSettings(Settings):
    """Held-out rows, measured before the first step, every `every_steps` and after the last (evaluation.jsonl).

    They come from a `file` of their own, or are a `share` of the data that is then not trained on.
    """

    file: Path | None = None
    share: float | None = Field(None, gt=0, lt=1)
    every_steps: int = Field(gt=0)
    micro_batch_size: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_origin(self) -> "TuningEvaluationSettings":
        if (self.file is None) == (self.share is None):
            raise ValueError("give one of 'file' (held-out rows of their own) and 'share' (of the data).")
        return self


class TuningMonitorSettings(Settings):
    """`trackers`: accelerate's names (tensorboard, trackio, wandb, ...), which log under `project`."""

    trackers: list[str] = Field(default_factory=list)
    project: str = "yulanmini"


class PretrainingSettings(DataSettings):
    """Text of built phases among the dialogues: `share` of all tokens (padding aside), every one of them trained."""

    share: float = Field(gt=0, lt=1)


class TuningConfig(Settings):
    """What every kind of tuning takes; see docs/instruct.md.

    `model` and `tokenizer` (by default the model's): a folder or a Hub id. `train_scales`: whether the learnable
    scales (alphas) of an unmerged model are trained with it; None is yes, but not beside adapters.
    """

    script: ClassVar[str]
    trl_config: ClassVar[str]

    output_dir: Path
    model: ModelPlace
    tokenizer: ModelPlace | None = None
    seed: int = 0
    threads: int | None = Field(None, gt=0)
    workers: int = Field(1, ge=1)

    batch_size: int = Field(gt=0)
    micro_batch_size: int = Field(gt=0)
    epochs: float = Field(gt=0)
    max_steps: int | None = Field(None, gt=0)

    optimizer: TuningOptimizerSettings
    attention: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["float32", "bfloat16"] = "float32"
    save_dtype: Literal["float32", "bfloat16"] = "float32"
    recomputation: TuningRecomputationSettings = TuningRecomputationSettings()
    train_scales: bool | None = None
    lora: LoraSettings | None = None
    quantization: QuantizationSettings | None = None
    checkpoint: TuningCheckpointSettings
    evaluation: TuningEvaluationSettings | None = None
    monitors: TuningMonitorSettings = TuningMonitorSettings()
    trainer: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _micro_batches_fill_the_batch(self) -> "TuningConfig":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _four_bits_are_not_trained(self) -> "TuningConfig":
        if self.quantization is not None and self.lora is None:
            raise ValueError("quantization: weights in 4 bits cannot be trained themselves; give 'lora' too.")
        if self.lora is not None and self.train_scales:
            raise ValueError("train_scales: adapters leave all else as it is; take 'lora' or 'train_scales' out.")
        return self

    @model_validator(mode="after")
    def _trainer_keys_have_an_effect(self) -> "TuningConfig":
        check_trainer_keys(self.trainer, script=self.script, trl_config=self.trl_config)
        return self


class SftConfig(TuningConfig):
    """One run of `train/sft.py`: a model tuned on `dialogues`.

    `over_long`: what becomes of a dialogue of more than `max_length` tokens.
    """

    script = "sft"
    trl_config = "SFTConfig"

    dialogues: Path
    pretraining: PretrainingSettings | None = None
    max_length: int = Field(gt=1)
    over_long: Literal["cut", "drop"] = "cut"
    packing: Literal["none", "bfd"] = "none"
    group_by_length: int = Field(1, ge=1)
    z_loss: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _one_loss(self) -> "SftConfig":
        other, smooths = (
            self.trainer.get("loss_type", "nll") == "dft",
            self.trainer.get("label_smoothing_factor", 0) > 0,
        )
        if self.z_loss and (other or smooths):
            raise ValueError(
                "z_loss is added to the plain cross-entropy; take it or loss_type and label smoothing out."
            )
        if other and smooths:
            raise ValueError("trainer.label_smoothing_factor has no effect with loss_type dft; take one of them out.")
        return self


class DpoConfig(TuningConfig):
    """One run of `train/dpo.py`: a model tuned on `pairs` of a better and a worse answer, without a reward model.

    `reference`: log-probabilities under the model as it was are computed `before` training and kept, or in each step
    by a second copy of the model. `over_long`: what becomes of a pair with more than `max_length` tokens in either.
    """

    script = "dpo"
    trl_config = "DPOConfig"

    pairs: Path
    max_length: int = Field(gt=1)
    over_long: Literal["cut", "drop"] = "drop"
    group_by_length: int = Field(1, ge=1)
    beta: float = Field(0.1, gt=0)
    reference: Literal["before", "each step"] = "before"

    @model_validator(mode="after")
    def _keys_of_other_losses_are_not_ignored(self) -> "DpoConfig":
        losses = self.trainer.get("loss_type", ["sigmoid"])
        check_dpo_keys(self.trainer, {losses} if isinstance(losses, str) else set(losses))
        if self.reference == "each step" and "precompute_ref_batch_size" in self.trainer:
            raise ValueError("trainer.precompute_ref_batch_size has no effect with reference 'each step'; take it out.")
        return self


class ServerSettings(Settings):
    """A vLLM server that generates in the place of this process; it holds the adapters in training (needs `lora`).

    `model`: the base model's name there. `adapters`: a folder that the server sees too, by default one in the work
    folder. `largest_difference`: between its log-probabilities and the trainer's, mean of nats a token.
    """

    url: str
    model: str
    adapters: Path | None = None
    concurrency: int = Field(64, gt=0)
    timeout: float = Field(600.0, gt=0)
    patience: float = Field(300.0, gt=0)
    largest_difference: float = Field(0.1, gt=0)


class OnPolicyConfig(TuningConfig):
    """One run of `train/on_policy.py`: a model tuned on its own answers to `prompts`, by their rewards (RLOO).

    A step takes `batch_size` answers, `samples` to each prompt, of which `generation_batch` are made at once on each
    rank (None: all). `rewards`: settings by name; the weighted sum of all is clipped to `reward_clip`, then
    `kl_coefficient` times how far the answer's log-probability is from the model's before training is taken off.
    """

    script = "on-policy"
    trl_config = "RLOOConfig"

    prompts: Path
    max_prompt_length: int = Field(gt=0)
    max_completion_length: int = Field(gt=0)
    samples: int = Field(4, ge=2)
    generation_batch: int | None = Field(None, gt=0)
    temperature: float = Field(1.0, gt=0)
    kl_coefficient: float = Field(0.01, ge=0)
    reward_clip: tuple[float, float] | None = (-20.0, 10.0)
    rewards: dict[str, SerializeAsAny[RewardSettings]] = Field(min_length=1)
    server: ServerSettings | None = None

    @field_validator("rewards", mode="before")
    @classmethod
    def _rewards_are_known(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: settings_of(name, settings) for name, settings in value.items()}

    @model_validator(mode="after")
    def _whole_groups(self) -> "OnPolicyConfig":
        if self.batch_size % self.samples:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of samples {self.samples}")
        if self.reward_clip is not None and self.reward_clip[0] >= self.reward_clip[1]:
            raise ValueError(f"reward_clip {list(self.reward_clip)}: the first number is not below the second")
        return self

    @model_validator(mode="after")
    def _what_samples_is_what_learns(self) -> "OnPolicyConfig":
        if self.lora is not None and self.lora.dropout:
            raise ValueError("lora.dropout: must be 0 here, as the model that answers must be the one that is trained")
        if self.server is not None and self.lora is None:
            raise ValueError("server: only adapters can be given to a server while training; give 'lora' too")
        return self
