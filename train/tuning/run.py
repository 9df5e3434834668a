"""The way of every tuning run: inputs checked, a work folder claimed, rows made, trained, one whole folder left.

`train/sft.py`, `train/dpo.py` and `train/on_policy.py` say what differs between the kinds, as subclasses of `Tuning`.
A killed run resumes from its newest sealed checkpoint and ends with the weights of one that was not disturbed.
"""

import argparse
import json
import math
import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
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
from train.run.hardware import HARDWARE_FILE, Hardware
from train.run.log import RunLog, Trackers
from train.tuning.adapter_card import write_adapter_card
from train.tuning.callbacks import Metrics, RecordHardware, SealCheckpoints, StopOnSignal
from train.tuning.checkpoints import (
    EVALUATION_FILE,
    METRICS_FILE,
    claim_work_folder,
    latest_checkpoint,
    seal,
    step_of,
    work_folder,
    work_kind,
)
from train.tuning.config import TuningConfig
from train.tuning.model import (
    ADAPTER_FOLDER,
    attention_of,
    check_fit,
    choose_trained,
    load_model,
    save_model,
    snapshot,
)
from train.tuning.trainer import check_batch, common_arguments, enter, prepare_trainer

ADVICE = "Lower micro_batch_size, or set recomputation.mode to full."
TRACKERS_FOLDER = "trackers"


class Interrupted(Exception):
    """A signal ended the run after a checkpoint was written."""


@dataclass
class Rows:
    """What is trained on: rows in the order in which training reads them (or, with `order`, in any), and what became
    of the data.

    `step_tokens`: int64 [steps], what each step reads, where that is known before it. `counts` go to the manifest.
    `stop_ids`: tokens that end an answer, for the tuned model's generation config.
    """

    train: Dataset
    steps: int
    counts: dict[str, int]
    stop_ids: list[int] = field(default_factory=list)
    step_tokens: np.ndarray | None = None
    evaluation: Dataset | None = None
    order: np.ndarray | None = None


@dataclass(frozen=True)
class Inputs:
    """The folders of model and tokenizer, and what the tuned model is made from: config and fingerprints."""

    model: Path
    tokenizer: Path
    made_from: dict[str, Any]


class Tuning(ABC):
    """A kind of tuning, for one config of its own."""

    config_type: ClassVar[type[TuningConfig]]
    length_key: ClassVar[str] = "max_length"

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def kind(self) -> str:
        """The kind of the finished folder: the script's name."""
        return self.config.script

    @property
    def pads(self) -> bool:
        """Whether the rows of a micro-batch are padded to the longest; else they lie end to end."""
        return True

    @abstractmethod
    def data(self) -> dict[str, Path]:
        """The files that rows are made from, by their keys."""

    def more_inputs(self, tokenizer: Path) -> dict[str, str]:
        """Fingerprints of what else the rows are made from, by key; TrainError for what cannot be used."""
        return {}

    @abstractmethod
    def rows(self, work: Path, tokenizer: Path) -> Rows:
        """Make the rows in the folder `work`, or take those that are there; TrainError names a bad line."""

    @abstractmethod
    def trainer(self, arguments: dict[str, Any], model: Any, tokenizer: Any, rows: Rows) -> Any:
        """TRL's trainer, with `arguments` for its config and what this kind adds to them."""

    def longest_row(self) -> int:
        """The most tokens that the model sees at once."""
        return self.config.max_length


def run(tuning: Tuning) -> Path:
    """Train, resuming where an interrupted run stopped; returns the finished folder."""
    output_dir, work = tuning.config.output_dir, work_folder(tuning.config.output_dir)
    inputs = read_inputs(tuning)
    if is_finished(tuning, inputs.made_from):
        say(f"{output_dir}: finished before, nothing to do")
        if folder_state(work, kind=work_kind(tuning.kind)) == "begun":
            shutil.rmtree(work)  # left by a kill between the last two actions
        return output_dir
    trainer, rows = new_trainer(tuning, inputs)
    trained_steps = train(trainer, tuning, rows, work)
    if trained_steps < rows.steps:
        raise Interrupted(f"stopped after step {trained_steps} of {rows.steps}; a checkpoint is in {work}")
    finish(trainer, tuning, rows, inputs)
    return output_dir


