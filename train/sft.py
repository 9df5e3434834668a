"""Instruction tuning: `accelerate launch train/sft.py CONFIG [--set key=value ...]`.

Reads a model folder (merged Llama or yulanmini), a tokenizer with a chat template and a file of dialogues;
leaves one folder with the tuned model. A killed run goes on from its last checkpoint to the same weights.
"""

import argparse
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from data_recipes.errors import DataError
from data_recipes.manifest import (
    MANIFEST_NAME,
    fingerprint_of,
    read_manifest,
    sha256_file,
    verify_files,
    whole_folder,
    write_manifest,
)
from train.errors import TrainError
from train.launched import announce, report_exit_code
from train.sft_checkpoints import (
    METRICS_FILE,
    claim_work_folder,
    keep_metrics_until,
    latest_checkpoint,
    seal,
    step_of,
    work_folder,
)
from train.sft_config import SftConfig, load_sft_config

if TYPE_CHECKING:
    import datasets
    import numpy as np
    from transformers import PreTrainedModel

ROWS_FILE = "rows.arrow"
ADAPTER_FOLDER = "adapter"


class Interrupted(Exception):
    """A signal ended the run after a checkpoint was written."""


def run(config: SftConfig) -> Path:
    """Train as `config` says, going on where an interrupted run stopped; returns the finished folder."""
    output_dir = Path(config.output_dir)
    model_dir = existing_folder(config.model, "model", needs="config.json")
    tokenizer_dir = existing_folder(config.tokenizer or config.model, "tokenizer", needs="tokenizer.json")
    dialogues = Path(config.dialogues)
    if not dialogues.is_file():
        raise TrainError(f"{dialogues}: no such file (key 'dialogues'); expected a .jsonl file of dialogues.")
    inputs = {
        "model": folder_fingerprint(model_dir),
        "tokenizer": folder_fingerprint(tokenizer_dir),
        "dialogues": sha256_file(dialogues),
    }
    work = work_folder(output_dir)
    if is_finished(output_dir, config, inputs):
        say(f"{output_dir}: finished before, nothing to do")
        shutil.rmtree(work, ignore_errors=True)  # left by a kill between the last two actions
        return output_dir
    arguments = trainer_arguments(config, work)
    if arguments.process_index == 0:
        claim_work_folder(work, {"config": config.model_dump(mode="json"), "inputs": inputs})

    from transformers import AutoTokenizer

    from train.export import copy_tokenizer
    from train.sft_data import check_chat_template, write_rows

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    check_chat_template(tokenizer, tokenizer_dir)
    with arguments.main_process_first(local=False, desc="tokenising"):
        summary = write_rows(
            dialogues,
            work / ROWS_FILE,
            tokenizer=tokenizer_dir,
            max_length=config.max_length,
            workers=config.workers,
        )
        rows, step_tokens = ordered_rows(config, work / ROWS_FILE)
    if config.max_steps is not None and config.max_steps < len(step_tokens):
        step_tokens = step_tokens[: config.max_steps]
    arguments.max_steps = len(step_tokens)
    arguments.warmup_steps = math.ceil(config.optimizer.warmup_ratio * len(step_tokens))

    model = load_model(config, model_dir)
    check_fit(config, model, tokenizer, model_dir)
    trainer = build_trainer(config, arguments, model, tokenizer, rows, step_tokens)
    trained_steps = train(trainer, work)
    if trained_steps < len(step_tokens):
        raise Interrupted(f"stopped after step {trained_steps} of {len(step_tokens)}; a checkpoint is in {work}")

    counts = {**summary["counts"], "steps": len(step_tokens), "trained_on_tokens": int(step_tokens.sum())}
    stop_ids = sorted({*summary["stop_ids"], tokenizer.eos_token_id})
    state_dict = trainer.accelerator.get_state_dict(trainer.model) if arguments.world_size > 1 else None
    if arguments.process_index == 0:
        with whole_folder(output_dir) as partial:
            save_model(config, trainer.accelerator.unwrap_model(trainer.model), partial, state_dict, stop_ids)
            for code in model_dir.glob("*.py"):
                shutil.copy(code, partial)
            copy_tokenizer(tokenizer_dir, partial)
            shutil.copy(work / METRICS_FILE, partial)
            write_config(config, partial / "config.yaml")
            write_manifest(
                partial,
                kind="sft",
                inputs=inputs,
                config=config.model_dump(mode="json"),
                counts=counts,
                seed=config.seed,
                last_metrics=json.loads((work / METRICS_FILE).read_text().splitlines()[-1]),
            )
        shutil.rmtree(work)
    return output_dir


