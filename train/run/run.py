"""A pretraining run: its folder and all that lives as long as it does. Opens, resumes, saves, logs.

What happens in a step is in train/pretrain.py, what is written at the end of a phase in train/run/outputs.py.

    config.yaml  metrics.jsonl  heldout.jsonl  spikes.json  checkpoints/  models/  manifest.json (when finished)
"""

import math
import sys
import time
from typing import Any

from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from data_recipes.manifest import MANIFEST_NAME
from train.checkpoints.sharded import Checkpointer, load_state
from train.config import PretrainConfig
from train.config_file import resolved, settings_text
from train.curriculum.batches import StepReader, check_divisible
from train.curriculum.plan import Phase, StepPlan, read_curriculum
from train.errors import TrainError
from train.launch.world import World
from train.model_setup.build import build_model, shard_model
from train.model_setup.parameter_groups import make_adamw, parameter_groups
from train.model_setup.phase_edges import enter_phase, rebalance_live
from train.model_setup.recomputation import check_compiler
from train.monitors.base import make_monitors
from train.run.identity import differences, fingerprint, identity
from train.run.inputs import check_data, check_init, heldout_text, holds_model, load_tokenizer
from train.run.log import PendingRecords, RunLog, Trackers
from train.run.outputs import end_phase, evaluate, write_run_manifest
from train.spikes.guard import SpikeGuard, SpikeRecord