def new_trainer(tuning: Tuning, inputs: Inputs) -> tuple[Any, Rows]:
    """TRL's trainer at its first step and the rows that it reads, in a work folder that is claimed for the run."""
    config, work = tuning.config, work_folder(tuning.config.output_dir)
    state = enter(config)
    arguments = common_arguments(config, work)
    if state.is_main_process:
        claim_work_folder(work, inputs.made_from, kind=work_kind(tuning.kind))
    tokenizer = AutoTokenizer.from_pretrained(inputs.tokenizer)
    with state.main_process_first():
        rows = tuning.rows(work, inputs.tokenizer)
    rows.steps = min(rows.steps, config.max_steps or rows.steps)
    if rows.step_tokens is not None:  # a step is a batch of rows, and there are no more
        count = rows.steps * config.batch_size
        if rows.order is None:
            rows.train = rows.train.select(range(count))
        else:
            rows.order = rows.order[:count]
    arguments["max_steps"] = rows.steps
    arguments["warmup_steps"] = math.ceil(config.optimizer.warmup_ratio * rows.steps)
    model = load_model(config.dtype, inputs.model, attention_of(config, pads=tuning.pads), config.quantization)
    check_fit(tuning.longest_row(), model, tokenizer, inputs.model, key=tuning.length_key)
    choose_trained(config, model, inputs.model)
    return prepare_trainer(tuning.trainer, config, arguments, model, tokenizer, rows), rows


def read_inputs(tuning: Tuning) -> Inputs:
    """What the run is made from; TrainError for what is not there."""
    config = tuning.config
    model = snapshot(config.model, "model", needs="config.json")
    tokenizer = snapshot(config.tokenizer or config.model, "tokenizer", needs="tokenizer.json")
    inputs = {"model": folder_fingerprint(model), "tokenizer": folder_fingerprint(tokenizer)}
    files = tuning.data()
    if config.evaluation is not None and config.evaluation.file is not None:
        files["evaluation.file"] = config.evaluation.file
    for key, path in files.items():
        if not path.is_file():
            raise TrainError(f"{path}: no such file (key '{key}'); expected a .jsonl file.")
        inputs[key] = sha256_file(path)
    inputs |= tuning.more_inputs(tokenizer)
    return Inputs(model, tokenizer, {"config": resolved(config, config.output_dir), "inputs": inputs})


def plan(tuning: Tuning) -> dict[str, Any]:
    """What a run would do, after the checks that it makes: all data is read, nothing is left behind."""
    config = tuning.config
    inputs = read_inputs(tuning)
    finished = is_finished(tuning, inputs.made_from)
    tokenizer = AutoTokenizer.from_pretrained(inputs.tokenizer)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(inputs.model))
    check_fit(tuning.longest_row(), model, tokenizer, inputs.model, key=tuning.length_key)
    with TemporaryDirectory(prefix="yulanmini-") as folder:
        rows = tuning.rows(Path(folder), inputs.tokenizer)
    return {
        "output_dir": str(config.output_dir),
        "finished": finished,
        "parameters": model.num_parameters(),
        **rows.counts,
        "steps": min(rows.steps, config.max_steps or rows.steps),
    }


def is_finished(tuning: Tuning, made_from: dict[str, Any]) -> bool:
    """Whether the run's folder holds this very run, whole; anything else there is an error."""
    output_dir = tuning.config.output_dir
    if folder_state(output_dir, kind=tuning.kind, made_from=made_from) == "new":
        return False
    problems = verify_files(output_dir, content=False)
    if problems:
        raise TrainError(f"{problems[0]}. Delete {output_dir} to train again.")
    return True


def train(trainer: Any, tuning: Tuning, rows: Rows, work: Path) -> int:
    """Run to the end, or to a signal; returns the number of steps done."""
    is_main = trainer.args.process_index == 0
    checkpoint = latest_checkpoint(work) if is_main else None
    if trainer.args.world_size > 1:
        checkpoint = broadcast_object_list([checkpoint])[0]
    done = step_of(checkpoint) if checkpoint else 0
    log, evaluations = RunLog(work / METRICS_FILE), RunLog(work / EVALUATION_FILE)
    if is_main:
        log.cut_after(done)
        evaluations.cut_after(done)
    if checkpoint:
        say(f"resuming from {checkpoint}")
        trainer.args.eval_on_start = False  # it was measured before
        if done >= trainer.args.max_steps and not trainer.is_fsdp_enabled:  # that loads what is sharded, for no step
            trainer._load_from_checkpoint(str(checkpoint))
            return done
    monitors, settings = tuning.config.monitors, settings_text(resolved(tuning.config, tuning.config.output_dir))
    trackers = Trackers(monitors.trackers, monitors.project, work / TRACKERS_FOLDER, settings, active=is_main)
    trainer.add_callback(Metrics(log, evaluations, trackers, step_tokens=rows.step_tokens, name=tuning.kind))
    trainer.add_callback(SealCheckpoints(seal))
    hardware = Hardware(
        work / HARDWARE_FILE,
        trainer.args.device,
        rank=trainer.args.process_index,
        gather=lambda value: gather_object([value]),
        first_of_machine=trainer.args.local_process_index == 0,
    )
    trainer.add_callback(RecordHardware(hardware))
    with StopSignal() as stop:
        trainer.add_callback(StopOnSignal(stop))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trackers.finish()
    return trainer.state.global_step


