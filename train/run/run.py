"""A pretraining run: its folder and all that lives as long as it does. Opens, saves, logs.

Where it begins is decided in train/run/resume.py; what happens in a step is in train/pretrain.py, what is written at
the end of a phase in train/run/outputs.py.

    config.yaml  metrics.jsonl  heldout.jsonl  hardware.json  spikes.json  checkpoints/  models/
    manifest.json (when finished)
"""

import math
import os
import sys
import time
from contextlib import ExitStack
from typing import Any

from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from data_recipes.files import only_process
from data_recipes.manifest import CLAIM_NAME, claim_folder, fingerprint_of, outermost_stage_folder
from train.checkpoints.sharded import Checkpointer
from train.config import PretrainConfig
from train.config_file import movable, resolved
from train.curriculum.batches import StepReader, check_divisible
from train.curriculum.plan import Phase, StepPlan
from train.errors import TrainError
from train.launch.world import World
from train.model_setup.attention import VARLEN, check_masks, choose_attention
from train.model_setup.build import build_model, shard_model
from train.model_setup.memory import hardware_of, with_fitting_rows
from train.model_setup.optimizers import make_optimizer, zero_moments
from train.model_setup.parameter_groups import parameter_groups
from train.model_setup.phase_edges import enter_phase, rebalance_live
from train.model_setup.recomputation import check_budget, check_compiler
from train.monitors.base import make_monitors
from train.run.beside import ScoresBeside
from train.run.garbage import GarbageCollection
from train.run.hardware import HARDWARE_FILE, Hardware
from train.run.inputs import RUN_KIND, check_data, heldout_text, identity, load_tokenizer
from train.run.log import PendingRecords, RunLog, Trackers
from train.run.phases import read_curriculum
from train.run.profile import StepProfiler
from train.spikes.guard import SpikeGuard, SpikeRecord
from train.spikes.not_finite import Finding, describe, first_not_finite

EXPLAINED = 3  # steps in a row that are not finite are each looked into; more are assumed to have the same cause


