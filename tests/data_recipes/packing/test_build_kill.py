"""`kill -9`, a full disk, another number of workers, a second run: always the same bytes."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_text import write_corpus

# Small units and shards, so that a small build has many moments to die at.
SCRIPT = """
import json, sys
from pathlib import Path
from data_recipes.packing import writer as row_writer
from data_recipes.tokens import blocks as shuffled_blocks
from data_recipes.reading import files as source_files
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset

source_files.UNIT_BYTES = 20_000
shuffled_blocks.SHUFFLE_TOKENS = 2_000
row_writer.SHARD_TOKENS = 4_096
row_writer.BATCH_TOKENS = 1_024
place, tokenizer, out, workers, packing = sys.argv[1:]
subsets = tuple(
    Subset(name=path.stem, tokens=30_000, domain=path.stem, source=Source(path=str(path)))
    for path in sorted(Path(place).glob("*.jsonl"))
)
recipes = [
    Recipe(name=f"p{phase}", phase=phase, context_length=length, subsets=subsets)
    for phase, length in ((24, 64), (25, 64), (26, 448))
]
for _ in range(2):  # the second time there is nothing left to do
    build_phases(recipes, Path(out), tokenizer=tokenizer, store=Path(out) / "store", seed=5, workers=int(workers),
                 packing=packing, progress=False)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def start(corpus: Path, tokenizer: Path, out: Path, *, workers: int = 1, packing: str = "concat", **options):
    command = [sys.executable, "-c", SCRIPT, str(corpus), str(tokenizer), str(out), str(workers), packing]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **options)


def hashes(out: Path) -> dict[str, str]:
    """Every file by content; a killed build may leave an empty lock, which the next holder takes over."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture(scope="module", params=[pytest.param("concat", marks=pytest.mark.slow), "best_fit"])
def undisturbed(request, corpus, tokenizer_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    process = start(corpus, tokenizer_dir, out, packing=request.param)
    assert process.wait() == 0, process.stderr.read().decode()
    found = hashes(out)
    assert not [name for name in found if "partial" in name]
    assert sum(name.endswith(".arrow") for name in found) > 40
    return request.param, found


def files_below(out: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(out))


def test_killed_at_many_moments_it_ends_with_the_same_bytes(undisturbed, corpus, tokenizer_dir, tmp_path):
    packing, expected = undisturbed
    out = tmp_path / "out"
    kills = 0
    moments = (3, 45, len(expected) // 2 + 40, len(expected) - 8) if packing == "concat" else (len(expected) // 2 + 40,)
    for moment in moments:
        process = start(corpus, tokenizer_dir, out, packing=packing)
        while process.poll() is None and files_below(out) < moment:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= len(moments) - 1
    process = start(corpus, tokenizer_dir, out, packing=packing)
    assert process.wait() == 0, process.stderr.read().decode()
    assert hashes(out) == expected


def test_workers_and_a_second_run_change_nothing(undisturbed, corpus, tokenizer_dir, tmp_path):
    packing, expected = undisturbed
    out = tmp_path / "out"
    process = start(corpus, tokenizer_dir, out, workers=4, packing=packing)
    assert process.wait() == 0, process.stderr.read().decode()
    assert hashes(out) == expected


def test_a_full_disk_is_an_error_and_the_next_run_goes_on(undisturbed, corpus, tokenizer_dir, tmp_path):
    packing, expected = undisturbed
    if packing != "concat":
        pytest.skip("rows are written by the same code whatever the packing")
    out = tmp_path / "out"
    # No file may grow beyond 24 kB: tokens still fit, shards of rows do not.
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, 24_000))}
    process = start(corpus, tokenizer_dir, out, packing=packing, **limit)
    _, message = process.communicate()
    assert process.returncode != 0
    assert b"OSError" in message
    assert not list(out.glob("phase-*"))
    process = start(corpus, tokenizer_dir, out, packing=packing)
    assert process.wait() == 0, process.stderr.read().decode()
    assert hashes(out) == expected
