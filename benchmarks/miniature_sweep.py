"""Sweep of the miniature's initialisation, rate, base width and warm-up on the data of a finished reproduce run.

    python benchmarks/miniature_sweep.py runs/tiny --steps 324 --out benchmarks/results/miniature_sweep.json

Every setting is changed alone against `train/configs/tiny.yaml`, then the named combinations. Each trains
the first phases at a constant rate and is judged by held-out bits per byte, the mean over domains. A setting that has
been trained already is not trained again, so the sweep can be interrupted.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ALONE = {
    "optimizer.lr": [1.5e-3, 6.0e-3, 1.0e-2],
    "model.initializer_range": [5.0e-5, 0.01, 0.05],
    "parametrization.base_width": [30, 120, 256],
    "schedule.warmup_steps": [10, 90],
}
COMBINED = [
    {"model.initializer_range": 0.05, "optimizer.lr": 6.0e-3},
    {"model.initializer_range": 5.0e-5, "optimizer.lr": 1.0e-2, "parametrization.base_width": 256},
]


def settings() -> list[dict[str, float]]:
    """The default first, then each change alone, then the combinations."""
    return [{}, *({key: value} for key, values in ALONE.items() for value in values), *COMBINED]


def label(setting: dict[str, float]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value:g}" for key, value in setting.items()) or "default"


def train(run: Path, folder: Path, setting: dict[str, float], steps: int) -> dict[str, float | str]:
    """Train one setting below `folder` unless it is there; returns its held-out bits per byte and rate."""
    out = folder / label(setting).replace(" ", ",")
    changes = {"output_dir": out, "max_steps": steps, "export.phase_ends": False, **setting}
    if not (out / "manifest.json").is_file():
        command = [sys.executable, str(ROOT / "train" / "pretrain.py"), str(run / "pretrain.yaml"), "--set"]
        subprocess.run([*command, *(f"{key}={value}" for key, value in changes.items())], check=True)
    scores = [json.loads(line) for line in (out / "heldout.jsonl").read_text().splitlines()]
    last = [line for line in scores if line["step"] == max(score["step"] for score in scores)]
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "setting": label(setting),
        "step": last[0]["step"],
        "heldout_bits_per_byte": sum(line["bits_per_byte"] for line in last) / len(last),
        "training_loss_last_50": sum(line["loss"] for line in metrics[-50:]) / len(metrics[-50:]),
        "max_grad_norm": max(line["grad_norm"] for line in metrics),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a reproduce run that has its data")
    parser.add_argument("--steps", type=int, default=324, help="steps of each setting (a multiple of a phase's)")
    parser.add_argument("--folder", type=Path, default=Path("runs/sweep"), help="where the trained settings go")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "miniature_sweep.json")
    arguments = parser.parse_args()
    rows = []
    for setting in settings():
        rows.append(train(arguments.run, arguments.folder, setting, arguments.steps))
        print(json.dumps(rows[-1]), flush=True)
    rows.sort(key=lambda row: row["heldout_bits_per_byte"])
    config = yaml.safe_load((arguments.run / "pretrain.yaml").read_text())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    default = {key: config[key] for key in ("model", "parametrization", "optimizer", "schedule", "tokens_per_step")}
    arguments.out.write_text(json.dumps({"steps": arguments.steps, "default": default, "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(f"{row['heldout_bits_per_byte']:.4f}  {row['training_loss_last_50']:.4f}  {row['setting']}")


if __name__ == "__main__":
    main()
