"""Peak memory and time of building one giant plain-text document, with either encoding back end.

    python benchmarks/long_document.py --megabytes 300 --backend gigatoken --out benchmarks/results/long_document.jsonl

The text is Python source with curly quotes, emoji and Chinese between; the tokenizers are byte-level BPE as GPT-2's
(which gigatoken takes) and the main job's own kind (which it refuses, so `tokenizers` encodes), trained on the text's
beginning. Each run adds a line to --out.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from data_recipes.machine import peak_memory
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.tokens.train import SPECIAL_TOKENS, assemble, normalizer, pre_tokenizer, save

VOCABULARY = 4096


def write_text(path: Path, megabytes: int) -> str:
    """A file of that size; returns what it repeats."""
    sources = sorted(Path(np.__file__).parent.rglob("*.py"))[:200]
    piece = "".join(source.read_text(errors="ignore") for source in sources) + " “curly” 🙂 天地玄黄，宇宙洪荒。\n"
    with path.open("w", encoding="utf-8") as file:
        written = 0
        while written < megabytes * 10**6:
            written += file.write(piece)
    return piece


def write_tokenizer(folder: Path, backend: str, text: str) -> Path:
    """GPT-2's kind, or the main job's (`data_recipes/tokens/train.py`): single digits, byte fallback."""
    folder.mkdir()
    trainee = Tokenizer(models.BPE())
    if backend == "gigatoken":
        trainee.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=list(SPECIAL_TOKENS.values()),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        trainee.train_from_iterator([text[: 10**6]], trainer)
        save(trainee, folder)
    else:
        trainee.normalizer, trainee.pre_tokenizer = normalizer(), pre_tokenizer()
        trainee.train_from_iterator([text[: 10**6]], trainers.BpeTrainer(vocab_size=VOCABULARY, limit_alphabet=500))
        model = json.loads(trainee.to_str())["model"]
        save(assemble(model["vocab"], [tuple(merge) for merge in model["merges"]]), folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--backend", choices=["gigatoken", "tokenizers"], default="gigatoken")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        text = write_text(folder / "book.txt", arguments.megabytes)
        tokenizer = write_tokenizer(folder / "tokenizer", arguments.backend, text)
        source = Source(path=str(folder / "book.txt"))
        recipe = Recipe(
            name="mix",
            context_length=4096,
            subsets=(Subset(name="book", tokens=arguments.megabytes * 150_000, source=source),),
        )
        began = time.perf_counter()
        (built,) = build_phases([recipe], folder / "out", tokenizer=tokenizer, workers=2, progress=False)
        seconds = time.perf_counter() - began
        manifest = json.loads((built / "manifest.json").read_text())
    record = {
        "backend": arguments.backend,
        "megabytes": arguments.megabytes,
        "peak memory, GiB": round(peak_memory() / 2**30, 3),
        "seconds": round(seconds, 1),
        "tokens": manifest["counts"]["tokens"],
        "notes": manifest["sources"][0]["notes"],
    }
    print(json.dumps(record, indent=1))
    if arguments.out is not None:
        with arguments.out.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
