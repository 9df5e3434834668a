"""Instruction tuning: `yulanmini train sft CONFIG [--set key=value ...]`, or `accelerate launch train/sft.py CONFIG`.

Reads a model folder (merged Llama or yulanmini), a tokenizer with a chat template and a file of dialogues;
leaves one folder with the tuned model. A killed run resumes from its last checkpoint and ends with the same weights.
"""

import sys

if __name__ == "__main__":  # before the libraries, whose import takes seconds
    from train.launch import interrupt

    interrupt.catch()

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from data_recipes.manifest import (
    folder_fingerprint,
    folder_state,
    sha256_file,
    verify_files,
    whole_folder,
    write_manifest,
)
from train.checkpoints.export import copy_tokenizer
from train.config_file import load_config, resolved, settings_text
from train.errors import TrainError
from train.launch.ranks import start_missing_ranks
from train.launch.stop import StopSignal, announce, explain, report_exit_code
from train.run.log import RunLog
from train.tuning.adapter_card import write_adapter_card
from train.tuning.callbacks import StopOnSignal
from train.tuning.checkpoints import (
    METRICS_FILE,
    WORK_KIND,
    claim_work_folder,
    latest_checkpoint,
    step_of,
    work_folder,
)
from train.tuning.config import SftConfig
from train.tuning.data import check_chat_template, write_rows
from train.tuning.model import ADAPTER_FOLDER, check_fit, load_model, save_model
from train.tuning.pretraining_rows import open_phases
from train.tuning.trainer import build_trainer, check_batch, ordered_rows, trainer_arguments

KIND = "sft"
ROWS_FILE = "rows.arrow"
ADVICE = "Lower micro_batch_size, or set recomputation.mode to full."


class Interrupted(Exception):
    """A signal ended the run after a checkpoint was written."""


def run(config: SftConfig) -> Path:
    """Train with `config`, resuming where an interrupted run stopped; returns the finished folder."""
    output_dir, dialogues = config.output_dir, config.dialogues
    model_dir, tokenizer_dir, made_from = read_inputs(config)
    settings, inputs = made_from["config"], made_from["inputs"]
    work = work_folder(output_dir)
    if is_finished(output_dir, made_from):
        say(f"{output_dir}: finished before, nothing to do")
        if folder_state(work, kind=WORK_KIND) == "begun":
            shutil.rmtree(work)  # left by a kill between the last two actions
        return output_dir
    arguments = trainer_arguments(config, work)
    if arguments.process_index == 0:
        claim_work_folder(work, made_from)

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    check_chat_template(tokenizer, tokenizer_dir)
    with arguments.main_process_first(local=False, desc="tokenising"):
        summary = write_rows(
            dialogues,
            work / ROWS_FILE,
            tokenizer=tokenizer_dir,
            max_length=config.max_length,
            workers=config.workers,
            pretraining=config.pretraining,
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
            if config.lora is not None:
                write_adapter_card(
                    partial / ADAPTER_FOLDER, config, counts=counts, inputs=inputs, metrics=work / METRICS_FILE
                )
            for code in model_dir.glob("*.py"):
                shutil.copy(code, partial)
            copy_tokenizer(tokenizer_dir, partial)
            shutil.copy(work / METRICS_FILE, partial)
            (partial / "config.yaml").write_text(settings_text(settings))
            write_manifest(
                partial,
                kind=KIND,
                inputs=inputs,
                config=settings,
                counts=counts,
                seed=config.seed,
                last_metrics=json.loads((work / METRICS_FILE).read_text().splitlines()[-1]),
            )
        shutil.rmtree(work)
    return output_dir


def read_inputs(config: SftConfig) -> tuple[Path, Path, dict[str, Any]]:
    """The folders of model and tokenizer, and what the tuned model is made from; TrainError for what is not there."""
    model = existing_folder(config.model, "model", needs="config.json")
    tokenizer = existing_folder(config.tokenizer or config.model, "tokenizer", needs="tokenizer.json")
    if not config.dialogues.is_file():
        raise TrainError(f"{config.dialogues}: no such file (key 'dialogues'); expected a .jsonl file of dialogues.")
    inputs = {
        "model": folder_fingerprint(model),
        "tokenizer": folder_fingerprint(tokenizer),
        "dialogues": sha256_file(config.dialogues),
    }
    if config.pretraining:
        phases = open_phases(config.pretraining, tokenizer)
        inputs |= {f"pretraining/{phase.folder.name}": phase.fingerprint for phase in phases}
    return model, tokenizer, {"config": resolved(config, config.output_dir), "inputs": inputs}


def plan(config: SftConfig) -> dict[str, Any]:
    """What a run would do, after the checks that it makes: every dialogue is read, nothing is left behind."""
    model_dir, tokenizer_dir, made_from = read_inputs(config)
    finished = is_finished(config.output_dir, made_from)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    check_chat_template(tokenizer, tokenizer_dir)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_dir))
    check_fit(config, model, tokenizer, model_dir)
    with TemporaryDirectory(prefix="yulanmini-") as folder:
        rows = Path(folder) / ROWS_FILE
        counts = write_rows(
            config.dialogues,
            rows,
            tokenizer=tokenizer_dir,
            max_length=config.max_length,
            workers=config.workers,
            pretraining=config.pretraining,
        )["counts"]
        steps = len(ordered_rows(config, rows)[1])
    return {
        "output_dir": str(config.output_dir),
        "finished": finished,
        "parameters": model.num_parameters(),
        **counts,
        "steps": min(steps, config.max_steps or steps),
    }


