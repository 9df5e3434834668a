"""Print what a finished run took, as yulanmini/reproduce/reference_times.yaml has it: expected times come from there.

    yulanmini reproduce --scale tiny --out runs/tiny      # on an otherwise idle machine, without a stop
    python benchmarks/reproduce_time.py runs/tiny

Run both on the same idle machine: the test of its speed and the stages' times belong together.
"""

import argparse
import json
import statistics
from pathlib import Path

from yulanmini.reproduce.estimate import speed_test
from yulanmini.run_layout import TIMINGS_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    run = parser.parse_args().run
    lines = [json.loads(line) for line in (run / TIMINGS_FILE).read_text().splitlines()]
    if not all(line["finished"] for line in lines):
        parser.error(f"{run}: was stopped in between; its times are of several attempts.")
    scale = json.loads((run / "claim.json").read_text())["made_from"]["scale"]
    stages = {line["stage"]: line["seconds"] for line in lines}
    print(f"probe: {statistics.median(speed_test() for _ in range(5)):.3f}")
    print("stages:")
    print(f"  {scale}: {{{', '.join(f'{stage}: {seconds:.1f}' for stage, seconds in stages.items())}}}")


if __name__ == "__main__":
    main()