class Run:
    """Everything a step needs. `step` counts finished updates."""

    def __init__(self, config: PretrainConfig, world: World) -> None:
        assert world.accelerator is not None, "a run needs the world of `enter_world`"
        self.config, self.world, self.accelerator = config, world, world.accelerator
        self.folder = config.output_dir
        transformers_logging.disable_progress_bar()  # one bar, ours
        self.curriculum = read_curriculum(config)
        check_divisible(self.curriculum, world.size)
        check_budget(self.curriculum.phases, compile=config.compile)
        if config.compile or config.optimizer.kind == "compiled-adamw":
            check_compiler(world.device)
        attention, attention_runs = choose_attention(config.attention, precision=config.precision, device=world.device)
        check_masks(self.curriculum.phases, attention)
        self.attention_note = f"attention: {attention_runs}"
        self.tokenizer = load_tokenizer(config.tokenizer)
        self.tokenizer_fingerprint = check_data(self.curriculum, config.tokenizer)

        model, self.parametrization = build_model(config, vocab_size=len(self.tokenizer), device=world.device)
        self.curriculum, self.rows_note = with_fitting_rows(self.curriculum, config, model.config, hardware_of(world))
        self.identity = identity(
            config, self.curriculum, model=model.config.to_dict(), tokenizer=self.tokenizer_fingerprint
        )
        groups = parameter_groups(model, lr_factor=self.parametrization.lr_factor, settings=config.optimizer)
        self.optimizer = make_optimizer(groups, config.optimizer)
        self.model: Any = shard_model(model, self.optimizer, self.accelerator)
        zero_moments(self.optimizer)
        self.monitors = make_monitors(config, self.model, self.optimizer, world)
        self.reader = StepReader(
            self.curriculum, world, vocab_size=model.config.vocab_size, by_lengths=attention == VARLEN
        )
        self.heldout, self.heldout_protocol = heldout_text(config, self.curriculum, self.tokenizer)

        main = world.is_main
        self._held = ExitStack()
        if main:
            claim_folder(self.folder, kind=RUN_KIND)
            busy = TrainError(f"{self.folder}: another process is training here. Wait for it, or take another folder.")
            self._held.enter_context(only_process(self.folder / CLAIM_NAME, busy))
        world.barrier()
        self.metrics = RunLog(self.folder / "metrics.jsonl", active=main)
        self.trackers = Trackers(
            config.monitors.trackers,
            config.monitors.project,
            config.output_dir / "trackers",
            str(resolved(config, config.output_dir)),
            active=main,
        )
        self.hardware = Hardware(
            self.folder / HARDWARE_FILE,
            world.device,
            rank=world.rank,
            gather=world.gather,
            first_of_machine=os.environ.get("LOCAL_RANK", "0") == "0",
        )
        self.heldout_log = RunLog(self.folder / "heldout.jsonl", active=main)
        self.guard = SpikeGuard(config.spikes, self.model, world)
        self.spikes = SpikeRecord(self.folder / "spikes.json", config.spikes, active=main)
        self.checkpoints = Checkpointer(
            self.folder / "checkpoints",
            world,
            keep_last=config.checkpoint.keep_last,
            asynchronous=config.checkpoint.asynchronous,
        )
        self.checkpoints.kept_for_good = lambda step: self.curriculum.phase_ending_at(step) is not None
        command = config.evaluation.command if config.evaluation is not None and main else None
        self.scores = ScoresBeside(command, self.folder / "scores")
        self.pending = PendingRecords()
        self.garbage = GarbageCollection(config.collect_garbage_every)
        self.flush_every = config.monitors.flush_every or (1 if world.device.type == "cpu" else 10)
        self.restart_clock()
        self.count_from(0)
        self.profiler = StepProfiler(None, self.folder, world, last_step=self.last_step)
        self._in_a_row, self._finding = 0, Finding()
        self.progress = tqdm(
            total=self.last_step,
            desc="pretrain",
            unit="step",
            disable=not main,
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
        )

    def count_from(self, step: int) -> None:
        """`step` updates are done; those that follow go as far as there are rows."""
        self.step = step
        self.phase: Phase | None = None
        end = self.curriculum.readable_end(step)
        self.last_step = min(end, self.config.max_steps or end)

    def say_what_is_missing(self) -> None:
        """The phases that the run would go on with, if their rows were there."""
        if waiting := self.curriculum.waiting_for(self.curriculum.readable_end(self.step)):
            known = [phase.name for phase in self.curriculum.phases if phase.name not in waiting]
            self.say(
                f"goes to the end of phase {known[-1]} (step {self.curriculum.readable_end(self.step):,}): phase "
                f"{waiting[0]} is not in {self.config.data.dir}"
                + (f", after it {', '.join(waiting[1:])}" if waiting[1:] else "")
                + ". Build it, then the same command goes on."
            )

    def enter_phase(self, plan: StepPlan) -> None:
        """Put the model into the stage of the plan's phase, if it is not there yet."""
        if plan.starts_phase:
            for policy in self.guard.policies.values():
                policy.reset()
        if self.phase is not plan.phase:
            self.enter(plan.phase)

    def enter(self, phase: Phase) -> None:
        """Put the model into the stage of a phase."""
        self.phase = phase
        for policy in self.guard.policies.values():
            policy.enter(phase)
        enter_phase(self.model, phase, compile=self.config.compile)

    def rebalance(self, phase: Phase) -> None:
        """Move the matrices' scale into their alphas at the end of a phase that asks for it."""
        if phase.rebalance:
            self.say(f"phase {phase.name}: {rebalance_live(self.model, self.optimizer).summary()}")

    def save(self) -> None:
        """Checkpoint of the current step."""
        self.flush()
        self.hardware.write(self.step)
        whole = outermost_stage_folder(self.folder.resolve())
        self.checkpoints.save(
            self.step,
            self.model,
            self.optimizer,
            {
                "identity": self.identity,
                "fingerprint": fingerprint_of(self.identity),
                "model_config": self.model.config.to_dict(),
                "tokenizer": movable(self.config.tokenizer, self.checkpoints.path_of(self.step).resolve(), whole),
                "ranks": self.world.size,
                "phases": [phase.facts for phase in self.curriculum.phases],
                "monitors": {name: monitor.state_dict() for name, monitor in self.monitors.items()},
                "guard": self.guard.state_dict(),
                "spikes": self.spikes.state_dict(),
            },
        )
        self.restart_clock()

    def broadcast_from_main(self, answer: bool) -> bool:
        """Rank 0's answer on every rank: others may see a file on a shared disk later."""
        return self.world.any(float(answer and self.world.is_main))[0] > 0

    def restart_clock(self) -> None:
        """What lies between here and the last step (saving, scoring) is not part of the next step's `seconds`."""
        self._clock = time.perf_counter()

    def flush(self) -> dict[int, Finding | None] | None:
        """Bring pending records to the host and write them; the spiked steps if it is time to roll back."""
        for problem in self.scores.poll():
            self.say(f"warning: {problem}")
        self.hardware.sample()
        records = self.pending.take()
        if not records:
            return None
        now = time.perf_counter()
        seconds, self._clock = (now - self._clock) / len(records), now
        for record in records:
            record["seconds"] = round(seconds, 6)
            if not record.get("spike"):
                record.pop("spike", None)
        for monitor in self.monitors.values():
            for warning in monitor.on_records(records):
                self.say(f"warning: {warning}")
        self._explain(records)
        self.metrics.append(records)
        self.trackers.log(records)
        last = records[-1]
        self.progress_to(last)
        return self.spikes.update(records)

    def _explain(self, records: list[dict[str, Any]]) -> None:
        """Report which steps were spikes and why; what was not finite goes into their records."""
        for record in records:
            plan = self.curriculum.at(record["step"] - 1)
            reason = self.guard.explain(record, plan)
            if not record.get("spike"):
                self._in_a_row = 0
                continue
            why = f"loss {record['loss']:.4g}, gradient norm {record['grad_norm']:.4g}"
            if not (math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])):
                # Without an update in between the weights of the step before were the same.
                if self._in_a_row == 0 or (self._in_a_row < EXPLAINED and self._finding["first"] != "weights"):
                    self._finding = first_not_finite(self.model, self.reader, plan, self.world)
                elif self._finding["first"] != "weights":
                    self._finding = self._finding | {"rows": []}
                self._in_a_row += 1
                record["not_finite"] = self._finding
                reason = describe(self._finding)
            why = f"{why}; {reason}" if reason else why
            self.say(f"step {record['step']}: a spike ({why}); its update was left out")

    def progress_to(self, record: dict[str, Any]) -> None:
        """Move the progress bar to a finished step."""
        loss = math.nan if record["loss"] is None else record["loss"]
        self.progress.set_postfix(phase=record["phase"], loss=f"{loss:.3f}", lr=f"{record['lr']:.2e}", refresh=False)
        self.progress.update(record["step"] - self.progress.n)

    def close(self) -> None:
        """End threads and the progress bar, also after an error."""
        self.garbage.close()
        self.reader.close()
        self.scores.close()
        self.checkpoints.close()
        self._held.close()
        self.progress.close()

    def say(self, message: str) -> None:
        """A message on stderr, from rank 0, that leaves the progress bar whole."""
        if self.world.is_main:
            tqdm.write(f"pretrain: {message}", file=sys.stderr)