def existing_folder(name: str, key: str, *, needs: str) -> Path:
    """The folder that a config key names; TrainError when it is none, or lacks the file that makes it one."""
    folder = Path(name)
    if not folder.is_dir():
        raise TrainError(f"{folder}: no such folder (key '{key}').")
    if not (folder / needs).is_file():
        raise TrainError(f"{folder}: no {needs} (key '{key}'); this is not a {key} folder.")
    return folder


def folder_fingerprint(folder: Path) -> str:
    """The manifest's fingerprint where the folder has one, else a hash over its files."""
    if (folder / MANIFEST_NAME).is_file():
        return read_manifest(folder)["fingerprint"]
    return fingerprint_of({path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()})


def is_finished(output_dir: Path, config: SftConfig, inputs: dict[str, str]) -> bool:
    """Whether `output_dir` holds this very run, whole; another run's folder is an error."""
    if not output_dir.exists():
        return False
    manifest = read_manifest(output_dir, kind="sft")
    if manifest["inputs"] != inputs or manifest["config"] != config.model_dump(mode="json"):
        raise TrainError(f"{output_dir} holds another run's model. Choose another output_dir, or delete it.")
    problems = verify_files(output_dir, content=False)
    if problems:
        raise TrainError(f"{problems[0]}. Delete {output_dir} to train again.")
    return True


def trainer_arguments(config: SftConfig, work: Path) -> Any:
    """TRL's SFTConfig for this run. Steps and warm-up are filled in once the rows are counted."""
    import torch
    from transformers.utils.logging import disable_progress_bar
    from trl import SFTConfig as TrlSftConfig

    disable_progress_bar()  # ours counts steps; theirs come with every checkpoint
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    optimizer = config.optimizer
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch_size % (config.micro_batch_size * ranks):
        raise TrainError(
            f"batch_size {config.batch_size} is not a multiple of micro_batch_size {config.micro_batch_size} "
            f"x {ranks} processes."
        )
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
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": optimizer.min_lr_ratio},
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_grad_norm,
        bf16=config.mixed_precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=config.activation_checkpointing,
        save_strategy="steps",
        save_steps=config.checkpoint.every_steps,
        save_total_limit=config.checkpoint.keep,
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        **config.trainer,
    )


def lays_rows_end_to_end(config: SftConfig) -> bool:
    """Whether a micro-batch is one long row without padding.

    FlashAttention keeps such dialogues apart for free; the other back ends build a dense mask from the position
    ids, which costs more than padding unless rows are packed to the same length.
    """
    return config.packing == "bfd" or (config.attn_implementation or "").startswith("flash")


def ordered_rows(config: SftConfig, path: Path) -> "tuple[datasets.Dataset, np.ndarray]":
    """The rows in training order, and the tokens of each step (int64 [steps])."""
    import numpy as np
    import pyarrow.compute as pc
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    from train.sft_data import training_order

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


def load_model(config: SftConfig, folder: Path) -> "PreTrainedModel":
    """The model with every weight from the folder; TrainError for one that is damaged or incomplete."""
    import torch
    from transformers import AutoModelForCausalLM

    import modeling_yulanmini  # noqa: F401  (registers the architecture)

    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attn_implementation,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, ImportError) as error:
        raise TrainError(f"{folder}: cannot load the model ({' '.join(str(error).split())}).") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            listed = ", ".join(sorted(map(str, info[kind]))[:3])
            raise TrainError(f"{folder}: {len(info[kind])} {kind.replace('_', ' ')} in the checkpoint ({listed}).")
    return model


