"""From files to ids: by rows, as Arrow columns, and by `pyarrow.json`; and for how much of it Python's lock is held.

    python benchmarks/reading.py [--megabytes 256] [--before CHECKOUT] [--out result.json]

The input is source code and documentation found beside this interpreter, as JSON lines and as Parquet. All ways must
give the same ids. Times are processor time of one thread in ns a byte, each the smallest of the repeats, which run in
turns. `--before`: also whole builds, text to rows, in another checkout of this repository and in this one, in turns, by
processes that have built before; what a process's first build takes, mostly imports, is a figure of its own.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
from data_build import say, train_tokenizer, write_corpus

HERE = Path(__file__).resolve().parents[1]
BUILD = """
import shutil, sys, time
from pathlib import Path
from data_build import build
few, corpus, tokenizer, out, tokens = map(Path, sys.argv[1:])
def run(texts, tokens):
    begin = time.process_time()
    build(texts, tokenizer, out, tokens=tokens, workers=1)
    taken = time.process_time() - begin
    shutil.rmtree(out)
    print(taken, flush=True)
run(few, 4096)
for _ in sys.stdin:
    run(corpus, int(str(tokens)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256, help="text to read")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reading-") as place:
        figures = measure(Path(place), arguments)
    print(json.dumps(figures, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


def measure(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    from data_recipes.tokens.encoders import choose_encoder
    from data_recipes.tokens.tokenizer import load_tokenizer

    texts = write_corpus(work / "corpus", arguments.megabytes * 10**6, files=1)
    pq.write_table(pa.table({"text": texts}), work / "corpus.parquet", row_group_size=1000)
    folder = train_tokenizer(texts, work / "tokenizer")
    tokenizer = load_tokenizer(folder)
    encoder, _ = choose_encoder(tokenizer, dropout=0.0, seed=0)
    size = sum(len(text.encode()) for text in texts)
    reference, lengths = encoder.encode(texts)
    (lines,) = (work / "corpus").iterdir()
    figures: dict[str, Any] = {"text, MB": size / 1e6, "back end": encoder.name}

    ways: dict[str, Callable[[], Iterator[np.ndarray]]] = {
        "JSON lines by rows, orjson": lambda: ids_of(encoder, lines, by_rows=True),
        "JSON lines by pyarrow.json": lambda: ids_by_pyarrow(encoder, lines),
        "JSON lines by column": lambda: ids_of(encoder, lines, by_rows=False),
        "Parquet by rows": lambda: ids_of(encoder, work / "corpus.parquet", by_rows=True),
        "Parquet by column": lambda: ids_of(encoder, work / "corpus.parquet", by_rows=False),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats + 1):
        for name, way in ways.items():
            begin = time.thread_time()
            ids = np.concatenate(list(way()))
            times[name].append(time.thread_time() - begin)
            if not np.array_equal(ids, reference):
                raise SystemExit(f"{name}: other ids")
    for name, taken in times.items():
        figures[f"{name}, to ids, ns a byte"] = min(taken[1:]) * 1e9 / size
    figures["Parquet by column / by rows, MB/s"] = min(times["Parquet by rows"]) / min(times["Parquet by column"])
    for name in ("JSON lines by rows, orjson", "JSON lines by column", "Parquet by rows", "Parquet by column"):
        figures[f"{name}, share of the time under Python's lock"] = lock_share(ways[name])
    if arguments.before:
        tokens = (len(reference) + len(lengths)) // 4096 * 4096
        figures |= whole_builds(work, folder, tokens, size, arguments)
    return figures


def ids_of(encoder: Any, path: Path, *, by_rows: bool) -> Iterator[np.ndarray]:
    """As a token store reads; `by_rows` as sources of several columns are read."""
    from data_recipes.reading.documents import batches
    from data_recipes.reading.files import examine, units_of
    from data_recipes.reading.source_file import Format
    from data_recipes.recipes.source import Source

    source = Source(path=str(path))
    files = examine(source)
    for unit in units_of(files):
        for part in unit:
            kind = files[part.file].format
            read = Format.batchable.__get__(kind) if by_rows else kind.batchable
            for batch in batches(read(source, files[part.file], part, Counter())):
                yield encoder.encode(batch.texts)[0]


def ids_by_pyarrow(encoder: Any, path: Path) -> Iterator[np.ndarray]:
    """The same through `pyarrow.json`, without any of the checks for what is out of the ordinary."""
    from data_recipes.reading.documents import batches
    from data_recipes.reading.json_files import BLOCK_BYTES
    from data_recipes.reading.text_columns import usable_run

    schema = pa.schema([("text", pa.string())])
    asked = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")

    def runs() -> Iterator[Any]:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                block += stream.readline()
                options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
                table = pyarrow.json.read_json(io.BytesIO(block), read_options=options, parse_options=asked)
                yield usable_run(0, table["text"].combine_chunks(), np.arange(table.num_rows), Counter())

    for batch in batches(runs()):
        yield encoder.encode(batch.texts)[0]


def lock_share(way: Callable[[], Iterator[np.ndarray]]) -> float | None:
    """How much less processor time a thread of pure Python gets while the way runs beside it, on a core of its own.

    Not how far it counts: two cores that are one in truth count slower together, lock or not. None on a busy machine,
    where the thread has no core of its own.
    """
    used, stop = 0.0, threading.Event()

    def spin() -> None:
        nonlocal used
        while not stop.is_set():
            for _ in range(100):
                pass
            used = time.thread_time()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # whoever asks for the lock gets it soon
    try:
        thread = threading.Thread(target=spin)
        thread.start()
        start, begin = used, time.perf_counter()
        time.sleep(1)
        alone = (used - start) / (time.perf_counter() - begin)
        start, begin = used, time.perf_counter()
        for _ in way():
            pass
        beside = (used - start) / (time.perf_counter() - begin)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)
    return max(0.0, 1 - beside / alone) if alone > 0.95 else None


def whole_builds(work: Path, tokenizer: Path, tokens: int, size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A process for each checkout: it builds a little (imports, compiled code, back ends), then the text, in turns."""
    write_corpus(work / "few", 10**6, files=1)
    checkouts = {"before": arguments.before.resolve(), "now": HERE}
    processes: dict[str, subprocess.Popen[str]] = {}
    first: dict[str, float] = {}
    taken: dict[str, list[float]] = {name: [] for name in checkouts}
    for name, checkout in checkouts.items():
        environment = os.environ | {"PYTHONPATH": f"{checkout}:{checkout}/benchmarks", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", BUILD, work / "few", work / "corpus", tokenizer, work / name, tokens]
        processes[name] = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        first[name] = answer_of(processes[name])
    for repeat in range(arguments.repeats):
        for name, process in processes.items():
            print(file=process.stdin, flush=True)
            taken[name].append(answer_of(process))
        say(f"build {repeat}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in taken.items()))
    for process in processes.values():
        process.communicate()
    figures: dict[str, Any] = {f"first build of a process, {name}, s": value for name, value in first.items()}
    for name, values in taken.items():
        figures[f"build {name}, MB/s a core"] = size / 1e6 / min(values)
    ratios = [before / now for before, now in zip(taken["before"], taken["now"], strict=True)]
    return figures | {
        "build, before / now": min(taken["before"]) / min(taken["now"]),
        "build, before / now, median of the turns": statistics.median(ratios),
    }


def answer_of(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the build failed")
    return float(line)


if __name__ == "__main__":
    main()
