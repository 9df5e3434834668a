"""Our training loop against HF Trainer on the same model, batch and rows; reading, waiting and monitors measured apart.

    python benchmarks/train_step.py --run runs/tiny                       the miniature on the CPU, some minutes
    python benchmarks/train_step.py --run runs/tiny --full                2.42B in bf16 on one GPU, fp32 masters
    python benchmarks/train_step.py --run runs/tiny --full --context 28672 --rows 3 --micro-batch 1 --recompute 56 \
        --document-mask                                                   the same at 28K

Each contender has a process of its own. On the CPU they take single steps in turn: our loop, and HF Trainer with our
model, optimizer groups and schedule; their losses must agree. On a GPU, one after the other: our loop, our loop without
compile, and HF Trainer with transformers' Llama of the same shape and Liger's kernels. The rows are real
text from a run of `yulanmini reproduce`, packed at the context asked for. A process as a whole is some percent faster
or slower than its equal; the ratio is the mean over the repeats, with its standard error.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import queue
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train_contenders import CONTENDERS, WARMUP, Turns, build_rows, settings

READER_TOKENS, READER_STEP = 64_000_000, 262_144
READER_FLOOR = 20.0  # M tokens/s
WAITING_FLOOR = 0.01
MONITOR_FLOOR = 0.01


def reader_speed(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """M tokens a second of the loop's own reader (labels, masks, checks and all) in steps of 256K tokens, one thread.

    At the miniature's and at the published context, without and with document mask. Median of five passes over the
    rows, after a first one that brings them from the disk into memory.
    """
    import torch

    from data_recipes.recipes.yaml_schema import validate
    from train.config import PretrainConfig
    from train.curriculum.batches import StepReader
    from train.curriculum.plan import make_curriculum
    from train.launch.world import World
    from train.run.phases import known_phases

    torch.set_num_threads(1)
    found = {}
    for context in (128, 4096):
        data = build_rows(options.run, folder / f"reader-{context}", context=context, tokens=READER_TOKENS)
        for mask in (False, True):
            values = settings(options, data, Path("run")) | {
                "tokens_per_step": READER_STEP,
                "micro_batch_rows": None,
                "stages": [{"phases": "1", "document_mask": mask}],
            }
            config = validate(PretrainConfig, values, where="benchmark")
            curriculum = make_curriculum(config, known_phases(config))
            world = World(torch.device("cpu"), 0, 1)
            reader = StepReader(curriculum, world, vocab_size=1_000_000, by_lengths=False)
            speeds = []
            for _ in range(6):
                begin = time.perf_counter()
                for step in range(curriculum.total_steps):
                    reader.read(curriculum.at(step))
                speeds.append(curriculum.total_steps * READER_STEP / (time.perf_counter() - begin) / 1e6)
            reader.close()
            name = f"context {context}, {'with' if mask else 'without'} document mask"
            found[name] = statistics.median(speeds[1:])
    return found


def carry_out(
    name: str, options: argparse.Namespace, data: Path, turns: Turns | None = None, results: Any = None
) -> dict[str, Any]:
    """One contender, in this process; puts what it found into `results` too, if given."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    function, changes = CONTENDERS[name]
    found = function(options, data, changes, turns)
    if results is not None:
        results.put((name, found))
    return found


