"""Seeds a second of a whole run of the synthesis with a trivial kind and a trivial server, by stage, and its memory.

    python benchmarks/synthesis_run.py [--seeds 100000] [--json FILE]

The server is that of benchmarks/endpoint.py, a process of its own on the machine's other core, which says the same to
everyone; the kind puts it beside its seed, so that all samples differ and go through the default cleaning. What is
measured is thus everything but the model: reading, asking, keeping, parsing, writing, finding copies. Beside
the time on the clock, which other work on the machine makes longer, stands the run's own processor time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, process_time
from typing import Any

import psutil
from endpoint import SERVER

from data_recipes.answers.judge import same_answer
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.executors import local
from data_recipes.executors.stage import Stage
from data_recipes.machine import peak_memory, this_machine
from data_recipes.synthesis.kinds.base import AskModel, Checks, Kind, Sample
from data_recipes.synthesis.progress import seeds_done
from data_recipes.synthesis.run import Run, Server
from data_recipes.synthesis.synthesize import prepare, stages_of


class Trivial(Kind):
    """Its document is the seed and the answer."""

    name = "trivial"
    summary = "nothing but the work of the run"
    fields = ("problem", "solution")
    template = "problem-solution"
    text_fields = ("problem", "solution")

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        question = f"Write a problem and its solution about this text: {seed['text']}"
        answer = await ask(question)
        return Sample(
            question, answer.text, answer.finish_reason, {"problem": seed["text"], "solution": answer.text[:60]}
        )


def no_program(source: str, **limits: Any) -> Any:
    raise NotImplementedError


def write_seeds(path: Path, count: int) -> None:
    """Documents of 100 words each, of which no two are similar."""
    with path.open("w") as file:
        for number in range(count):
            words = " ".join(f"w{(number * 7919 + place * 104729) % 999983}" for place in range(100))
            file.write(json.dumps({"text": f"{number}: {words}"}) + "\n")


def measure(url: str, folder: Path, seeds: int) -> dict[str, Any]:
    write_seeds(folder / "seeds.jsonl", seeds)
    run = prepare(
        "trivial",
        parse_inputs([str(folder / "seeds.jsonl")]),
        folder / "out",
        model="m",
        server=Server(url),
        checks=Checks(same_answer, no_program),
    )
    run.out.mkdir()
    stages: dict[str, dict[str, float]] = {}
    began, used = perf_counter(), process_time()
    with memory_by_tenths(run, seeds) as memory:
        for stage in stages_of(run):
            timed(stage, stages)
    wall, processor = perf_counter() - began, process_time() - used
    answers = stages["answers"]
    return {
        "machine": this_machine(),
        "load": os.getloadavg()[0],
        "seeds": seeds,
        "seeds_a_second": round(seeds / wall),
        "seeds_a_processor_second": round(seeds / processor),
        "answers": {"seeds_a_second": round(seeds / answers["seconds"]),
                    "seeds_a_processor_second": round(seeds / answers["processor_seconds"])},
        "stages": stages,
        "mib_at_tenths_of_the_answers": memory,
        "mib_at_most": round(peak_memory() / 2**20, 1),
    }  # fmt: skip


def timed(stage: Stage, stages: dict[str, dict[str, float]]) -> None:
    began, used = perf_counter(), process_time()
    local.run_here([stage], tasks=1, progress=False)
    name = "cleaning" if stage.name.startswith("cleaning") else stage.name
    found = stages.setdefault(name, {"seconds": 0.0, "processor_seconds": 0.0})
    found["seconds"] = round(found["seconds"] + perf_counter() - began, 2)
    found["processor_seconds"] = round(found["processor_seconds"] + process_time() - used, 2)


@contextmanager
def memory_by_tenths(run: Run, seeds: int) -> Iterator[list[float]]:
    """The MiB of this process after each tenth of the seeds was asked."""
    found: list[float] = []
    over = Event()

    def watch() -> None:
        while not over.wait(0.2):
            if len(found) < 10 and seeds_done(run.work)[0] >= (len(found) + 1) * seeds // 10:
                found.append(round(psutil.Process().memory_info().rss / 2**20, 1))

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    yield found
    over.set()
    watcher.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-S", "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(url, Path(folder), options.seeds)
    finally:
        server.kill()
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
