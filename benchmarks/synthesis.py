"""Synthetic data: speed and memory of the parts that are ours, on one core.

    python benchmarks/synthesis.py programs --peers-python /tmp/peers/bin/python

`programs`: problems of each level a second of processor time, from numbers to a Parquet file, answers checked; peak
memory of a whole run of two sizes; how many of `--distinct` problems of the hardest level are different by what they
ask. The peer is DeepMind's mathematics_dataset in an environment of its own (pip install mathematics-dataset
'sympy<1.6'): its `train-hard` modules in turn, which give questions and answers without steps. Results go into
results/synthesis.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data_recipes.cleaning.pipeline.unit_files import writing_parquet
from data_recipes.machine import peak_memory
from data_recipes.synthesis.programs.draw import all_kinds
from data_recipes.synthesis.programs.run import (
    SCHEMA,
    UNIT_PROBLEMS,
    ProgramsRequest,
    problems_of_unit,
    synthesize_programs,
    table_of_unit,
)

RESULTS = Path(__file__).with_name("results") / "synthesis.json"
REPEATS = 5
LEVELS = sorted({kind.level for kind in all_kinds().values()})
SIZES = (50_000, 500_000)
PEER_SECONDS = 30.0

# mathematics_dataset is of 2019: some names have moved since.
PEER = """
import collections, collections.abc, fractions, json, math, random, sys, time
for name in ("Mapping", "MutableMapping", "Iterable", "Sequence", "Callable", "Set", "MutableSet"):
    setattr(collections, name, getattr(collections.abc, name))
fractions.gcd = math.gcd
import numpy
from absl import flags
from mathematics_dataset import generate
flags.FLAGS(["peer"])
random.seed(0); numpy.random.seed(0)
generate.init_modules(True)
modules = list(generate.filtered_modules["train-hard"].items())
made, failed, questions, start = 0, 0, set(), time.process_time()
while time.process_time() - start < float(sys.argv[1]):
    try:
        problem, _ = generate.sample_from_module(modules[made % len(modules)][1])
        questions.add(str(problem.question))
    except Exception:
        failed += 1
    made += 1
rate = (made - failed) / (time.process_time() - start)
counts = {"made": made, "failed": failed, "different": len(questions), "modules": len(modules)}
print(json.dumps({"a second": rate, **counts}))
"""


def speed(level: int, folder: Path) -> float:
    """Problems a second of processor time: units drawn, worked, checked, put into words and written."""
    rates = []
    for repeat in range(REPEATS + 1):
        request = ProgramsRequest(count=100 * UNIT_PROBLEMS, levels=(level,), seed=level)
        if level < 4:  # not so many are there
            request = ProgramsRequest(count=UNIT_PROBLEMS, levels=(level,), seed=level + repeat)
        start = time.process_time()
        table = table_of_unit(request, repeat % request.units)
        with writing_parquet(folder / "unit.parquet", SCHEMA) as (parquet, _):
            parquet.write(table)
        rates.append(len(table) / (time.process_time() - start))
    return statistics.median(rates[1:])  # the first one reads the forms


def whole_run(count: int) -> None:
    """A run in this process; prints its seconds of processor time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        synthesize_programs(ProgramsRequest(count=count, levels=LEVELS[-1:]), Path(folder) / "out")
        seconds = time.process_time() - start
    peak = peak_memory() / 2**20
    print(json.dumps({"problems": count, "seconds": seconds, "a second": count / seconds, "peak MiB": peak}))


def different(count: int) -> int:
    """How many of the problems of the hardest level ask something of their own."""
    request = ProgramsRequest(count=count, levels=LEVELS[-1:])
    return len(
        {
            hash(repr(problem.asked.identity(problem.operands)))
            for unit in range(request.units)
            for problem in problems_of_unit(request, unit)
        }
    )


def output_of(*command: str) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def programs(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        rates = {f"level {level}": speed(level, Path(folder)) for level in LEVELS}
    runs = [output_of(sys.executable, __file__, "programs", "--whole-run", str(size)) for size in SIZES]
    result: dict[str, Any] = {"problems a second": rates, "whole runs of the hardest level": runs}
    if options.distinct:
        result["different"] = {"of": options.distinct, "are": different(options.distinct)}
    if options.peers_python:
        peer = output_of(options.peers_python, "-c", PEER, str(PEER_SECONDS))
        ratio = rates[f"level {LEVELS[-1]}"] / peer["a second"]
        result["mathematics_dataset, train-hard"] = {**peer, "ours, of the hardest level, by theirs": ratio}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["programs"])
    parser.add_argument("--peers-python", help="Python of an environment with mathematics_dataset")
    parser.add_argument("--distinct", type=int, default=1_000_000, help="0 leaves it out")
    parser.add_argument("--whole-run", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.whole_run:
        whole_run(options.whole_run)
        return
    result = programs(options)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    RESULTS.write_text(json.dumps({**results, options.part: result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
