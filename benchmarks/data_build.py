"""How fast is text made into packed rows, beside datatrove, tokenizers, gigatoken and TRL on the same input?

    python benchmarks/data_build.py [--megabytes 256] [--datatrove-python VENV/bin/python] [--out result.json]
    python benchmarks/data_build.py --only memory --tokens 1e9      # the large build alone; 8 GB of disk

datatrove is no dependency of this project: `python -m venv VENV && VENV/bin/pip install datatrove tokenizers
orjson`, and name that Python; without it its line is left out. Every peer does the same work in the same process
tree, its result is compared with ours, and a figure is the median of the repeats. Exit 1 when a floor is missed.
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
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

FLOORS = {
    "text to rows / datatrove": 5.0,
    "text to rows / its tokenising back end": 0.9,
    "store to rows, M tokens/s a core": 25.0,
    "best fit, M documents/s": 10.0,
    "best fit, fill": 0.999,
}
CEILINGS = {
    "best fit, rows beyond TRL's": 0,
    "peak memory, GiB": 1.5,
    "opening a 40B-token phase, s": 2.0,
}
CONTROL_TOKENS = ["<s>", "</s>"]
DATATROVE = """
import sys, time
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer, DocumentTokenizerMerger

def run():
    corpus, tokenizer, out, workers = sys.argv[1:]
    start = time.perf_counter()
    tokenize = DocumentTokenizer(f"{out}/tokens", tokenizer_name_or_path=tokenizer, eos_token="</s>", seed=0)
    merge = DocumentTokenizerMerger(f"{out}/tokens", f"{out}/merged", save_filename="all", seed=0, progress=False)
    for number, (steps, count) in enumerate([([JsonlReader(corpus), tokenize], int(workers)), ([merge], 1)]):
        LocalPipelineExecutor(pipeline=steps, tasks=count, workers=count, logging_dir=f"{out}/logs{number}").run()
    print("seconds", time.perf_counter() - start)

if __name__ == "__main__":
    run()
"""


def main() -> None:
    arguments = parse()
    figures: dict[str, Any] = {"cores": os.cpu_count(), "workers": arguments.workers}
    with tempfile.TemporaryDirectory(prefix="data-build-", dir=arguments.work) as place:
        work = Path(place)
        for name, run in {"text": text_to_rows, "rows": store_to_rows, "best_fit": packing, "open": opening}.items():
            if arguments.only in (None, name):
                figures.update(run(work, arguments))
        if arguments.only == "memory":
            figures.update(large_build(work, arguments))
    verdicts = judge(figures)
    print(json.dumps({"figures": figures, "verdicts": verdicts}, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps({"figures": figures, "verdicts": verdicts}, indent=2) + "\n")
    sys.exit(0 if all(verdict["holds"] for verdict in verdicts.values()) else 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256, help="text to tokenise")
    parser.add_argument("--tokenizer", type=Path, help="folder; default: byte-level BPE trained on the text")
    parser.add_argument("--tokens", type=float, default=1e9, help="of the large build")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["text", "rows", "best_fit", "open", "memory"])
    parser.add_argument("--datatrove-python", type=Path)
    parser.add_argument("--work", type=Path, help="where to put temporary files")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def judge(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each floor and ceiling that was measured, and whether it holds."""
    verdicts = {}
    for name, floor in FLOORS.items():
        if name in figures:
            verdicts[name] = {"measured": figures[name], "at least": floor, "holds": figures[name] >= floor}
    for name, ceiling in CEILINGS.items():
        if name in figures:
            verdicts[name] = {"measured": figures[name], "at most": ceiling, "holds": figures[name] <= ceiling}
    return verdicts


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


# --- text to rows -------------------------------------------------------------------------------------------------


