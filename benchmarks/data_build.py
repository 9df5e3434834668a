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
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data_build_peers import back_end_seconds, datatrove_seconds, gigatoken_file_seconds, seconds
from generated_stores import generated_stores, plan_of

from data_recipes.machine import peak_memory

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
    parser.add_argument("--back-end", choices=["fastest", "tokenizers"], default="fastest", help="of ours")
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


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


# --- text to rows -------------------------------------------------------------------------------------------------


def text_to_rows(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Our whole way against datatrove's tokenise-and-merge and against the bare back ends."""
    from data_recipes.tokens import encoders
    from data_recipes.tokens.tokenizer import load_tokenizer

    corpus = work / "corpus"
    texts = write_corpus(corpus, arguments.megabytes * 10**6, files=2 * arguments.workers)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    folder = arguments.tokenizer or train_tokenizer(texts, work / "tokenizer")
    tokenizer = load_tokenizer(folder)
    if arguments.back_end == "tokenizers":
        use_tokenizers()
    encoder, note = encoders.choose_encoder(tokenizer, dropout=0.0, seed=0)
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


def use_tokenizers() -> None:
    """Let builds of this process encode by `tokenizers`, as datatrove does, even where there is something faster."""
    from data_recipes.packing import plan
    from data_recipes.tokens import encoders

    def slow(tokenizer: Any, **_: Any) -> tuple[Any, None]:
        return encoders.HuggingFaceEncoder(tokenizer), None

    encoders.choose_encoder = plan.choose_encoder = slow


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
    from data_recipes.packing.build import build_phases
    from data_recipes.recipes.recipe import Recipe, Source, Subset

    subset = Subset(name="all", tokens=tokens, source=Source(path=str(corpus)))
    recipe = Recipe(name="all", context_length=4096, subsets=(subset,))
    options = {"tokenizer": tokenizer, "store": out / "store", "workers": workers, "progress": False}
    build_phases([recipe], out, **options)


# --- store to rows, memory ----------------------------------------------------------------------------------------


def store_to_rows(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One thread, from mapped tokens to Arrow batches in memory, rows of 4,096 tokens from 12 sources."""
    from data_recipes.packing.writer import record_batch
    from data_recipes.rows.layout import schema_of

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
    from data_recipes.packing.writer import write_rows

    class Bar:
        def update(self, _: int) -> None: ...

    tokens = int(arguments.tokens)
    say("generating tokens")
    stores = generated_stores(work, tokens, 12)
    before = peak_memory() / 2**30
    plan = plan_of(stores, tokens, "best_fit")
    (work / "phase").mkdir()
    say(f"writing {plan.rows:,} rows")
    took = seconds(lambda: write_rows(plan, work / "phase", workers=arguments.workers, progress=Bar()))
    return {
        "large build, tokens": plan.rows * 4096,
        "large build, M tokens/s": plan.rows * 4096 / 1e6 / took,
        "peak memory before, GiB": before,
        "peak memory, GiB": peak_memory() / 2**30,
    }


# --- packing, opening ---------------------------------------------------------------------------------------------


def packing(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Bin assignment alone, on lengths, against TRL's `bfd` on the same documents."""
    import pyarrow as pa
    from trl.data_utils import pack_dataset

    from data_recipes.packing.best_fit import best_fit

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
    from data_recipes.packing.writer import SHARD_TOKENS
    from data_recipes.rows.layout import KIND, shard_name
    from data_recipes.rows.reader import PackedRows

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