class Run:
    """Everything a step needs. `step` counts finished updates."""

    def __init__(self, config: PretrainConfig, world: World, *, force: bool = False) -> None:
        self.config, self.world = config, world
        self.folder = config.output_dir
        transformers_logging.disable_progress_bar()  # one bar, ours
        self.curriculum = read_curriculum(config)
        check_divisible(self.curriculum, world.size)
        if config.compile:
            check_compiler(world.device)
        self.last_step = min(self.curriculum.total_steps, config.max_steps or self.curriculum.total_steps)
        self.tokenizer = load_tokenizer(config.tokenizer)
        self.tokenizer_fingerprint = check_data(self.curriculum, config.tokenizer)

        model, self.parametrization = build_model(config, vocab_size=len(self.tokenizer), device=world.device)
        self.identity = identity(
            config, self.curriculum, model=model.config.to_dict(), tokenizer=self.tokenizer_fingerprint
        )
        self.model: Any = shard_model(
            model, world, precision=config.precision, reshard_after_forward=config.reshard_after_forward
        )
        groups = parameter_groups(self.model, lr_factor=self.parametrization.lr_factor, settings=config.optimizer)
        self.optimizer = make_adamw(groups, config.optimizer)
        self.monitors = make_monitors(config, self.model, self.optimizer, world)
        self.reader = StepReader(self.curriculum, world, vocab_size=model.config.vocab_size, attention=config.attention)
        self.heldout, self.heldout_protocol = heldout_text(config, self.curriculum, self.tokenizer)

        self.folder.mkdir(parents=True, exist_ok=True)
        main = world.is_main
        self.metrics = RunLog(self.folder / "metrics.jsonl", active=main)
        self.trackers = Trackers(config, active=main)
        self.heldout_log = RunLog(self.folder / "heldout.jsonl", active=main)
        self.guard = SpikeGuard(config.spikes, world.device)
        self.spikes = SpikeRecord(self.folder / "spikes.json", config.spikes, active=main)
        self.checkpoints = Checkpointer(
            self.folder / "checkpoints",
            world,
            keep_last=config.checkpoint.keep_last,
            asynchronous=config.checkpoint.asynchronous,
        )
        self.checkpoints.kept_for_good = lambda step: self.curriculum.phase_ending_at(step) is not None
        self.pending = PendingRecords()
        self.flush_every = config.monitors.flush_every or (1 if world.device.type == "cpu" else 10)
        self.restart_clock()
        self.step = 0
        self._phase: Phase | None = None
        self._start_or_resume(force)
        self.progress = tqdm(
            total=self.last_step,
            initial=self.step,
            desc="pretrain",
            unit="step",
            disable=not main,
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
        )

    # -- beginning ------------------------------------------------------------------------------------------------

    def _start_or_resume(self, force: bool) -> None:
        found = self.checkpoints.latest()
        if found is None:
            if self.metrics.path.exists() and self.metrics.lines() and not force:
                raise TrainError(
                    f"{self.folder}: holds the log of a run but no checkpoint. Choose another output_dir or remove it."
                )
            self._begin()
            return
        step, trainer, problems = found
        for problem in problems:
            self.say(f"skipping a damaged checkpoint: {problem} Going back to step {step}.")
        changed = differences(trainer["identity"], self.identity)
        if changed and not force:
            raise TrainError(
                f"{self.checkpoints.path_of(step)} belongs to a run with other settings:\n  "
                + "\n  ".join(changed[:12])
                + "\nTake them back, choose another output_dir, or add --force to go on with the new ones."
            )
        self.load(step, trainer)
        self.say(f"going on from step {step:,} of {self.last_step:,}")

    def _begin(self) -> None:
        """Step 0: state of the user's own checkpoint if one is named, a first checkpoint to fall back on."""
        init = self.config.init
        if init is not None and not holds_model(init.path):
            check_init(init.path, tokenizer=self.tokenizer_fingerprint)
            load_state(init.path, self.model, self.optimizer if init.optimizer else None)
        elif init is not None and init.optimizer:
            raise TrainError(f"init.optimizer: {init.path} is a model folder and holds no optimizer state.")
        if self.world.is_main:
            (self.folder / "config.yaml").write_text(settings_text(resolved(self.config)))
            (self.folder / MANIFEST_NAME).unlink(missing_ok=True)
        for log in (self.metrics, self.heldout_log):
            log.cut_after(-1)
        self.save()
        evaluate(self, "0")

    def load(self, step: int, trainer: dict[str, Any]) -> None:
        """Take up the state saved at `step`; logs and later checkpoints are cut back to it."""
        self.checkpoints.load(step, self.model, self.optimizer)
        for name, monitor in self.monitors.items():
            if name in trainer["monitors"]:
                monitor.load_state_dict(trainer["monitors"][name])
        self.guard.load_state_dict(trainer["guard"])
        self.spikes.load_state_dict(trainer["spikes"])
        self.checkpoints.remove_after(step)
        for log in (self.metrics, self.heldout_log):
            log.cut_after(step)
        if self.world.is_main:
            (self.folder / MANIFEST_NAME).unlink(missing_ok=True)
            (self.folder / "config.yaml").write_text(settings_text(resolved(self.config)))
        self.pending.take()
        self.step = step
        self._phase = None
        if step == 0:
            evaluate(self, "0")
        elif ended := self.curriculum.phase_ending_at(step):
            self._enter(ended)
            end_phase(self, ended)  # what a kill between checkpoint and export left undone

    # -- during ---------------------------------------------------------------------------------------------------

    def enter_phase(self, plan: StepPlan) -> None:
        """Put the model into the stage of the plan's phase, if it is not there yet."""
        if plan.starts_phase:
            self.guard.reset()
        if self._phase is not plan.phase:
            self._enter(plan.phase)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        enter_phase(self.model, phase, compile=self.config.compile)

    def rebalance(self, phase: Phase) -> None:
        """Move the matrices' scale into their alphas at the end of a phase that asks for it."""
        if phase.rebalance:
            self.say(f"phase {phase.name}: {rebalance_live(self.model, self.optimizer).summary()}")

    def save(self) -> None:
        """Checkpoint of the current step."""
        self.flush()
        self.checkpoints.save(
            self.step,
            self.model,
            self.optimizer,
            {
                "identity": self.identity,
                "fingerprint": fingerprint(self.identity),
                "model_config": self.model.config.to_dict(),
                "tokenizer": str(self.config.tokenizer.absolute()),
                "ranks": self.world.size,
                "monitors": {name: monitor.state_dict() for name, monitor in self.monitors.items()},
                "guard": self.guard.state_dict(),
                "spikes": self.spikes.state_dict(),
            },
        )
        self.restart_clock()

    def main_says(self, answer: bool) -> bool:
        """Rank 0's answer on every rank: others may see a file on a shared disk later."""
        return self.world.any(float(answer and self.world.is_main))[0] > 0

    def restart_clock(self) -> None:
        """What lies between here and the last step (saving, scoring) is not part of the next step's `seconds`."""
        self._clock = time.perf_counter()

    def flush(self) -> list[int] | None:
        """Bring pending records to the host and write them; steps to leave out if it is time to roll back."""
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
        self.metrics.append(records)
        self.trackers.log(records)
        last = records[-1]
        self.progress_to(last)
        for record in records:
            if record.get("spike"):
                self.say(
                    f"step {record['step']}: a spike (loss {record['loss']:.4g}, gradient norm "
                    f"{record['grad_norm']:.4g}); its update was left out"
                )
        return self.spikes.see(records)

    def progress_to(self, record: dict[str, Any]) -> None:
        """Move the progress bar to a finished step."""
        bar = getattr(self, "progress", None)
        if bar is not None:
            loss = math.nan if record["loss"] is None else record["loss"]
            bar.set_postfix(phase=record["phase"], loss=f"{loss:.3f}", lr=f"{record['lr']:.2e}", refresh=False)
            bar.update(record["step"] - bar.n)

    # -- the end --------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Last checkpoint, then the manifest that says the run is whole."""
        self.save()
        self.checkpoints.finish()
        self.progress.close()
        if self.world.is_main:
            write_run_manifest(self)

    def close(self) -> None:
        """Let go of threads and the progress bar, whatever happened."""
        self.reader.close()
        self.progress.close()

    def say(self, message: str) -> None:
        """A message on stderr, from rank 0, that leaves the progress bar whole."""
        if self.world.is_main:
            tqdm.write(f"pretrain: {message}", file=sys.stderr)
