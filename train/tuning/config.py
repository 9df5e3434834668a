"""The config of instruction tuning: every key of `train/configs/sft-*.yaml`, typed.

Only `trainer` is passed on to TRL as it is, and only under names that TRL's SFTConfig has today.
"""

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from data_recipes.errors import nearest
from train.config import AdamWSettings, DataSettings, Settings

# Fields of TRL's SFTConfig that this config decides, by the key that decides them, so that nothing is set twice. What
# no key decides is off: publishing is `yulanmini hub publish`, and nothing leaves the machine while training.
RESERVED = {
    "output_dir": ("output_dir",),
    "seed": ("seed",),
    "max_length": ("max_length",),
    "packing": ("packing", "packing_strategy", "padding_free"),
    "the chat template": ("assistant_only_loss", "completion_only_loss", "chat_template_path", "eos_token"),
    "dialogues": ("dataset_kwargs", "shuffle_dataset", "train_sampling_strategy"),
    "model": ("model_init_kwargs", "trust_remote_code"),
    "batch_size": ("per_device_train_batch_size", "gradient_accumulation_steps"),
    "epochs and max_steps": ("num_train_epochs", "max_steps"),
    "optimizer": ("learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm"),
    "optimizer.warmup_ratio": ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    "precision": ("bf16", "fp16", "use_cpu"),
    "recomputation": ("gradient_checkpointing", "activation_checkpointing"),
    "checkpoint": ("save_strategy", "save_steps", "save_total_limit"),
    "no key: it is fixed": ("logging_strategy", "logging_steps", "disable_tqdm", "report_to", "eval_strategy"),
    "no key: it is off": ("push_to_hub", "hub_model_id", "hub_token"),
}


class SftOptimizerSettings(AdamWSettings):
    """AdamW, warm-up, then a cosine down to `min_lr_ratio` of the peak (1.0: constant)."""

    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    min_lr_ratio: float = Field(0.1, ge=0, le=1)


class LoraSettings(Settings):
    """Low-rank adapters on every linear layer but the head; the scales (alphas) stay frozen."""

    rank: int = Field(gt=0)
    alpha: float = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class SftRecomputationSettings(Settings):
    """Whether each layer's activations are computed again in the backward pass instead of kept."""

    mode: Literal["none", "full"] = "none"


class SftCheckpointSettings(Settings):
    """A checkpoint every `every_steps` steps, of which the last `keep_last` stay."""

    every_steps: int = Field(gt=0)
    keep_last: int = Field(2, gt=0)


class PretrainingSettings(DataSettings):
    """Text of built phases among the dialogues: `share` of all tokens (padding aside), every one of them trained."""

    share: float = Field(gt=0, lt=1)


class SftConfig(Settings):
    """One run of `train/sft.py`; see docs/instruct.md. `tokenizer`: by default the model's."""

    output_dir: Path
    model: Path
    tokenizer: Path | None = None
    dialogues: Path
    pretraining: PretrainingSettings | None = None
    seed: int = 0
    threads: int | None = Field(None, gt=0)
    workers: int = Field(1, ge=1)

    max_length: int = Field(gt=1)
    packing: Literal["none", "bfd"] = "none"
    group_by_length: int = Field(1, ge=1)
    batch_size: int = Field(gt=0)
    micro_batch_size: int = Field(gt=0)
    epochs: float = Field(gt=0)
    max_steps: int | None = Field(None, gt=0)

    optimizer: SftOptimizerSettings
    z_loss: float = Field(0.0, ge=0)
    attention: str = "sdpa"
    dtype: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["float32", "bfloat16"] = "float32"
    save_dtype: Literal["float32", "bfloat16"] = "float32"
    recomputation: SftRecomputationSettings = SftRecomputationSettings()
    lora: LoraSettings | None = None
    checkpoint: SftCheckpointSettings
    trainer: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _micro_batches_fill_the_batch(self) -> "SftConfig":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _trainer_names_fields_of_trl(self) -> "SftConfig":
        ours = {name: key for key, names in RESERVED.items() for name in names}
        for name in self.trainer:
            if name in ours:
                raise ValueError(f"trainer.{name} is set by this config's own keys ({ours[name]}); use those")
            if name not in trl_fields():
                hint = nearest(name, sorted(trl_fields() - set(ours)))
                raise ValueError(f"trainer.{name} is no field of TRL's SFTConfig.{hint}")
        return self


@cache
def trl_fields() -> set[str]:
    """Names that TRL's SFTConfig takes today."""
    from trl import SFTConfig as TrlSftConfig

    return {field.name for field in fields(TrlSftConfig) if field.init}
