"""Pretraining and annealing: one plain loop over the steps of a curriculum, from a laptop's CPU to several nodes.

    yulanmini train pretrain CONFIG [--set key=value ...] [--dry-run] [--max-hours H] [--force]

which is `accelerate launch train/pretrain.py CONFIG ...` from any folder (train/launch/launcher.py).

Step t is a function of t alone: train/curriculum/plan.py defines what it reads and at which rate. A run that is killed
and started again equals one that was not. Exit 0 done, 2 bad input, 130/143 stopped by Ctrl-C/SIGTERM after saving.
"""

import sys

if __name__ == "__main__":  # before the libraries, whose import takes seconds
    from train.launch import interrupt

    interrupt.catch()

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from data_recipes.manifest import folder_state
from train.config import PretrainConfig
from train.config_file import load_config
from train.curriculum.batches import check_divisible, to_device
from train.curriculum.plan import StepPlan
from train.dry_run.tables import dry_run, what_fits
from train.launch.answers import honoured
from train.launch.ranks import start_missing_ranks
from train.launch.stop import TIME_IS_UP, Stopped, StopSignal, announce, explain, report_exit_code
from train.launch.world import World, enter_world
from train.run.inputs import RUN_KIND
from train.run.outputs import end_phase, evaluate, finish
from train.run.phases import read_curriculum
from train.run.profile import StepProfiler, steps_to_profile
from train.run.resume import start_or_resume
from train.run.roll_back import roll_back
from train.run.run import Run


def train(run: Run, *, max_seconds: float | None, stop: StopSignal) -> str:
    """Run to `run.last_step`; returns "finished", "stopped" (signal) or "time" (`max_seconds`, SIGUSR1)."""
    config, curriculum, started = run.config, run.curriculum, time.monotonic()
    run.restart_clock()
    first = run.step
    while run.step < run.last_step:
        plan = curriculum.at(run.step)
        run.enter_phase(plan)
        run.profiler.begin(run.step + 1)
        if run.spikes.is_skipped(plan.step):
            run.pending.add(skipped_record(plan))
        else:
            try:
                run.pending.add(update(run, plan, stop))
            except Stopped:
                run.optimizer.zero_grad(set_to_none=True)
                run.save()
                run.checkpoints.finish()
                return how_stopped(stop)
        run.step += 1
        if trace := run.profiler.end(run.step):
            run.say(f"profile: {trace}; open it at https://ui.perfetto.dev or in chrome://tracing")
        run.garbage.after(run.step)
        if run.step == first + 1:
            run.world.limit_waiting(config.timeouts.step_minutes)
        run.checkpoints.poll()

        # All that needs the host to know values of the device, or the ranks to agree, waits for the log to be written.
        if len(run.pending) >= run.flush_every:
            offending = run.flush()
            if offending:
                roll_back(run, offending)
                continue
            time_is_up = max_seconds is not None and time.monotonic() - started > max_seconds
            if run.world.any(float(time_is_up))[0]:
                run.save()
                run.checkpoints.finish()
                return "time"

        every = config.checkpoint.every_steps
        if plan.ends_phase:
            # Re-balanced before it is saved, so that checkpoint, exported model and next phase hold the same weights;
            # saved before it is exported and scored, which may run out of memory.
            run.rebalance(plan.phase)
            run.save()
            end_phase(run, plan.phase)
        elif every and run.step % every == 0:
            run.save()
        if config.heldout and config.heldout.every_steps and run.step % config.heldout.every_steps == 0:
            evaluate(run, plan.phase.name)
    return "finished" if finish(run, stop.wanted) else how_stopped(stop)


def how_stopped(stop: StopSignal) -> str:
    """What `train` returns after a signal."""
    return "time" if stop.number == TIME_IS_UP else "stopped"


def skipped_record(plan: StepPlan) -> dict[str, Any]:
    """The record of a step whose rows are left out after spikes."""
    record = {"step": plan.step + 1, "phase": plan.phase.name, "loss": None, "lr": plan.lr, "grad_norm": None}
    return record | {"tokens": 0, "skipped": True}


