"""How far a miniature's scores differ from run to run: the same `yulanmini reproduce`, with other seeds.

    python benchmarks/run_spread.py --out DIR [--scale tiny] [--seeds 0 1 2]

Writes `yulanmini/report/run_spread.json`, which the report quotes: by scale, a record a run with the mean over the
domains of base's held-out bits per byte, and the exact match of base and of the last stage by level. A run that is
finished in DIR/seed-N is only read.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from data_recipes.machine import this_machine
from eval.scores import SCORES_NAME, SEPARATOR
from yulanmini.run_layout import MODELS, SCORES

INSTRUCT = list(MODELS)[-1]
RESULT = Path(__file__).resolve().parent.parent / "yulanmini" / "report" / "run_spread.json"


def scores_of(run: Path) -> dict[str, Any]:
    """The few figures of a finished run that are compared."""
    found: dict[str, Any] = {}
    for model in ("base", INSTRUCT):
        rows = json.loads((run / SCORES / model / SCORES_NAME).read_text())["rows"]
        found[f"bits_per_byte_{model}"] = fmean(row["value"] for row in rows if row["task"] == "heldout")
        wholes = [row for row in rows if row["task"] == "problems" and SEPARATOR not in row["group"]]
        levels = {row["group"]: row["value"] for row in wholes}
        found |= {f"{level.replace(' ', '_')}_{model}": value for level, value in levels.items()}
    return {key: round(value, 4) for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    result = json.loads(RESULT.read_text())
    # Runs on other text (other packages, another cleaning) are entered by hand and stay.
    kept = [run for run in result.get(options.scale, {}).get("runs", []) if "packages" in run]
    runs = []
    for seed in options.seeds:
        out = options.out / f"seed-{seed}"
        command = ["-m", "yulanmini.cli", "reproduce", "--scale", options.scale, "--seed", str(seed), "--out", str(out)]
        subprocess.run([sys.executable, *command], check=True)
        runs.append({"seed": seed, **scores_of(out)})
        print(json.dumps(runs[-1]))
    result[options.scale] = {"runs": [*runs, *kept], "machine": this_machine()}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
