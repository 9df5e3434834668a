"""Cleaning text: speed and memory of its parts on one core, beside peers on the same texts, and whether they agree.

    python benchmarks/cleaning.py signatures --peers-python /tmp/peers/bin/python
    python benchmarks/cleaning.py near-duplicates --documents 1000000 --out /tmp/million

`signatures`: MinHash of web-length texts, from text. datatrove runs in this environment (extra `cluster`), its English
word splitter, spaCy, replaced by splitting at white space; rensa and datasketch in an environment of their own (pip
install rensa datasketch), for texts split by Python. `near-duplicates`: exact and near duplicates of so many documents
through `data_recipes.cleaning.clean` in one process, with peak memory; `--texts identical` is one text so many times,
`--texts template` one with some words of its own in each document; both go to near-duplicates alone. Each part writes
its results into results/cleaning.json.
"""

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.machine import peak_memory

RESULTS = Path(__file__).with_name("results") / "cleaning.json"
SHINGLE_WORDS, BANDS, ROWS = 5, 14, 8
MEAN_CHARACTERS = 3000  # of a page of FineWeb, about
REPEATS = 3

PEERS = r"""
import json, re, sys, time
import datasketch, numpy as np, rensa

texts = json.load(open(sys.argv[1]))
hashes = np.load(sys.argv[2])
values, offsets = hashes["values"], hashes["offsets"]

def seconds(work):
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)

def shingles_of(text):
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[place:place + 5]) for place in range(max(1, len(words) - 4))]

def rensa_from_text():
    rensa.RMinHash.digest_matrix_from_token_sets([shingles_of(text) for text in texts], num_perm=112, seed=42)

def datasketch_from_text():
    for text in texts[:len(texts) // 10]:
        datasketch.MinHash(num_perm=112).update_batch([shingle.encode() for shingle in shingles_of(text)])

def rensa_from_hashes():
    rensa.RMinHash.digest_matrix_from_flat_token_hashes(values, offsets, num_perm=112, seed=42)

print(json.dumps({
    "rensa, from our hashed shingles": {"seconds": seconds(rensa_from_hashes)},
    "rensa, from text shingled in Python": {"seconds": seconds(rensa_from_text)},
    "datasketch, from text shingled in Python": {"seconds": 10 * seconds(datasketch_from_text)},
}))
"""


def sentences() -> list[str]:
    """Sentences of the documentation that is installed here."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        text = path.read_text(errors="ignore")
        for docstring in text.split('"""')[1::2]:
            for sentence in re.split(r"(?<=[.:])\s+|\n\n+", docstring):
                if 40 <= len(sentence) <= 400:
                    found[sentence.strip()] = None
        if len(found) > 60_000:
            break
    return list(found)