def check_fit(config: SftConfig, model: "PreTrainedModel", tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer or a row length that the model was not made for."""
    positions = model.config.max_position_embeddings
    if config.max_length > positions:
        raise TrainError(f"max_length {config.max_length} is more than the {positions} positions of {folder}.")
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > vocabulary:
        raise TrainError(
            f"the tokenizer has {len(tokenizer)} tokens, the model of {folder} an embedding of {vocabulary} rows. "
            "Use the tokenizer that the model was trained with (key 'tokenizer')."
        )


def build_trainer(
    config: SftConfig,
    arguments: Any,
    model: "PreTrainedModel",
    tokenizer: Any,
    rows: "datasets.Dataset",
    step_tokens: "np.ndarray",
) -> Any:
    """The TRL trainer with our loss choice, metrics file, checkpoint seals and signal handling."""
    from transformers import PrinterCallback

    from train.sft_callbacks import Metrics, SealCheckpoints, StopOnSignal
    from train.sft_loss import DialogueTrainer

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
    trainer.add_callback(StopOnSignal((signal.SIGINT, signal.SIGTERM)))
    return trainer


def lora_config(config: SftConfig) -> Any:
    """PEFT's config of the adapters, or None for full tuning."""
    if config.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.target_modules,
        task_type="CAUSAL_LM",
    )


def train(trainer: Any, work: Path) -> int:
    """Run to the end, or to a signal; returns the number of steps done."""
    checkpoint = latest_checkpoint(work) if trainer.args.process_index == 0 else None
    if trainer.args.world_size > 1:
        from accelerate.utils import broadcast_object_list

        checkpoint = broadcast_object_list([checkpoint])[0]
    if trainer.args.process_index == 0:
        keep_metrics_until(work, step_of(checkpoint) if checkpoint else 0)
    if checkpoint:
        say(f"going on from {checkpoint}")
        if step_of(checkpoint) >= trainer.args.max_steps:
            trainer._load_from_checkpoint(str(checkpoint))
            return step_of(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.state.global_step


def save_model(
    config: SftConfig, model: Any, folder: Path, state_dict: dict[str, Any] | None, stop_ids: list[int]
) -> None:
    """The tuned model as an ordinary folder; adapters are merged into it, and kept beside it."""
    import torch
    from transformers import GenerationConfig

    if config.lora is not None:
        model.save_pretrained(folder / ADAPTER_FOLDER, state_dict=state_dict)
        if state_dict is not None:
            model.load_state_dict(state_dict)
            state_dict = None
        model = model.merge_and_unload()
    dtype = getattr(torch, config.save_dtype)
    if state_dict is not None:
        state_dict = {key: value.to(dtype) for key, value in state_dict.items()}
    else:
        model = model.to(dtype)
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=stop_ids, pad_token_id=model.config.pad_token_id
    )
    model.save_pretrained(folder, state_dict=state_dict)


def write_config(config: SftConfig, path: Path) -> None:
    """The resolved config; `train/sft.py` runs from it as it is."""
    import yaml

    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def is_full_disk(error: Exception) -> bool:
    """safetensors and torch.save report a full disk as errors of their own."""
    return "No space left" in str(error) or "PytorchStreamWriter failed writing" in str(error)


def say(message: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(message, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 bad input, 130 interrupted (the same command goes on)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="YAML file, such as train/configs/sft-tiny.yaml")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parsed = parser.parse_args(arguments)
    announce()
    try:
        started = time.monotonic()
        folder = run(load_sft_config(parsed.config, parsed.overrides))
        say(f"{folder}: done in {time.monotonic() - started:.1f} s")
        code = 0
    except (TrainError, DataError, OSError) as error:
        say(f"error: {error}")
        code = 2
    except (RuntimeError, SafetensorError) as error:
        if not is_full_disk(error):
            raise
        say(f"error: no space left on the disk ({error}). Make room; the same command goes on.")
        code = 2
    except (Interrupted, KeyboardInterrupt) as error:
        say(f"interrupted: {error or 'before the first checkpoint'}. The same command goes on from there.")
        code = 130
    report_exit_code(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
