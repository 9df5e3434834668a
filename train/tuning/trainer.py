"""From the config of instruction tuning to TRL's trainer: its arguments, the rows in order, loss and callbacks."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedModel, PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig as TrlSftConfig
from trl import pack_dataset

from train.errors import TrainError
from train.tuning.callbacks import Metrics, SealCheckpoints
from train.tuning.checkpoints import METRICS_FILE, seal
from train.tuning.config import SftConfig
from train.tuning.data import training_order
from train.tuning.loss import DialogueTrainer
from train.tuning.model import lora_config


def trainer_arguments(config: SftConfig, work: Path) -> Any:
    """TRL's SFTConfig for this run. Steps and warm-up are filled in once the rows are counted."""
    disable_progress_bar()  # ours counts steps; theirs come with every checkpoint
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    optimizer = config.optimizer
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    check_batch(config, ranks)
    return TrlSftConfig(
        output_dir=str(work),
        seed=config.seed,
        max_length=None,  # rows are cut already
        padding_free=lays_rows_end_to_end(config),
        shuffle_dataset=False,
        train_sampling_strategy="sequential",  # rows are in training order already
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.batch_size // (config.micro_batch_size * ranks),
        max_steps=1,
        learning_rate=optimizer.lr,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": optimizer.min_lr_ratio},
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.clip or 0.0,
        bf16=config.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=config.recomputation.mode == "full",
        save_strategy="steps",
        save_steps=config.checkpoint.every_steps,
        save_total_limit=config.checkpoint.keep_last,
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        # Every parameter takes part in every step; looking for others costs a pass over the graph, and warns.
        **{"ddp_find_unused_parameters": False, **config.trainer},
    )


def check_batch(config: SftConfig, ranks: int) -> None:
    """TrainError unless so many ranks can share a batch."""
    if config.batch_size % (config.micro_batch_size * ranks):
        raise TrainError(
            f"batch_size {config.batch_size} is not a multiple of micro_batch_size {config.micro_batch_size} "
            f"x {ranks} processes."
        )


def lays_rows_end_to_end(config: SftConfig) -> bool:
    """Whether a micro-batch is one long row without padding.

    FlashAttention keeps such dialogues apart for free; the other back ends build a dense mask from the position
    ids, which costs more than padding unless rows are packed to the same length.
    """
    return config.packing == "bfd" or config.attention.startswith("flash")


def ordered_rows(config: SftConfig, path: Path) -> tuple[Dataset, np.ndarray]:
    """The rows in training order, and the tokens of each step (int64 [steps])."""
    disable_progress_bars()
    rows = Dataset.from_file(str(path))
    if config.packing == "bfd":
        rows = pack_dataset(rows, config.max_length, "bfd")
    lengths = pc.list_value_length(rows.data.column("input_ids")).to_numpy().astype(np.int64)
    order = training_order(
        lengths,
        batch_size=config.batch_size,
        epochs=config.epochs,
        group_by_length=config.group_by_length,
        seed=config.seed,
    )
    return rows.select(order.ravel()), lengths[order].sum(axis=1)


def build_trainer(
    config: SftConfig,
    arguments: Any,
    model: PreTrainedModel,
    tokenizer: Any,
    rows: Dataset,
    step_tokens: np.ndarray,
) -> Any:
    """The TRL trainer with our loss choice, metrics file and checkpoint seals."""
    work = Path(arguments.output_dir)
    trainer = DialogueTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora_config(config),
        z_loss=config.z_loss,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Metrics(work / METRICS_FILE, step_tokens))
    trainer.add_callback(SealCheckpoints(seal))
    return trainer
