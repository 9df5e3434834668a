"""Time the last stage of `yulanmini reproduce`, which lays the run's repos out, publishes them and loads them back.

    python benchmarks/hub_stage.py runs/tiny --repeats 3

The run is finished, and stays as it is: each time a copy of it, whose large files are links, lacks that stage and is
given to `yulanmini reproduce`. Seconds of the stage are those that the run itself records; processor time is of the
whole command with its child processes, report included.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from yulanmini.run_layout import HUB, TIMINGS_FILE

LARGE = 1 << 20


def link_or_copy(source: str, target: str) -> None:
    """Large files are never written in place; small ones, such as the log of times, may be."""
    (os.link if os.path.getsize(source) > LARGE else shutil.copy2)(source, target)


def measure(run: Path, scale: str) -> tuple[float, float]:
    """Seconds of the stage, and of the processors for the whole command."""
    with tempfile.TemporaryDirectory(prefix=".hub-stage-", dir=run.parent) as folder:
        copy = Path(folder) / run.name
        left_out = shutil.ignore_patterns(HUB, "report.html", "report.json")
        shutil.copytree(run, copy, ignore=left_out, copy_function=link_or_copy)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [str(Path(sys.executable).with_name("yulanmini")), "reproduce", "--scale", scale, "--out", str(copy)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        last = json.loads((copy / TIMINGS_FILE).read_text().splitlines()[-1])
        assert (last["stage"], last["finished"]) == ("hub", True), last
        return last["seconds"], after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    run = asked.run.resolve()
    scale = json.loads((run / "claim.json").read_text())["made_from"]["scale"]
    times = []
    for _ in range(asked.repeats):
        times.append(measure(run, scale))
        print("stage {:.1f} s, processors {:.1f} s, load {:.1f}".format(*times[-1], os.getloadavg()[0]), flush=True)
    wall, processors = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"median: stage {wall:.1f} s, processors {processors:.1f} s")


if __name__ == "__main__":
    main()
