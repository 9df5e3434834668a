"""The peers of data_build.py on the same corpus: bare back ends, gigatoken on files, datatrove; seconds of each."""

import subprocess
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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


def datatrove_seconds(arguments: Namespace, corpus: Path, tokenizer: Path, out: Path) -> tuple[float, int]:
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