def existing_folder(folder: Path, key: str, *, needs: str) -> Path:
    """The folder that a config key names; TrainError when it is missing or lacks the file `needs`."""
    if not folder.is_dir():
        raise TrainError(f"{folder}: no such folder (key '{key}').")
    if not (folder / needs).is_file():
        raise TrainError(f"{folder}: no {needs} (key '{key}'); this is not a {key} folder.")
    return folder


def is_finished(output_dir: Path, made_from: dict[str, Any]) -> bool:
    """Whether `output_dir` holds this very run, whole; anything else there is an error."""
    if folder_state(output_dir, kind=KIND, made_from=made_from) == "new":
        return False
    problems = verify_files(output_dir, content=False)
    if problems:
        raise TrainError(f"{problems[0]}. Delete {output_dir} to train again.")
    return True


def train(trainer: Any, work: Path) -> int:
    """Run to the end, or to a signal; returns the number of steps done."""
    checkpoint = latest_checkpoint(work) if trainer.args.process_index == 0 else None
    if trainer.args.world_size > 1:
        checkpoint = broadcast_object_list([checkpoint])[0]
    if trainer.args.process_index == 0:
        RunLog(work / METRICS_FILE).cut_after(step_of(checkpoint) if checkpoint else 0)
    if checkpoint:
        say(f"resuming from {checkpoint}")
        if step_of(checkpoint) >= trainer.args.max_steps:
            trainer._load_from_checkpoint(str(checkpoint))
            return step_of(checkpoint)
    with StopSignal() as stop:
        trainer.add_callback(StopOnSignal(stop))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.state.global_step


def show_plan(found: dict[str, Any], *, as_json: bool) -> None:
    """The result of a dry run, on stdout."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    done = "; finished before, nothing would be done" if found["finished"] else ""
    print(f"{found['output_dir']}: {found['steps']:,} steps for {found['parameters']:,} parameters{done}")
    shown = ("dialogues", "truncated", "dropped", "tokens", "trained_tokens")
    print(", ".join(f"{key.replace('_', ' ')} {found[key]:,}" for key in shown))


def say(message: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(message, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 bad input, 130 interrupted (the same command resumes)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="YAML file, or the name of a config such as sft-lora")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--dry-run", action="store_true", help="check the inputs, count rows and steps, then stop")
    parser.add_argument("--json", action="store_true", help="print the result of --dry-run as JSON")
    parsed = parser.parse_args(arguments)
    try:
        started = time.monotonic()
        config = load_config(SftConfig, parsed.config, parsed.overrides)
        if parsed.dry_run:
            show_plan(plan(config), as_json=parsed.json)
            return 0
        with_ranks = start_missing_ranks(lambda ranks: check_batch(config, ranks))
        if with_ranks is not None:
            report_exit_code(with_ranks)
            return with_ranks
        announce()
        folder = run(config)
        say(f"{folder}: done in {time.monotonic() - started:.1f} s")
        code = 0
    except (Interrupted, KeyboardInterrupt) as error:
        say(f"interrupted: {error or 'before the first checkpoint'}. The same command resumes from there.")
        code = 130
    except Exception as error:
        code = explain(error, memory_advice=lambda: ADVICE, folder=lambda: config.output_dir)
    report_exit_code(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
