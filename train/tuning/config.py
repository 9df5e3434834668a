"""The config of instruction tuning: every key of `train/configs/sft-*.yaml`, typed.

Only `trainer` passes through to TRL as it is, and only with names that TRL's SFTConfig has today.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_recipes.errors import DataError
from data_recipes.recipes.yaml_schema import read_yaml, validate
from train.config_file import apply_override
from train.errors import TrainError


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OptimizerSection(Section):
    """AdamW, warm-up, then a cosine down to `min_lr_ratio` of the peak (1.0: constant)."""

    learning_rate: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    min_lr_ratio: float = Field(0.1, ge=0, le=1)


class LoraSection(Section):
    """Low-rank adapters on every linear layer but the head; the scales (alphas) stay frozen."""

    rank: int = Field(gt=0)
    alpha: float = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class CheckpointSection(Section):
    """A checkpoint every `every_steps` steps, the newest `keep` of them kept."""

    every_steps: int = Field(gt=0)
    keep: int = Field(2, ge=1)


class SftConfig(Section):
    """One run of `train/sft.py`; see docs/instruct.md."""

    model: str
    tokenizer: str | None = None
    dialogues: str
    output_dir: str
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

    optimizer: OptimizerSection
    z_loss: float = Field(0.0, ge=0)
    attn_implementation: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    mixed_precision: Literal["no", "bf16"] = "no"
    save_dtype: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    lora: LoraSection | None = None
    checkpoint: CheckpointSection
    trainer: dict[str, Any] = {}

    @model_validator(mode="after")
    def check_batch(self) -> "SftConfig":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    @model_validator(mode="after")
    def check_trainer(self) -> "SftConfig":
        if not self.trainer:
            return self
        known, ours = trl_fields(), set(RESERVED)
        for key in self.trainer:
            if key in ours:
                raise ValueError(f"trainer.{key} is set by this config's own keys; use those")
            if key not in known:
                near = get_close_matches(key, sorted(known - ours), n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"trainer.{key} is no field of TRL's SFTConfig{hint}")
        return self


# Fields of TRL's SFTConfig that this config decides, so that nothing is said twice. Hub and tracker fields are
# among them: publishing is `yulanmini hub publish`, and nothing leaves the machine while training.
RESERVED = (
    "output_dir",
    "seed",
    "max_length",
    "packing",
    "packing_strategy",
    "padding_free",
    "assistant_only_loss",
    "completion_only_loss",
    "chat_template_path",
    "eos_token",
    "dataset_kwargs",
    "shuffle_dataset",
    "model_init_kwargs",
    "trust_remote_code",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "train_sampling_strategy",
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "weight_decay",
    "max_grad_norm",
    "bf16",
    "fp16",
    "use_cpu",
    "gradient_checkpointing",
    "activation_checkpointing",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "logging_strategy",
    "logging_steps",
    "disable_tqdm",
    "report_to",
    "eval_strategy",
    "push_to_hub",
    "hub_model_id",
    "hub_token",
)


@cache
def trl_fields() -> set[str]:
    """Names that TRL's SFTConfig takes today."""
    from dataclasses import fields

    from trl import SFTConfig as TrlSftConfig

    return {field.name for field in fields(TrlSftConfig) if field.init}


def load_sft_config(path: Path, overrides: Sequence[str] = ()) -> SftConfig:
    """Read `path`, apply `key.key=value` overrides (values are YAML), check. TrainError names file and key."""
    try:
        values = read_yaml(path)
        if isinstance(values, dict):
            for override in overrides:
                apply_override(values, override)
        return validate(SftConfig, values, where=str(path))
    except DataError as error:
        raise TrainError(str(error)) from error
