"""Documents too long to hold: the same tokens as any other document's, in little memory."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_text import make_documents, write_jsonl

from data_recipes.packing.build import build_phases
from data_recipes.reading import documents, formats
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows
from data_recipes.rows.trace import trace_rows
from data_recipes.tokens import tokenizer
from data_recipes.tokens.tokenizer import load_tokenizer

TEXT = "\ufeff" + "\r\n".join(f"{text}, “{text}” 🙂 天地玄黄，宇宙洪荒。" for text in make_documents("web-en", 300))


@pytest.fixture
def build(tmp_path, tokenizer_dir):
    def run(path: Path, name: str, **options) -> PackedRows:
        subset = Subset(name="a", tokens=12_800, source=Source(path=str(path)))
        recipe = Recipe(name="mix", context_length=64, subsets=(subset,))
        options = {"tokenizer": tokenizer_dir, "store": tmp_path / f"store-{name}", "progress": False, **options}
        (folder,) = build_phases([recipe], tmp_path / name, **options)
        return PackedRows(folder)

    return run


@pytest.fixture
def all_are_long(monkeypatch):
    for module in (documents, formats):
        monkeypatch.setattr(module, "LONG_CHARACTERS", 1_000)
    for module in (documents, formats, tokenizer):
        monkeypatch.setattr(module, "CHUNK_CHARACTERS", 101)


def files(rows: PackedRows) -> dict:
    return {name: entry for name, entry in rows.manifest["files"].items() if name.endswith(".arrow")}


@pytest.mark.parametrize("options", [{}, {"bos": True}, {"dropout": 0.1}], ids=["plain", "BOS", "dropout"])
@pytest.mark.parametrize("name", ["book.txt", "book.txt.gz"])
def test_a_long_document_has_the_rows_of_any_other(tmp_path, build, request, options, name):
    path = tmp_path / name
    content = TEXT.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    short = build(path, "short", **options)
    request.getfixturevalue("all_are_long")
    long = build(path, "long", **options)
    assert files(long) == files(short)
    assert long.manifest["counts"] == short.manifest["counts"]


@pytest.mark.usefixtures("all_are_long")
def test_long_documents_among_short_ones_are_found_again(tmp_path, build, tokenizer_dir):
    texts = make_documents("web-en", 60, longest=400)
    assert 10 < sum(len(text) > 1_000 for text in texts) < 50
    rows = build(write_jsonl(tmp_path / "a.jsonl", texts), "mixed")
    loaded = load_tokenizer(tokenizer_dir)
    for traced in trace_rows(rows.folder, step=1, batch_size=64, text=True):
        for piece in traced["documents"]:
            assert piece["text_from"] == "source"
            ids = [*loaded.backend.encode(texts[piece["row"]]).ids, loaded.eos_id][piece["start"] : piece["end"]]
            assert piece["text"] == loaded.decode(np.array(ids))


@pytest.mark.usefixtures("all_are_long")
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(lambda content: content + b"\xff", "not UTF-8"), (lambda content: content + b"\0", "binary")],
    ids=["not UTF-8", "binary"],
)
def test_a_long_file_is_looked_through_before_any_of_it_is_used(tmp_path, build, spoil, reason):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "bad.txt").write_bytes(spoil(TEXT.encode()))
    (folder / "blank.txt").write_text(" \n" * 2_000)
    (folder / "good.txt").write_text(TEXT)
    rows = build(folder, "mixed")
    assert rows.manifest["sources"][0]["drops"] == {"empty": 1, reason: 1}
    assert {piece["file"] for row in range(rows.num_rows) for piece in rows.documents(row)} == {2}


MEMORY = """
import sys
from pathlib import Path
from data_recipes.machine import peak_memory
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset
path, out, tokenizer = sys.argv[1:]
recipe = Recipe(name="mix", context_length=4096,
                subsets=(Subset(name="a", tokens=409_600, source=Source(path=path)),))
build_phases([recipe], Path(out), tokenizer=tokenizer, store=Path(out) / "store", workers=1, progress=False)
print(peak_memory())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_document(tmp_path, tokenizer_dir):
    peaks = []
    for megabytes in (20, 80):
        path = tmp_path / f"{megabytes}.txt"
        path.write_text(TEXT * (megabytes * 10**6 // len(TEXT.encode())))
        command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / str(megabytes)), str(tokenizer_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]
