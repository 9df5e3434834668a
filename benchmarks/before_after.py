"""A training step of the miniature in two checkouts of this repository, in turns: is the later one at least as fast?

    git worktree add /tmp/before COMMIT
    python benchmarks/before_after.py --run runs/tiny --before /tmp/before

Both run on the same rows, one process and one thread each, a step at a time, and are timed in processor time: what else
the machine does meets both and counts little. The losses must agree. Prints the ratio of the medians (above 1: the
later one is faster) for each repeat, and their mean.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WARMUP = 5
HERE = Path(__file__).resolve().parents[1]
STEPS_ON_ORDER = """
import sys, time
from pathlib import Path
from train import pretrain
from train.config import PretrainConfig
from train.config_file import load_config
from train.launch.world import enter_world
from train.run.run import Run

config = load_config(PretrainConfig, Path(sys.argv[1]))
run = Run(config, enter_world(config))
for step in range(run.last_step):
    if not sys.stdin.readline():
        break
    begin = time.process_time()
    plan = run.curriculum.at(step)
    run.enter_phase(plan)
    run.pending.add(pretrain.update(run, plan))
    run.step += 1
    run.flush()
    loss = run.metrics.lines()[-1]["loss"]
    print(time.process_time() - begin, loss, flush=True)
"""


def start(checkout: Path, config: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", STEPS_ON_ORDER, str(config)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def one_step(process: subprocess.Popen[str]) -> tuple[float, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    seconds, loss = process.stdout.readline().split()
    return float(seconds), float(loss)


def repeat(checkouts: dict[str, Path], configs: dict[str, Path], steps: int, *, turned: bool) -> dict[str, float]:
    """Median seconds of a step in each checkout; SystemExit where the losses differ."""
    order = list(checkouts)[::-1] if turned else list(checkouts)
    running = {name: start(checkouts[name], configs[name]) for name in order}
    seconds: dict[str, list[float]] = {name: [] for name in order}
    try:
        for step in range(steps + WARMUP):
            losses = []
            for name in order:
                took, loss = one_step(running[name])
                losses.append(loss)
                if step >= WARMUP:
                    seconds[name].append(took)
            if abs(losses[0] - losses[1]) > 1e-3:
                raise SystemExit(f"step {step + 1}: losses {losses[0]} and {losses[1]} differ")
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="folder of `yulanmini reproduce`")
    parser.add_argument("--before", type=Path, required=True, help="the earlier checkout")
    parser.add_argument("--after", type=Path, default=HERE, help="the later one; default: this")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    import yaml
    from train_contenders import build_rows, settings

    for name, value in {"shape": "miniature", "device": "cpu", "context": 128, "rows": 14, "recompute": None}.items():
        setattr(options, name, value)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = options.rows * options.context * (options.steps + WARMUP + 1)
        data = build_rows(options.run.resolve(), Path(folder) / "rows", context=options.context, tokens=tokens)
        options.run = options.run.resolve()
        checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
        for turn in range(options.repeats):
            configs = {}
            for name in checkouts:
                values = settings(options, data, Path(folder) / f"{turn}-{name}")
                values |= {"threads": 1, "max_steps": options.steps + WARMUP}
                configs[name] = Path(folder) / f"{turn}-{name}.yaml"
                configs[name].write_text(yaml.safe_dump(values))
            medians = repeat(checkouts, configs, options.steps, turned=turn % 2 == 1)
            ratios.append(medians["before"] / medians["after"])
            print(f"repeat {turn + 1}: {medians}, ratio {ratios[-1]:.3f}", file=sys.stderr)
    print(json.dumps({"ratio": statistics.mean(ratios), "repeats": ratios}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