def finish(trainer: Any, tuning: Tuning, rows: Rows, inputs: Inputs) -> None:
    """The finished folder from what is trained, whole or not at all; then the work folder goes."""
    config, work = tuning.config, work_folder(tuning.config.output_dir)
    state_dict = trainer.accelerator.get_state_dict(trainer.model) if trainer.args.world_size > 1 else None
    if trainer.args.process_index != 0:
        return
    settings, fingerprints = inputs.made_from["config"], inputs.made_from["inputs"]
    counts = {**rows.counts, "steps": rows.steps}
    if rows.step_tokens is not None:
        counts["trained_on_tokens"] = int(rows.step_tokens[: rows.steps].sum())
    stop_ids = sorted({*rows.stop_ids, trainer.processing_class.eos_token_id})
    with whole_folder(config.output_dir) as partial:
        save_model(
            config,
            trainer.accelerator.unwrap_model(trainer.model),
            partial,
            state_dict,
            base=inputs.model,
            stop_ids=stop_ids,
        )
        if config.lora is not None:
            write_adapter_card(
                partial / ADAPTER_FOLDER,
                config,
                data=tuning.data(),
                counts=counts,
                inputs=fingerprints,
                metrics=work / METRICS_FILE,
            )
        for code in inputs.model.glob("*.py"):
            shutil.copy(code, partial)
        copy_tokenizer(inputs.tokenizer, partial)
        for name in (METRICS_FILE, EVALUATION_FILE, HARDWARE_FILE):
            if (work / name).is_file():
                shutil.copy(work / name, partial)
        if (work / TRACKERS_FOLDER).is_dir():
            shutil.copytree(work / TRACKERS_FOLDER, partial / TRACKERS_FOLDER)
        (partial / "config.yaml").write_text(settings_text(settings))
        write_manifest(
            partial,
            kind=tuning.kind,
            inputs=fingerprints,
            config=settings,
            counts=counts,
            seed=config.seed,
            last_metrics=json.loads((work / METRICS_FILE).read_text().splitlines()[-1]),
        )
    shutil.rmtree(work)


def show_plan(found: dict[str, Any], *, as_json: bool) -> None:
    """The result of a dry run, on stdout."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    done = "; finished before, nothing would be done" if found["finished"] else ""
    print(f"{found['output_dir']}: {found['steps']:,} steps for {found['parameters']:,} parameters{done}")
    shown = [key for key in found if key not in ("output_dir", "finished", "parameters", "steps")]
    print(", ".join(f"{key.replace('_', ' ')} {found[key]:,}" for key in shown))


def say(message: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(message, file=sys.stderr, flush=True)


def main(kind: type[Tuning], description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 bad input, 130 interrupted (the same command resumes)."""
    script = kind.config_type.script
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help=f"YAML file, or the name of a config such as {script}-lora")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--dry-run", action="store_true", help="check the inputs, count rows and steps, then stop")
    parser.add_argument("--json", action="store_true", help="print the result of --dry-run as JSON")
    parsed = parser.parse_args(arguments)
    try:
        started = time.monotonic()
        config = load_config(kind.config_type, parsed.config, parsed.overrides)
        if parsed.dry_run:
            show_plan(plan(kind(config)), as_json=parsed.json)
            return 0
        with_ranks = start_missing_ranks(lambda ranks: check_batch(config, ranks))
        if with_ranks is not None:
            report_exit_code(with_ranks)
            return with_ranks
        announce()
        folder = run(kind(config))
        say(f"{folder}: done in {time.monotonic() - started:.1f} s")
        code = 0
    except (Interrupted, KeyboardInterrupt) as error:
        say(f"interrupted: {error or 'before the first checkpoint'}. The same command resumes from there.")
        code = 130
    except Exception as error:
        code = explain(error, memory_advice=lambda: ADVICE, folder=lambda: config.output_dir)
    report_exit_code(code)
    return code
