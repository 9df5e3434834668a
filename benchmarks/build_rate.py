"""How much text does a core make into rows, by what encodes? The rates that `yulanmini data plan` counts with.

    python benchmarks/build_rate.py TOKENIZER [--megabytes 48] [--out benchmarks/results/build_rate.json]

TOKENIZER: a folder with byte fallback and digits set apart, such as 02-tokenizer of a run; a byte-level one is trained
here. Processor time of whole builds (reading, tokenising, packing, hashing, writing) on one worker: machines are noisy.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from data_build import train_tokenizer, write_corpus

from data_recipes.packing import plan
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.tokens.encoders import HuggingFaceEncoder, choose_encoder
from data_recipes.tokens.tokenizer import load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--megabytes", type=float, default=48)
    parser.add_argument("--slow-megabytes", type=float, default=8, help="for `tokenizers`")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rates: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="build-rate-") as place:
        work = Path(place)
        texts = write_corpus(work / "text", round(arguments.megabytes * 1e6), files=2)
        few = write_corpus(work / "few", round(arguments.slow_megabytes * 1e6), files=2)
        bytelevel = train_tokenizer(texts, work / "bytelevel")
        runs = {
            "warm-up": (work / "few", few, bytelevel, 0.0),  # compiles
            "warm-up, byte fallback": (work / "few", few, arguments.tokenizer, 0.0),
            "warm-up, dropout": (work / "few", few, arguments.tokenizer, arguments.dropout),
            "gigatoken": (work / "text", texts, bytelevel, 0.0),
            "compiled BPE": (work / "text", texts, arguments.tokenizer, 0.0),
            "bpe-dropout": (work / "text", texts, arguments.tokenizer, arguments.dropout),
            "tokenizers": (work / "few", few, arguments.tokenizer, 0.0),
        }
        for name, (corpus, read, tokenizer, dropout) in runs.items():
            if name == "tokenizers":
                plan.choose_encoder = lambda one, **_: (HuggingFaceEncoder(one), None)  # type: ignore[assignment]
            elif not dropout and not name.startswith("warm-up"):
                found = choose_encoder(load_tokenizer(tokenizer), dropout=0.0, seed=0)[0].name
                assert found == name, f"{tokenizer} is encoded by {found}, not by {name}"
            size = sum(len(text.encode()) for text in read)
            begun = time.process_time()
            build(corpus, tokenizer, work / name, size, dropout)
            seconds = time.process_time() - begun
            if not name.startswith("warm-up"):
                rates[name] = {"megabytes": round(size / 1e6, 1), "core_seconds": round(seconds, 2)}
                rates[name]["megabytes_per_core_second"] = round(size / 1e6 / seconds, 2)
    print(json.dumps(rates, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(rates, indent=1) + "\n")


def build(corpus: Path, tokenizer: Path, out: Path, size: int, dropout: float) -> None:
    """All of the text, into about as many tokens as there are."""
    subset = Subset(name="all", tokens=size // 4, source=Source(path=str(corpus)))
    recipe = Recipe(name="all", context_length=4096, subsets=(subset,))
    options: dict[str, Any] = {"tokenizer": tokenizer, "store": out / "store", "workers": 1, "progress": False}
    build_phases([recipe], out, dropout=dropout, **options)


if __name__ == "__main__":
    main()