def pages(count: int, *, mean: int, seed: int) -> Iterator[str]:
    """Texts of log-normal length; one in five is another one edited, one in twenty another one."""
    generator = random.Random(seed)
    pool = sentences()
    spread = 0.8
    recent: list[str] = []
    for _ in range(count):
        kind = generator.random() if recent else 1.0
        if kind < 0.05:
            yield generator.choice(recent)
            continue
        if kind < 0.25:
            words = generator.choice(recent).split(" ")
            for _ in range(generator.randrange(1, 2 + len(words) // 30)):
                words[generator.randrange(len(words))] = f"edit{generator.randrange(1000)}"
            text = " ".join(words)
        else:
            size = mean * np.exp(generator.gauss(-spread * spread / 2, spread))
            parts = []
            while size > 0:
                parts.append(generator.choice(pool))
                size -= len(parts[-1])
            text = " ".join(parts)
        recent.append(text)
        if len(recent) > 1000:
            recent[generator.randrange(1000)] = recent.pop()
        yield text


def seconds(work: Callable[[], Any]) -> float:
    """Of the fastest of some runs: others share this machine."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def our_keys(texts: list[str]) -> np.ndarray:
    """Keys of all texts, a few MB at a time as the pipeline does."""
    from data_recipes.cleaning.duplicates.minhash import band_keys, shingles

    found = []
    for start in range(0, len(texts), 1000):
        found.append(band_keys(*shingles(texts[start : start + 1000], SHINGLE_WORDS), bands=BANDS, rows=ROWS))
    return np.concatenate(found)


def datatrove_step(folder: Path) -> Any:
    """`MinhashDedupSignature` at its defaults, with `str.split` in the place of spaCy, which only makes it faster."""
    from types import SimpleNamespace

    from datatrove.pipeline.dedup import minhash

    minhash.load_word_tokenizer = lambda language: SimpleNamespace(word_tokenize=str.split)
    step = minhash.MinhashDedupSignature(str(folder))
    hash_bytes = step._hash_func
    step._hash_func = lambda text: hash_bytes(text.encode())  # xxhash 4 takes no strings; datatrove wants 3
    return step


def datatrove_keys(step: Any, texts: list[str]) -> list[list[tuple[int, ...]]]:
    return [[tuple(band) for band in step.get_signature(step.get_shingles(text))] for text in texts]


def recall(keys: list[Any], pairs: list[tuple[int, int]]) -> float:
    """Share of pairs with a band in common."""
    return statistics.mean(any(one == other for one, other in zip(keys[a], keys[b], strict=True)) for a, b in pairs)


def pairs_of(texts: list[str]) -> tuple[list[str], list[tuple[int, int]], float]:
    """Texts followed by edited copies, the pairs, and the recall that their true similarities give."""
    from data_recipes.cleaning.duplicates.minhash import jaccard, shingle_sets

    generator = random.Random(2)
    copies = []
    for text in texts:
        words = text.split(" ")
        for _ in range(1 + int(len(words) * generator.choice([0.01, 0.02, 0.03, 0.05]))):
            words[generator.randrange(len(words))] = f"edit{generator.randrange(1000)}"
        copies.append(" ".join(words))
    sets = shingle_sets(texts + copies, SHINGLE_WORDS)
    values = [jaccard(sets[place], sets[place + len(texts)]) for place in range(len(texts))]
    expected = statistics.mean(1 - (1 - value**ROWS) ** BANDS for value in values)
    return texts + copies, [(place, place + len(texts)) for place in range(len(texts))], expected


def measure_signatures(arguments: argparse.Namespace) -> dict[str, Any]:
    from data_recipes.cleaning.duplicates.minhash import band_keys, shingles

    texts = list(pages(arguments.documents or 4000, mean=MEAN_CHARACTERS, seed=1))
    our_keys(texts[:10])
    ours = seconds(lambda: our_keys(texts))
    hashed = [shingles(texts[at : at + 1000], SHINGLE_WORDS) for at in range(0, len(texts), 1000)]
    kernel = seconds(lambda: [band_keys(*part, bands=BANDS, rows=ROWS) for part in hashed])
    found: dict[str, Any] = {"ours": {"seconds": ours}, "ours, from our hashed shingles": {"seconds": kernel}}
    with tempfile.TemporaryDirectory() as folder:
        step = datatrove_step(Path(folder))
        some = texts[: len(texts) // 4]
        found["datatrove MinhashDedupSignature"] = {"seconds": 4 * seconds(lambda: datatrove_keys(step, some))}
        both, pairs, expected = pairs_of(texts[:1000])
        agreement = {
            "recall by the formula": round(expected, 4),
            "recall of ours": round(recall(our_keys(both), pairs), 4),
            "recall of datatrove": round(recall(datatrove_keys(step, both), pairs), 4),
        }
        if arguments.peers_python:
            found |= peer_seconds(arguments.peers_python, texts, Path(folder))
    for entry in found.values():
        entry["documents/s"] = round(len(texts) / entry["seconds"])
        entry["seconds"] = round(entry["seconds"], 3)
    return {
        "documents": len(texts),
        "mean characters": round(statistics.mean(map(len, texts))),
        "what": found,
        "ours over datatrove": round(
            found["ours"]["documents/s"] / found["datatrove MinhashDedupSignature"]["documents/s"], 1
        ),
        "agreement on 1,000 pairs": agreement,
    }


def peer_seconds(python: Path, texts: list[str], folder: Path) -> dict[str, Any]:
    """rensa and datasketch under their own interpreter, by their own clock."""
    from data_recipes.cleaning.duplicates.minhash import shingles

    (folder / "peers.py").write_text(PEERS)
    (folder / "texts.json").write_text(json.dumps(texts))
    values, offsets = shingles(texts, SHINGLE_WORDS)
    np.savez(folder / "hashes.npz", values=values, offsets=offsets)
    command = [str(python), "peers.py", "texts.json", "hashes.npz"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the peers failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def measure_near_duplicates(arguments: argparse.Namespace) -> dict[str, Any]:
    from data_recipes.cleaning.clean import clean
    from data_recipes.cleaning.config import checked_config
    from data_recipes.cleaning.pipeline.inputs import parse_inputs

    out = arguments.out or Path(tempfile.mkdtemp())
    corpus, count = out / "corpus.jsonl", arguments.documents or 1_000_000
    out.mkdir(parents=True, exist_ok=True)
    if not corpus.exists():
        texts = TEXTS[arguments.texts](count)
        with corpus.with_suffix(".partial").open("w") as file:
            for text in texts:
                file.write(json.dumps({"text": text}) + "\n")
        corpus.with_suffix(".partial").rename(corpus)
    steps = [{"step": "exact-duplicates"}, {"step": "near-duplicates"}]
    config = checked_config({"most_lost_of_a_source": 1.0, "steps": steps if arguments.texts == "pages" else steps[1:]})
    before = peak_memory()
    shutil.rmtree(out / "cleaned", ignore_errors=True)
    start, start_cpu = time.perf_counter(), time.process_time()
    manifest = clean(config, parse_inputs([str(corpus)]), out / "cleaned")
    return {
        "documents": count,
        "bytes of text": corpus.stat().st_size,
        "seconds": round(time.perf_counter() - start),
        "seconds of CPU": round(time.process_time() - start_cpu),
        "peak memory, MiB": round(peak_memory() / 2**20),
        "peak memory before, MiB": round(before / 2**20),
        "kept": manifest["counts"]["kept_documents"],
        "disk of work, MiB": round(
            sum(p.stat().st_size for p in (out / "cleaned" / "work").rglob("*") if p.is_file()) / 2**20
        ),
    }


def template_pages(count: int) -> Iterator[str]:
    """A page of 200 words, 5 of which are each document's own."""
    words = " ".join(sentences()[:40]).split(" ")[:195]
    for number in range(count):
        yield " ".join([*words, *(f"own{number}x{place}" for place in range(5))])


TEXTS: dict[str, Callable[[int], Iterator[str]]] = {
    "pages": lambda count: pages(count, mean=MEAN_CHARACTERS, seed=3),
    "identical": lambda count: repeat(next(template_pages(1)), count),
    "template": template_pages,
}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "signatures": measure_signatures,
    "near-duplicates": measure_near_duplicates,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--texts", choices=TEXTS, default="pages")
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from data_recipes.machine import this_machine

    result = {**PARTS[arguments.part](arguments), "machine": this_machine()}
    print(json.dumps(result, indent=2))
    if not arguments.no_save:
        whole = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        whole[arguments.part if arguments.texts == "pages" else f"{arguments.part}, {arguments.texts}"] = result
        RESULTS.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
