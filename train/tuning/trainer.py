"""From a config of tuning to TRL's trainer: what its arguments have in common, and what is taken out of it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from transformers import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from data_recipes.errors import DataError
from train.errors import TrainError
from train.launch.answers import OTHER_ENGINES, is_given, refused
from train.tuning.config import TuningConfig


def enter(config: TuningConfig) -> PartialState:
    """Set threads and join the other ranks; TrainError for answers of accelerate's that tuning does not follow."""
    check_answers()
    disable_progress_bar()  # ours counts steps; theirs come with every checkpoint
    AcceleratorState._reset_state(reset_partial_state=True)  # the last run in this process may be of another kind
    state = PartialState(cpu=not torch.cuda.is_available())
    if is_given("ACCELERATE_USE_FSDP"):
        # accelerate shards over what it takes for several GPUs, and leaves CPU ranks whole without a word
        # (train/launch/world.py does the same). tests/train/tuning/test_tuning_sharded.py counts sharded parameters.
        state.distributed_type = DistributedType.MULTI_GPU
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return state


def check_answers() -> None:
    """Refuse engines that are not tested here; FSDP's own answers go to accelerate as they are, in version 2."""
    for variable, sentence in OTHER_ENGINES.items():
        if is_given(variable):
            raise refused(sentence)
    if is_given("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise refused("fsdp_version 1: tuning is sharded by version 2; answer 2, or pass --fsdp_version 2")


def common_arguments(config: TuningConfig, work: Path) -> dict[str, Any]:
    """Keyword arguments for any of TRL's configs. Steps and warm-up are added once the rows are counted."""
    optimizer = config.optimizer
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    check_batch(config, ranks)
    evaluation: dict[str, Any] = {"eval_strategy": "no"}
    if config.evaluation is not None:
        evaluation = {
            "eval_strategy": "steps",
            "eval_steps": config.evaluation.every_steps,
            "eval_on_start": True,
            "per_device_eval_batch_size": config.evaluation.micro_batch_size or config.micro_batch_size,
        }
    return {
        "output_dir": str(work),
        "seed": config.seed,
        "train_sampling_strategy": "sequential",  # rows are in training order already
        "per_device_train_batch_size": config.micro_batch_size,
        "gradient_accumulation_steps": config.batch_size // (config.micro_batch_size * ranks),
        "learning_rate": optimizer.lr,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": optimizer.min_lr_ratio},
        "adam_beta1": optimizer.betas[0],
        "adam_beta2": optimizer.betas[1],
        "adam_epsilon": optimizer.eps,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.clip or 0.0,
        "bf16": config.precision == "bfloat16",
        "accelerator_config": {"use_configured_state": True},  # that of `enter`
        "use_cpu": not torch.cuda.is_available(),
        "activation_checkpointing": config.recomputation.mode == "full",
        "save_strategy": "steps",
        "save_steps": config.checkpoint.every_steps,
        "save_total_limit": config.checkpoint.keep_last,
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
        **evaluation,
        # Every parameter takes part in every step; looking for others costs a pass over the graph, and warns.
        "ddp_find_unused_parameters": False,
        **config.trainer,
    }


def prepare_trainer(
    make: Callable[..., Any], config: TuningConfig, arguments: dict[str, Any], model: Any, tokenizer: Any, rows: Any
) -> Any:
    """`make`'s trainer without its own printing; what TRL refuses of `trainer:` is bad input."""
    try:
        trainer = make(arguments, model, tokenizer, rows)
    except (TrainError, DataError):
        raise
    except (ValueError, ImportError, NotImplementedError) as error:
        if not config.trainer and config.lora is None:
            raise
        raise TrainError(f"TRL refuses these settings: {' '.join(str(error).split())}") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def check_batch(config: TuningConfig, ranks: int) -> None:
    """TrainError unless so many ranks can share a batch."""
    if config.batch_size % (config.micro_batch_size * ranks):
        raise TrainError(
            f"batch_size {config.batch_size} is not a multiple of micro_batch_size {config.micro_batch_size} "
            f"x {ranks} processes."
        )
