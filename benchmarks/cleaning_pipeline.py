"""What the cleaning pipeline itself costs: time and peak memory on hard inputs, and of judging again.

    python benchmarks/cleaning_pipeline.py [--documents 1000000] [--work DIR] [--out result.json]

Inputs: so many different short documents, as many identical ones, and three documents of 100 MB, which are dropped.
Each runs a step on lengths and `exact-duplicates` in a process of
its own, whose peak memory is measured; exit 1 where one needs 2 GiB. "again" is the same run with a changed threshold.
Seconds are of a core, so that others on the machine count little.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_GIB = 2.0
GIANT_BYTES = 100_000_000
RUN = """
import json, sys, time
from pathlib import Path
from typing import Annotated
import pyarrow as pa
from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.steps.base import Step, StepSettings, Threshold
from data_recipes.machine import peak_memory

class LengthSettings(StepSettings):
    least: Annotated[int, Threshold()] = 5

class Length(Step):
    name = "length"
    Settings = LengthSettings
    def schema(self): return pa.schema([("length", pa.int64())])
    def signals(self, batch): return {"length": [len(text) for text in batch.texts]}
    def reasons(self, source, signals):
        return ["short" if length < self.settings.least else None for length in signals["length"].to_pylist()]
    def limits(self): return {"length": [self.settings.least]}

def timed(values):
    began = time.process_time()
    counts = clean(checked_config(values), inputs, out)["counts"]
    return time.process_time() - began, counts

values, place, out = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
inputs = parse_inputs([place])
first, counts = timed(values)
values["steps"][0]["least"] = 390
again, _ = timed(values)
peak = peak_memory() / 2**30
print(json.dumps({"core_seconds": first, "core_seconds_again": again, "peak_gib": peak, **counts}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="Where to write; some GB.")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    inputs: dict[str, Callable[[Path], None]] = {
        "different": lambda place: write_rows(place, arguments.documents, different=True),
        "identical": lambda place: write_rows(place, arguments.documents, different=False),
        "giants": write_giants,
    }
    results = {}
    with tempfile.TemporaryDirectory(prefix="cleaning-", dir=arguments.work) as work:
        for name, write in inputs.items():
            place = Path(work) / "in"
            place.mkdir()
            write(place)
            settings = {
                "max_document_bytes": 16_000_000,
                "most_lost_of_a_source": 1,
            }
            size = sum(path.stat().st_size for path in place.iterdir())
            results[name] = {"megabytes": round(size / 1e6), **measure(settings, place, Path(work) / "out")}
            print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
            shutil.rmtree(place)
            shutil.rmtree(Path(work) / "out")
    text = json.dumps({"cores": os.cpu_count(), "inputs": results}, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    sys.exit(0 if all(result["peak_gib"] < MOST_GIB for result in results.values()) else 1)


def measure(settings: dict[str, Any], place: Path, out: Path) -> dict[str, Any]:
    values = {**settings, "steps": [{"step": "length"}, {"step": "exact-duplicates"}]}
    command = [sys.executable, "-c", RUN, json.dumps(values), str(place), str(out)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def write_rows(place: Path, documents: int, *, different: bool) -> None:
    """JSON lines of about 400 characters."""
    with (place / "rows.jsonl").open("w") as file:
        for number in range(documents):
            words = (
                (f"w{(number * 31 + place * place) % 999_983}" for place in range(70)) if different else ["word"] * 80
            )
            file.write(json.dumps({"text": " ".join(words)}) + "\n")


def write_giants(place: Path) -> None:
    text = "all work and no play makes a dull text " * (GIANT_BYTES // 39)
    (place / "row.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "a short one"}) + "\n")
    (place / "plain.txt").write_text(text)
    (place / "chinese.txt").write_text("天地玄黄宇宙洪荒" * (GIANT_BYTES // 24))


if __name__ == "__main__":
    main()