def side_by_side(names: list[str], options: argparse.Namespace, data: Path) -> dict[str, dict[str, Any]]:
    """All contenders at once, a step each in turn."""
    context = multiprocessing.get_context("spawn")
    gates = [context.Semaphore(1 if index == 0 else 0) for index in range(len(names))]
    ready, results = context.Barrier(len(names)), context.Queue()
    processes = []
    for index, name in enumerate(names):
        following = gates[(index + 1) % len(names)]
        turns = Turns(gates[index], following, ready, options.steps + WARMUP)
        processes.append(context.Process(target=carry_out, args=(name, options, data, turns, results)))
    for process in processes:
        process.start()
    found: dict[str, dict[str, Any]] = {}
    try:
        while len(found) < len(names):
            with contextlib.suppress(queue.Empty):
                name, figures = results.get(timeout=1)
                found[name] = figures
            if any(process.exitcode for process in processes):
                raise SystemExit("a contender failed; its message is above")
    finally:
        for process in processes:
            if len(found) < len(names):
                process.kill()
            process.join()
    return found


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """All contenders, `--repeats` times; medians over all steps of all turns, the ratio
    of each repeat by itself."""
    on_cpu = options.device == "cpu"
    names = [name for name in CONTENDERS if (name != "ours, plain") or not on_cpu]
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(options.repeats):
        print(f"repeat {turn + 1} of {options.repeats}", file=sys.stderr)
        order = names if turn % 2 == 0 else names[::-1]
        if on_cpu:
            done = side_by_side(order, options, data)
        else:  # one GPU's memory does not hold them all
            done = {name: in_process(carry_out, name, options, data) for name in order}
        for name in names:
            turns[name].append(done[name])
    tokens = options.rows * options.context
    found: dict[str, Any] = {}
    for name, done in turns.items():
        seconds = statistics.median(value for turn in done for value in turn["seconds"])
        found[name] = {"seconds": seconds, "tokens_per_second": tokens / seconds, "memory_gib": done[0]["memory_gib"]}
    waiting = statistics.median(turn["waiting"] for turn in turns["ours"])
    # Measured at every step, to be seen above the noise; at the miniature's interval a 20th of that falls on a step.
    every, none = found["ours, all monitors at every step"]["seconds"], found["ours, no monitors"]["seconds"]
    ratios = [
        statistics.median(theirs["seconds"]) / statistics.median(mine["seconds"])
        for mine, theirs in zip(turns["ours"], turns["HF Trainer"], strict=True)
    ]
    result = {
        "what": "one training step, whole loop; ratio above 1 means our loop is faster",
        "options": {key: value for key, value in vars(options).items() if not isinstance(value, Path)},
        "machine": {"processor": platform.processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
        "contenders": found,
        "ratio_hf_trainer_over_ours": statistics.mean(ratios),
        "ratio_standard_error": statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else None,
        "ratio_in_each_repeat": ratios,
        "share_of_time_waiting_for_rows": waiting,
        "monitors_share_of_a_step_at_interval_20": (every - none) / none / 20,
        "reader_million_tokens_per_second": in_process(reader_speed, options, data.parent),
    }
    if on_cpu:
        pairs = zip(turns["ours"][0]["losses"], turns["HF Trainer"][0]["losses"], strict=True)
        result["largest_loss_difference"] = max(abs(a - b) for a, b in pairs)
    else:
        result["mfu"] = mfu(options, found)
    return result


def mfu(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any] | None:
    """MFU of each contender by convention, with the peak assumed; None for an unknown device."""
    import torch

    from modeling_yulanmini import YuLanMiniConfig
    from modeling_yulanmini.counts import peak_flops, training_flops_per_token

    device = torch.cuda.get_device_name()
    peak = options.peak_tflops * 1e12 if options.peak_tflops else peak_flops(device)
    if peak is None:
        return None
    flops = training_flops_per_token(YuLanMiniConfig(vocab_size=99_000), options.context)
    by_name = {
        name: {convention: count * entry["tokens_per_second"] / peak for convention, count in flops.items()}
        for name, entry in found.items()
    }
    return {"device": device, "peak_flops": peak, "by_contender": by_name}


def check(result: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """What falls short of the floors."""
    problems = []
    if result.get("largest_loss_difference", 0) > 2e-3:
        problems.append(f"the loops disagree: losses differ by {result['largest_loss_difference']:.3g}")
    ratio, error = result["ratio_hf_trainer_over_ours"], result["ratio_standard_error"] or 0.0
    if ratio + 2 * error < 1:
        problems.append(f"slower than HF Trainer: {ratio:.3f}, standard error {error:.3f}")
    for name, speed in result["reader_million_tokens_per_second"].items():
        if speed < READER_FLOOR:
            problems.append(f"reader, {name}: {speed:.1f} M tokens/s, floor {READER_FLOOR:.0f}")
    if result["share_of_time_waiting_for_rows"] > WAITING_FLOOR:
        problems.append(f"waits for rows {result['share_of_time_waiting_for_rows']:.1%} of the time")
    if result["monitors_share_of_a_step_at_interval_20"] > MONITOR_FLOOR:
        problems.append(f"monitors cost {result['monitors_share_of_a_step_at_interval_20']:.1%} of a step")
    return problems


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="folder of `yulanmini reproduce`")
    parser.add_argument("--full", action="store_true", help="one GPU, full shape, 16 rows of 4096, 4 at once")
    parser.add_argument("--document-mask", action="store_true", help="ours: documents of a row see themselves only")
    parser.add_argument("--shape", choices=["miniature", "full"], default="miniature")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--rows", type=int, default=14, help="rows a step")
    parser.add_argument("--micro-batch", type=int, help="rows a forward pass")
    parser.add_argument("--recompute", type=int, help="recompute all layers but every k-th")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--out", type=Path, help="JSON file")
    if parser.parse_args().full:
        parser.set_defaults(shape="full", device="cuda", context=4096, rows=16, micro_batch=4)
    return parser.parse_args()


def main() -> int:
    options = parse()
    tokens = options.rows * options.context * (options.steps + WARMUP + 1)
    with tempfile.TemporaryDirectory() as folder:
        data = build_rows(options.run, Path(folder) / "steps", context=options.context, tokens=tokens)
        result = measure(options, data)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    problems = check(result, options)
    for problem in problems:
        print(f"below the floor: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
