"""What can be cleaned: every format that recipes read, damaged files, and what comes out read by a recipe again."""

import gzip
import io
import json
import random
from pathlib import Path

import planted_steps  # noqa: F401 (its steps are found by name)
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.summary import read_summary, reasons_of
from data_recipes.errors import DataError
from data_recipes.manifest import verify_files
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows

CONFIG = {"steps": [{"step": "planted-count", "fewest": 3}, {"step": "planted-twins"}]}


def rows(name: str, count: int = 3) -> list[dict]:
    return [{"text": f"{name} document {number} of some", "stars": number} for number in range(count)]


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def write_formats(folder: Path) -> None:
    """Three documents in each format, one in each plain file."""
    folder.mkdir()
    lines = {name: "\n".join(map(json.dumps, rows(name))).encode() for name in ("lines", "gz", "zst")}
    files = {
        "a.jsonl": lines["lines"],
        "b.jsonl.gz": gzip.compress(lines["gz"], mtime=0),
        "c.ndjson.zst": zstandard.compress(lines["zst"]),
        "d.json": json.dumps(rows("array")).encode(),
        "e.parquet": parquet_bytes(pa.Table.from_pylist(rows("parquet"))),
        "f.arrow": arrow_bytes(pa.Table.from_pylist(rows("arrow"))),
        "g.txt": b"a plain text file",
        "h.md.gz": gzip.compress(b"# a packed Markdown file", mtime=0),
        "i.py": b"print('a Python file') # of words",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


def kept(out: Path) -> list[dict]:
    return [row for path in sorted((out / "kept").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_format_is_read_from_one_folder(tmp_path):
    write_formats(tmp_path / "in")
    clean(checked_config(CONFIG), parse_inputs([str(tmp_path / "in")]), tmp_path / "out")
    found = kept(tmp_path / "out")
    of_rows = [name for name in "abcdef" for _ in range(3)]
    assert [row["file"].split(".")[0] for row in found] == [*of_rows, "g", "h", "i"]
    assert [row["planted_stars"] for row in found[:18]] == 6 * [0.0, 1.0, 2.0]
    assert found[12]["text"] == "parquet document 0 of some"


def test_the_folder_may_be_a_link_and_typed_in_any_way(tmp_path, monkeypatch):
    write_formats(tmp_path / "in")
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.chdir(tmp_path / "in")
    out = Path("..", "in", "..", "link", "out")
    manifest = clean(checked_config(CONFIG), parse_inputs(["../in"]), out)
    assert "kept/00000.parquet" in manifest["files"]
    assert verify_files(out) == []


def test_a_pattern_says_which_files_are_meant(tmp_path):
    write_formats(tmp_path / "in")
    clean(checked_config(CONFIG), parse_inputs([f"{tmp_path}/in/*.jsonl*"]), tmp_path / "out")
    assert {row["file"] for row in kept(tmp_path / "out")} == {"a.jsonl", "b.jsonl.gz"}


def test_what_follows_damage_is_counted_and_the_rest_is_read(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    chance = random.Random(0)
    many = [{"text": f"a document {chance.random()} {chance.random()}"} for _ in range(4000)]
    whole = gzip.compress("\n".join(map(json.dumps, many)).encode())
    (folder / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "good.jsonl").write_text("\n".join(map(json.dumps, rows("good"))))
    clean(checked_config(CONFIG), parse_inputs([str(folder)]), tmp_path / "out")
    summary = read_summary(tmp_path / "out")
    assert reasons_of(summary) == {("reading", "damaged file"): 1}
    files = [row["file"] for row in kept(tmp_path / "out")]
    assert files.count("good.jsonl") == 3
    assert 500 < files.count("cut.jsonl.gz") < 4000


def test_a_file_without_a_readable_schema_is_refused_before_work_begins(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    content = parquet_bytes(pa.Table.from_pylist(rows("parquet")))
    (folder / "cut.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut.parquet: damaged or cut short .* read as Parquet"):
        clean(checked_config(CONFIG), parse_inputs([str(folder)]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"text": null}\n'])
def test_nothing_to_keep_is_a_result_too(tmp_path, content):
    (tmp_path / "in.jsonl").write_bytes(content)
    manifest = clean(checked_config(CONFIG), parse_inputs([str(tmp_path / "in.jsonl")]), tmp_path / "out")
    assert manifest["counts"]["kept_documents"] == 0
    assert read_summary(tmp_path / "out")["documents"] == content.count(b"text")


def test_a_recipe_builds_from_what_was_kept(tmp_path, tokenizer_dir):
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, [*rows("x", 200), {"text": "short"}])))
    clean(checked_config(CONFIG), parse_inputs([str(tmp_path / "in.jsonl")]), tmp_path / "out")
    filters = ({"field": "planted_stars", "min": 100},)
    source = Source(path=str(tmp_path / "out/kept"), filters=filters)
    recipe = Recipe(name="r", context_length=32, subsets=(Subset(name="cleaned", tokens=640, source=source),))
    (built,) = build_phases([recipe], tmp_path / "data", tokenizer=tokenizer_dir, progress=False)
    assert PackedRows(built).num_rows == 20
