"""How fast is text made into ids, by form of tokenizer and back end, plainly and with BPE-dropout?

    python benchmarks/tokenizers_speed.py [--megabytes 24] [--out benchmarks/results/tokenizers_speed.json]

MB/s are of UTF-8 by the processor time of one thread, the best of the repeats; `tokenizers`, on one thread, does the
same work in between, on a part of the text. The text is that of `tokenizers_equal.py`: files of this machine's Python.
The share under the GIL is the time of the calling thread that is not spent in compiled code, which releases it.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer
from tokenizers_equal import FORMS, files, tokenizer_of

from data_recipes.tokens import merges, words
from data_recipes.tokens.bpe_dropout import DropoutEncoder
from data_recipes.tokens.encoders import CompiledEncoder, GigatokenEncoder, choose_encoder

DOCUMENT = 4_000  # characters, about the mean of web text
PEER_SHARE = 20  # `tokenizers` has one document of so many
COMPILED = [(words, "_kinds"), (words, "_cut"), (merges, "_encode_words")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=24)
    parser.add_argument("--vocabulary", type=int, default=32_768)
    parser.add_argument("--rate", type=float, default=0.1, help="of dropout")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokenizers", type=Path, help="folder to keep the trained tokenizers in")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    texts = documents(arguments.megabytes * 10**6)
    result: dict[str, Any] = {"megabytes": round(size(texts) / 1e6, 1), "rate": arguments.rate, "start": start_up()}
    with tempfile.TemporaryDirectory() as place:
        for form in FORMS:
            tokenizer = tokenizer_of(form, arguments.tokenizers or Path(place), arguments.vocabulary)
            result[form] = measure(tokenizer, texts, arguments)
            print(form, json.dumps(result[form], indent=2), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def documents(limit: int) -> list[str]:
    texts: list[str] = []
    for text in files(text=True):
        texts += [text[start : start + DOCUMENT] for start in range(0, min(len(text), 10 * DOCUMENT), DOCUMENT)]
        limit -= len(text[: 10 * DOCUMENT].encode())
        if limit < 0:
            break
    return texts


def size(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def start_up() -> dict[str, float]:
    """Processor seconds that a process needs before its first word, with compiled code in numba's cache."""
    start = time.process_time()
    words.character_kinds()
    kinds = time.process_time() - start
    words.digits_of({"type": "Digits"})
    return {"kinds of characters": round(kinds, 2), "digits": round(time.process_time() - start - kinds, 2)}


def measure(tokenizer: Any, texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    sample = texts[::PEER_SHARE]
    chosen, _ = choose_encoder(tokenizer, dropout=0.0, seed=0)
    dropping = DropoutEncoder(tokenizer.backend, rate=arguments.rate, seed=0)
    peer = Tokenizer.from_str(tokenizer.backend.to_str())
    peer.encode_special_tokens = True
    peer.model.dropout = arguments.rate
    runs: dict[str, tuple[Callable[[], Any], list[str]]] = {
        "tokenizers": (lambda: plain_peer.encode_batch_fast(sample, add_special_tokens=False), sample),
        "compiled BPE": (lambda: compiled.encode(texts), texts),
        "tokenizers, dropout": (lambda: peer.encode_batch_fast(sample, add_special_tokens=False), sample),
        "dropout": (lambda: dropping.encode(texts), texts),
    }
    plain_peer, compiled = tokenizer.backend, CompiledEncoder(tokenizer)
    with suppress(Exception):  # it refuses the miniature's form
        gigatoken = GigatokenEncoder(tokenizer)
        runs["gigatoken"] = (lambda: gigatoken.encode(texts), texts)
    for run, _ in runs.values():
        run()
    best = dict.fromkeys(runs, float("inf"))
    for (name, (run, of)), _ in itertools.product(runs.items(), range(arguments.repeats)):
        start = time.thread_time()
        run()
        best[name] = min(best[name], (time.thread_time() - start) / size(of))
    figures: dict[str, Any] = {f"{name}, MB/s": round(1e-6 / value, 1) for name, value in best.items()}
    tokens, dropped = len(compiled.encode(sample)[0]), len(dropping.encode(sample)[0])
    theirs = sum(map(len, peer.encode_batch_fast(sample, add_special_tokens=False)))
    return {
        "back end": chosen.name,
        **figures,
        "dropout / tokenizers' dropout": round(best["tokenizers, dropout"] / best["dropout"], 1),
        "share under the GIL": {
            "compiled BPE": share_under_the_lock(runs["compiled BPE"][0]),
            "dropout": share_under_the_lock(runs["dropout"][0]),
        },
        "two threads, times one": {name: two_threads(runs[name][0]) for name in ("compiled BPE", "dropout")},
        "tokens more by dropout, %": {
            "ours": round(100 * dropped / tokens - 100, 2),
            "tokenizers": round(100 * theirs / tokens - 100, 2),
        },
    }


def share_under_the_lock(run: Callable[[], Any]) -> float:
    """Of the calling thread's time, what is not spent in compiled code."""
    inside = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            nonlocal inside
            start = time.thread_time()
            result = function(*given)
            inside += time.thread_time() - start
            return result

        return call

    originals = [getattr(module, name) for module, name in COMPILED]
    for (module, name), original in zip(COMPILED, originals, strict=True):
        setattr(module, name, timed(original))
    start = time.thread_time()
    run()
    whole = time.thread_time() - start
    for (module, name), original in zip(COMPILED, originals, strict=True):
        setattr(module, name, original)
    return round(1 - inside / whole, 3)


def two_threads(run: Callable[[], Any]) -> float:
    """How many times as much two threads do in the same time; only a machine with two free cores tells."""
    times = []
    for threads in (1, 2):
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: run(), range(4)))
        times.append(time.perf_counter() - start)
    return round(times[0] / times[1], 2)


if __name__ == "__main__":
    main()