def text_to_rows(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Our whole way against datatrove's tokenise-and-merge and against the bare back ends."""
    from data_recipes.encoders import choose_encoder
    from data_recipes.tokenise import load_tokenizer

    corpus = work / "corpus"
    texts = write_corpus(corpus, arguments.megabytes * 10**6, files=2 * arguments.workers)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    folder = arguments.tokenizer or train_tokenizer(texts, work / "tokenizer")
    tokenizer = load_tokenizer(folder)
    encoder, note = choose_encoder(tokenizer, dropout=0.0, seed=0)
    say(f"{len(texts):,} documents, {megabytes:.0f} MB, back end {encoder.name}{f' ({note})' if note else ''}")
    our_tokens = len(encoder.encode(texts)[0]) + len(texts)
    whole_rows = our_tokens // 4096 * 4096
    build(corpus, folder, work / "warm-up", tokens=whole_rows, workers=arguments.workers)  # compiles

    times: dict[str, list[float]] = defaultdict(list)
    for repeat in range(arguments.repeats):
        out = work / f"ours-{repeat}"
        run = partial(build, corpus, folder, out, tokens=whole_rows, workers=arguments.workers)
        times["ours"].append(seconds(run))
        shutil.rmtree(out)
        times["back end"].append(back_end_seconds(tokenizer, encoder.name, texts))
        if encoder.name == "gigatoken":
            times["back end on the files"].append(gigatoken_file_seconds(tokenizer, corpus))
        say(f"repeat {repeat}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items()))
    sample = texts[: max(1, len(texts) // 16)]
    reference = seconds(lambda: tokenizer.encode(sample)) * len(texts) / len(sample)
    median = {name: statistics.median(values) for name, values in times.items()}
    figures = {
        "back end": encoder.name,
        "text, MB": megabytes,
        "tokens": our_tokens,
        "text to rows, MB/s": megabytes / median["ours"],
        "text to rows, M tokens/s": our_tokens / 1e6 / median["ours"],
        "back end alone, MB/s": megabytes / median["back end"],
        "tokenizers alone, MB/s": megabytes / reference,
        "text to rows / its tokenising back end": median["back end"] / median["ours"],
        "text to rows / tokenizers alone": reference / median["ours"],
    }
    if "back end on the files" in median:
        figures["back end on the same files, MB/s"] = megabytes / median["back end on the files"]
        figures["text to rows / its back end on the same files"] = median["back end on the files"] / median["ours"]
    if arguments.datatrove_python:
        theirs, their_tokens = datatrove_seconds(arguments, corpus, folder / "tokenizer.json", work / "datatrove")
        if their_tokens != our_tokens:
            raise SystemExit(f"datatrove counts {their_tokens:,} tokens, we {our_tokens:,}: not the same work")
        figures["datatrove, MB/s"] = megabytes / theirs
        figures["text to rows / datatrove"] = theirs / median["ours"]
    return figures


def write_corpus(folder: Path, size: int, *, files: int) -> list[str]:
    """Source code and documentation found beside this interpreter, as JSON lines in so many files."""
    folder.mkdir()
    texts: list[str] = []
    held = 0
    for path in sorted(Path(np.__file__).parents[1].rglob("*.py")):
        text = path.read_text(errors="ignore")
        # A spelled control token is ordinary text to us and the token to datatrove: left out, for equal counts.
        if text.strip() and len(text) < 10**6 and not any(token in text for token in CONTROL_TOKENS):
            texts.append(text)
            held += len(text)
        if held >= size:
            break
    for number in range(files):
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts[number::files])
        (folder / f"{number:03d}.jsonl").write_text("".join(lines))
    return texts


def train_tokenizer(texts: list[str], folder: Path) -> Path:
    """A byte-level BPE tokenizer, which gigatoken supports."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=CONTROL_TOKENS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts[:: max(1, len(texts) // 500)], trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return folder


def build(corpus: Path, tokenizer: Path, out: Path, *, tokens: int, workers: int) -> None:
    """Everything from the files to rows of 4,096 tokens, hashes and manifests included."""
    from data_recipes.build import build_phases
    from data_recipes.recipe import Recipe, Source, Subset

    subset = Subset(name="all", tokens=tokens, source=Source(path=str(corpus)))
    recipe = Recipe(name="all", context_length=4096, subsets=(subset,))
    options = {"tokenizer": tokenizer, "store": out / "store", "workers": workers, "progress": False}
    build_phases([recipe], out, **options)


def back_end_seconds(tokenizer: Any, name: str, texts: list[str]) -> float:
    """The back end on texts that are in memory already, on all cores, results thrown away."""
    if name != "gigatoken":
        return seconds(lambda: tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False))
    import gigatoken

    engine = gigatoken.Tokenizer.from_json(tokenizer.backend.to_str())
    return seconds(lambda: engine.encode_batch(texts, parallel=True))


def gigatoken_file_seconds(tokenizer: Any, corpus: Path) -> float:
    """gigatoken's own reader of JSON lines and its encoding, on all cores, results thrown away."""
    import gigatoken

    engine = gigatoken.Tokenizer.from_json(tokenizer.backend.to_str())
    source = gigatoken.JsonlFileSource(sorted(corpus.iterdir()))
    return seconds(lambda: engine.encode_files(source, parallel=True))


def datatrove_seconds(arguments: argparse.Namespace, corpus: Path, tokenizer: Path, out: Path) -> tuple[float, int]:
    """Their time by their own clock (imports left out), and the tokens of what they wrote (2 bytes each)."""
    script = out.with_name("peer.py")
    script.write_text(DATATROVE)
    command = [
        str(arguments.datatrove_python),
        str(script),
        str(corpus),
        str(tokenizer),
        str(out),
        str(arguments.workers),
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"datatrove failed:\n{done.stderr[-2000:]}")
    merged = sum(path.stat().st_size for path in (out / "merged").glob("*.ds"))
    return float(done.stdout.split("seconds")[-1]), merged // 2


# --- store to rows, memory ----------------------------------------------------------------------------------------


class GeneratedSupply:
    """Documents that exist as tokens only: units of 8 M random ids, log-normal lengths."""

    sequential = False
    revision = None
    input_bytes = None
    unit_tokens = 8 * 2**20

    def __init__(self, name: str, tokens: int) -> None:
        from data_recipes.recipe import Source

        self.source = Source(path=f"generated/{name}")
        self.fingerprint = name
        self.file_names = [name]
        self.unit_count = -(-tokens // self.unit_tokens)

    def read_unit(self, number: int, drops: Any) -> Iterator[Any]:
        raise NotImplementedError("generated units are written as tokens")

    def unit_identity(self) -> str:
        return self.fingerprint

    def write(self, store: Any, number: int) -> None:
        """A unit as the store would have written it."""
        from data_recipes.token_store import UnitRecord

        generator = np.random.default_rng([number, int(self.fingerprint, 36)])
        lengths = np.clip(generator.lognormal(6.5, 1.1, 30_000).astype(np.int64), 2, 200_000)
        ends = np.cumsum(lengths)
        ends = np.append(ends[ends < self.unit_tokens], self.unit_tokens)
        ids = generator.integers(3, store.tokenizer.vocab_size, self.unit_tokens, dtype=store.dtype)
        ids[ends - 1] = store.tokenizer.eos_id
        store.folder.mkdir(parents=True, exist_ok=True)
        ids.tofile(store.folder / f"unit-{number:05d}.tokens")
        table = np.stack([ends, np.zeros_like(ends), np.arange(len(ends))])
        np.save(store.folder / f"unit-{number:05d}.documents.npy", table)
        store.records[number] = UnitRecord(int(ends[-1]), len(ends), 0, {}, False, [], {})


def generated_stores(work: Path, tokens: int, sources: int) -> list[Any]:
    """Stores that together hold somewhat more than `tokens`."""
    from data_recipes.token_store import TokenStore
    from data_recipes.tokenise import LoadedTokenizer

    tokenizer = LoadedTokenizer(None, "generated", "generated", 99_000, 2, "</s>", 1, 102)
    stores = []
    for number in range(sources):
        supply = GeneratedSupply(f"source{number}", int(1.02 * tokens / sources) + 4096)
        store = TokenStore(supply, tokenizer, work / "generated", 0)
        for unit in range(supply.unit_count):
            supply.write(store, unit)
        stores.append(store)
    return stores


def plan_of(stores: list[Any], tokens: int, packing: str) -> Any:
    from data_recipes.build_plan import STRATEGIES
    from data_recipes.row_writer import PhasePlan
    from data_recipes.stream import Position

    rows = tokens // 4096 // len(stores)
    draws = [
        STRATEGIES[packing](store, Position(), rows, 4096, seed=number, long=None)
        for number, store in enumerate(stores)
    ]
    return PhasePlan.of(draws, 4096, stores=stores, pad_id=102)


def store_to_rows(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One thread, from mapped tokens to Arrow batches in memory, rows of 4,096 tokens from 12 sources."""
    from data_recipes.row_writer import record_batch, schema_of

    tokens = 64 * 2**20
    stores = generated_stores(work, tokens, 12)
    figures = {}
    for packing_name in ("concat", "best_fit"):
        plan = plan_of(stores, tokens, packing_name)
        schema = schema_of(4096)

        def run(plan: Any = plan, schema: Any = schema) -> None:
            for start in range(0, plan.rows, 1024):
                stop = min(plan.rows, start + 1024)
                record_batch(plan.assemble(start, stop), plan.order[start:stop], schema)

        run()
        rates = [plan.rows * 4096 / 1e6 / seconds(run) for _ in range(arguments.repeats)]
        figures[f"store to rows, {packing_name}, M tokens/s a core"] = statistics.median(rates)
    figures["store to rows, M tokens/s a core"] = min(figures.values())
    source = np.random.default_rng(0).integers(0, 99_000, tokens, dtype=np.uint32)
    copied = np.empty(tokens, dtype=np.int32)
    rates = [tokens / 1e6 / seconds(lambda: np.copyto(copied, source, casting="unsafe")) for _ in range(3)]
    figures["plain copy of the tokens, M tokens/s a core"] = statistics.median(rates)
    return figures


def large_build(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write a phase of generated tokens and watch this process's memory."""
    from data_recipes.row_writer import write_rows

    class Bar:
        def update(self, _: int) -> None: ...

    tokens = int(arguments.tokens)
    say("generating tokens")
    stores = generated_stores(work, tokens, 12)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    plan = plan_of(stores, tokens, "best_fit")
    (work / "phase").mkdir()
    say(f"writing {plan.rows:,} rows")
    took = seconds(lambda: write_rows(plan, work / "phase", workers=arguments.workers, progress=Bar()))
    return {
        "large build, tokens": plan.rows * 4096,
        "large build, M tokens/s": plan.rows * 4096 / 1e6 / took,
        "peak memory before, GiB": before,
        "peak memory, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


# --- packing, opening ---------------------------------------------------------------------------------------------


def packing(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Bin assignment alone, on lengths, against TRL's `bfd` on the same documents."""
    import pyarrow as pa
    from trl.data_utils import pack_dataset

    from data_recipes.packing import best_fit

    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(6.5, 1.1, 4_000_000).astype(np.int64), 1, 4096)
    _, rows = best_fit(lengths, 4096)
    rates = [len(lengths) / 1e6 / seconds(lambda: best_fit(lengths, 4096)) for _ in range(arguments.repeats)]

    from datasets import Dataset

    few = lengths[:100_000]
    offsets = np.concatenate([[0], np.cumsum(few)]).astype(np.int64)
    values = pa.array(np.zeros(int(offsets[-1]), dtype=np.int32))
    dataset = Dataset(pa.table({"input_ids": pa.LargeListArray.from_arrays(pa.array(offsets), values)}))
    packed: list[Any] = []
    theirs = seconds(
        lambda: packed.append(pack_dataset(dataset, 4096, strategy="bfd", map_kwargs={"batch_size": len(few)}))
    )
    ours = seconds(lambda: best_fit(few, 4096))
    own_rows = best_fit(few, 4096)[1]
    return {
        "best fit, M documents/s": statistics.median(rates),
        "best fit, fill": float(lengths.sum() / (rows * 4096)),
        "best fit, rows for 100,000 documents": own_rows,
        "TRL bfd, rows for 100,000 documents": len(packed[0]),
        "best fit, rows beyond TRL's": own_rows - len(packed[0]),
        "best fit / TRL bfd (which also moves the tokens)": theirs / ours,
    }


def opening(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Open a phase of 40B tokens as a trainer does; its shards are holes, its manifest is real."""
    from data_recipes.manifest import SCHEMA_VERSION
    from data_recipes.reader import KIND, PackedRows
    from data_recipes.row_files import shard_name
    from data_recipes.row_writer import SHARD_TOKENS

    folder = work / "phase-40b"
    folder.mkdir()
    shards = -(-40 * 10**9 // SHARD_TOKENS)
    files = {shard_name(number): {"sha256": "0" * 64, "bytes": 4 * SHARD_TOKENS} for number in range(shards)}
    subsets = [{"name": f"subset {number}", "domain": "web-en", "rows": 10**5} for number in range(123)]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "fingerprint": "0" * 64,
        "files": files,
        "counts": {"rows": shards * SHARD_TOKENS // 4096},
        "config": {"rows_per_shard": SHARD_TOKENS // 4096},
        "context_length": 4096,
        "subsets": subsets,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in files:
        with (folder / name).open("wb") as file:
            file.truncate(4 * SHARD_TOKENS)
    return {"opening a 40B-token phase, s": seconds(lambda: PackedRows(folder))}


if __name__ == "__main__":
    main()
