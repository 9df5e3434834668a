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
from train.run.log import RunLog


class Metrics(TrainerCallback):
    """One JSON line a step: step (1-based, after the update), loss (nats per trained token), lr, grad_norm before
    clipping, tokens (all ranks, without padding), seconds; and a progress bar."""

    def __init__(self, path: Path, step_tokens: np.ndarray) -> None:
        self.log = RunLog(path)
        self.step_tokens = step_tokens
        self.bar: tqdm | None = None
        self.step_started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="sft", unit="step")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step_started = time.perf_counter()

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
            "tokens": int(self.step_tokens[state.global_step - 1]),
            "seconds": round(time.perf_counter() - self.step_started, 4),
        }
        self.log.append([line])
        self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
        self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class SealCheckpoints(TrainerCallback):
    """Call `seal` on each checkpoint once the Trainer has written all of it."""

    def __init__(self, seal: Callable[[Path], None]) -> None:
        self.seal = seal

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
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
