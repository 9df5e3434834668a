"""What happens beside the steps of instruction tuning: a line of metrics, a seal on checkpoints, a clean stop."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from train.errors import TrainError
from train.launch.stop import StopSignal
from train.run.hardware import Hardware
from train.run.log import RunLog, Trackers

# Of the Trainer's logs: what has another name here, and what says nothing that the step does not.
OTHERWISE_NAMED = ("learning_rate", "epoch", "num_tokens", "runtime")


class Metrics(TrainerCallback):
    """One JSON line a step, and a progress bar: step (1-based, after the update), loss, lr, grad_norm before clipping,
    tokens (all ranks, without padding) where they are known, seconds, and whatever else TRL measures.

    A line of evaluation.jsonl before the first step, at each evaluation and after the last step.
    """

    def __init__(
        self, log: RunLog, evaluations: RunLog, trackers: Trackers, *, step_tokens: np.ndarray | None, name: str
    ) -> None:
        self.log, self.evaluations, self.trackers = log, evaluations, trackers
        self.step_tokens = step_tokens
        self.name = name
        self.bar: tqdm | None = None
        self.step_started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.name, unit="step")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step_started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.eval_strategy != "no" and state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainError(f"the loss is {logs['loss']} at step {state.global_step}; lower optimizer.lr.")
        if self.bar is None:
            return
        line = {
            "step": state.global_step,
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
        }
        if self.step_tokens is not None:
            line["tokens"] = int(self.step_tokens[state.global_step - 1])
        line["seconds"] = round(time.perf_counter() - self.step_started, 4)
        line |= {key: value for key, value in logs.items() if key not in (*line, *OTHERWISE_NAMED)}
        self.log.append([line])
        self.trackers.log([line])
        self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
        self.bar.update()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        if self.bar is None:
            return
        numbers = {key.removeprefix("eval_"): value for key, value in metrics.items()}
        line = {key: value for key, value in numbers.items() if key not in OTHERWISE_NAMED and "_per_second" not in key}
        self.evaluations.append([{"step": state.global_step, **line}])
        self.trackers.log([{"step": state.global_step, "evaluation": line}])
        self.step_started = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class RecordHardware(TrainerCallback):
    """Write hardware.json with every checkpoint and at the end, on all ranks."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.hardware.sample()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.hardware.write(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.hardware.write(state.global_step)


class SealCheckpoints(TrainerCallback):
    """Call `seal` on each checkpoint once the Trainer has written all of it."""

    def __init__(self, seal: Callable[[Path], None]) -> None:
        self.seal = seal

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.world_size > 1:
            torch.distributed.barrier()  # each rank writes a part
        if state.is_world_process_zero:
            newest = get_last_checkpoint(args.output_dir)
            self.seal(Path(newest))


class StopOnSignal(TrainerCallback):
    """Once a signal to stop has come, write a checkpoint at the end of the step and stop."""

    def __init__(self, stop: StopSignal) -> None:
        self.stop = stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wanted = bool(self.stop.wanted())
        if args.world_size > 1:  # the signal reaches one rank, and all have to stop at the same step
            flag = torch.tensor(float(wanted), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            wanted = bool(flag)
        if wanted:
            control.should_save = True
            control.should_training_stop = True