def update(run: Run, plan: StepPlan, stop: StopSignal | None = None) -> dict[str, Any]:
    """One optimizer update; returns the step's record, its values still on the device. Raises `Stopped`, having changed
    nothing but gradients, where a signal of `stop` comes before the last micro-batch."""
    model, world, accelerator, config = run.model, run.world, run.accelerator, run.config
    waited = time.perf_counter()
    following = plan.step + 1 if plan.step + 1 < run.last_step else None
    rows = run.reader.get(plan, following)
    waited = time.perf_counter() - waited

    for policy in run.guard.policies.values():
        policy.before_step()
    for monitor in run.monitors.values():
        monitor.measuring = (plan.step + 1) % config.monitors.interval == 0
        monitor.before_step(plan.step + 1)

    # The global number of predicted tokens is known before the first backward pass, so every token of the step weighs
    # the same whatever the number of ranks and micro-batches: FSDP adds gradients up (train/model_setup/build.py).
    targets = world.sum(torch.tensor(rows.targets, dtype=torch.float32).to(world.device, non_blocking=True))
    sums = torch.zeros(2, device=world.device)
    for index, batch in enumerate(to_device(rows.micro_batches, world.device)):
        if stop is not None:
            stop.look(world)
        for policy in run.guard.policies.values():
            policy.before_forward(batch)
        for monitor in run.monitors.values():
            monitor.before_forward(plan.phase, batch)
        output = model(
            input_ids=batch.input_ids,
            labels=batch.labels,
            num_items_in_batch=targets,
            use_cache=False,
            **batch.document_arguments,
        )
        # Ranks exchange gradients in the last backward pass only; before it each adds up its own.
        is_last = index == len(rows.micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(model):
            accelerator.backward(output.loss)
        z_loss = output.z_loss.detach() if output.z_loss is not None else torch.zeros_like(sums[0])
        sums += torch.stack([output.loss.detach() - z_loss, z_loss])
    world.sum(sums)

    clip = config.optimizer.clip if config.optimizer.clip is not None else float("inf")
    grad_norm = accelerator.clip_grad_norm_(model.parameters(), clip)
    if hasattr(grad_norm, "full_tensor"):
        grad_norm = grad_norm.full_tensor()

    record: dict[str, Any] = {
        "step": plan.step + 1,
        "phase": plan.phase.name,
        "loss": sums[0],
        "lr": plan.lr,
        "grad_norm": grad_norm,
        "tokens": plan.phase.rows_per_step * plan.phase.context_length,
        "z_loss": sums[1],
        "waited": round(waited, 6),
    }
    record["spike"] = run.guard.check(record)
    for monitor in run.monitors.values():
        monitor.before_update(record)
    for group in run.optimizer.param_groups:
        group["lr"] = plan.lr * group["lr_factor"]
    # The fused kernel leaves parameters and moments alone where this is 1: a spike is left out without asking the host.
    run.optimizer.found_inf = record["spike"]
    run.optimizer.step()
    for monitor in run.monitors.values():
        monitor.after_update(record)
    run.optimizer.zero_grad(set_to_none=True)
    return record


def hours(text: str) -> float:
    """A time in hours, 0 or more."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is no time; give hours such as 23.5")
    return value


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `--set` may be given several times and takes several values."""
    parser = argparse.ArgumentParser(
        prog="pretrain.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="Example: accelerate launch train/pretrain.py tiny --set max_steps=100",
    )
    parser.add_argument("config", type=Path, help="YAML file, or the name of a config such as tiny")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change a key")
    parser.add_argument("--dry-run", action="store_true", help="print the curriculum and estimates, then stop")
    parser.add_argument(
        "--hardware", help="for the estimates of --dry-run: 8xH100, 56xA800, ...; default: this machine"
    )
    parser.add_argument("--mfu", type=float, help="share of the peak for the estimates; default: the published run's")
    parser.add_argument("--json", action="store_true", help="print the result of --dry-run as JSON")
    parser.add_argument("--max-hours", type=hours, help="save and stop after this time")
    parser.add_argument("--profile", metavar="STEPS", help="trace steps such as 20-22")
    parser.add_argument("--force", action="store_true", help="resume although settings or data have changed")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    options = parse_arguments(arguments)
    with StopSignal() as stop:
        try:
            config = honoured(load_config(PretrainConfig, options.config, options.set))
            folder_state(config.output_dir, kind=RUN_KIND)
            if options.profile:
                steps_to_profile(options.profile)
            if options.dry_run:
                asked = {"hardware": options.hardware, "mfu": options.mfu, "as_json": options.json}
                print(dry_run(config, **asked, force=options.force))
                return 0
            with_ranks = start_missing_ranks(lambda ranks: check_divisible(read_curriculum(config), ranks))
            if with_ranks is not None:
                return with_ranks
            announce()
            world = enter_world(config)
            try:
                return run_to_end(config, world, options, stop)
            finally:
                world.close()
        except Exception as error:
            return explain(error, memory_advice=lambda: what_fits(config), folder=lambda: config.output_dir)


def run_to_end(config: PretrainConfig, world: World, options: argparse.Namespace, stop: StopSignal) -> int:
    """Open the run, train, and report how it ended."""
    run = Run(config, world)
    try:
        start_or_resume(run, force=options.force)
        if options.profile:
            steps = steps_to_profile(options.profile)
            run.profiler = StepProfiler(steps, run.folder, world, last_step=run.last_step)
        limit = options.max_hours
        outcome = train(run, max_seconds=limit * 3600 if limit is not None else None, stop=stop)
    finally:
        run.close()
    if outcome == "finished":
        run.say(f"{run.step:,} steps done: {run.folder}")
        run.say_what_is_missing()
        return 0
    run.say(f"saved at step {run.step:,} of {run.last_step:,}; the same command resumes from there")
    return 128 + stop.number if outcome == "stopped" and stop.number else 0


if __name__ == "__main__":
    code = main()
    report_exit_code(code)
    sys.exit(code)
