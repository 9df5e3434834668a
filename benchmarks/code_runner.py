"""What isolation costs a generated program, over starting Python alone: seconds a program, and programs a second.

    python benchmarks/code_runner.py [--programs 164] [--json FILE]

Every way of isolating that works here takes turns with plain Python, so that all meet the same load.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from eval.code_runner import run_programs
from eval.code_runner.machine import described
from eval.code_runner.runner import run_isolated, usable

SOURCE = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--programs", type=int, default=164, help="of a batch, as many as HumanEval has problems")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    backends = usable()[0]
    times: dict[str, list[float]] = {"python": [], **{backend.name: [] for backend in backends}}
    for _ in range(options.repeats):
        began = perf_counter()
        subprocess.run([sys.executable, "-S", "-c", SOURCE + TESTS], check=True)
        times["python"].append(perf_counter() - began)
        for backend in backends:
            began = perf_counter()
            assert run_isolated(backend, SOURCE, tests=TESTS, seconds=20.0).status == "passed"
            times[backend.name].append(perf_counter() - began)
    python = statistics.median(times["python"])
    result: dict[str, object] = {"machine": described(), "repeats": options.repeats}
    for name, values in times.items():
        lower, middle, upper = statistics.quantiles(values, n=4)
        result[name] = {"median": middle, "quartiles": [lower, upper], "fastest": min(values), "over": middle - python}
        over = "" if name == "python" else f", {1000 * (middle - python):.0f} ms over Python alone"
        print(f"{name}: {1000 * middle:.0f} ms ({1000 * lower:.0f} to {1000 * upper:.0f}){over}")
    began = perf_counter()
    job = {"source": SOURCE, "tests": TESTS, "seconds": 20.0}
    assert {one.status for one in run_programs([job] * options.programs)} == {"passed"}
    result["programs_a_second"] = options.programs / (perf_counter() - began)
    print(f"{options.programs} programs at once: {result['programs_a_second']:.0f} a second")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
