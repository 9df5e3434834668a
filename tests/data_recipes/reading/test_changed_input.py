"""Input that changes under a build, or behind its back: what is tokenised is what was hashed."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.packing import plan
from data_recipes.packing.build import build_phases
from data_recipes.reading import files, opening, source_file
from data_recipes.reading.files import examine
from data_recipes.recipes import templates
from data_recipes.recipes.recipe import Recipe, Source, Subset

TEXTS = make_documents("web-en", 400)
CHANGED = [text.replace("fox", "cat") for text in TEXTS]


def write(path: Path, texts: list[str]) -> None:
    lines = write_jsonl(path.with_name("lines"), texts).read_bytes()
    path.with_name("lines").unlink()
    table = pa.table({"text": texts})
    {
        ".jsonl": lambda: path.write_bytes(lines),
        ".json": lambda: path.write_text(json.dumps([{"text": text} for text in texts])),
        ".gz": lambda: path.write_bytes(gzip.compress(lines, compresslevel=0, mtime=0)),
        ".zst": lambda: path.write_bytes(zstandard.compress(lines)),
        ".txt": lambda: path.write_text("\n".join(texts)),
        ".parquet": lambda: pq.write_table(table, path, compression="none", use_dictionary=False),
        ".arrow": lambda: feather.write_feather(table, path, compression="uncompressed"),
    }[path.suffix]()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.txt", "a.parquet", "a.arrow"])
def test_a_file_that_changes_after_it_was_hashed_is_refused(tmp_path, tokenizer_dir, monkeypatch, name):
    monkeypatch.setattr(source_file, "PIECE_BYTES", 2_000)
    monkeypatch.setattr(files, "PIECE_BYTES", 2_000)
    path = tmp_path / "corpus" / name
    path.parent.mkdir()
    write(path, TEXTS)
    before = path.stat()
    fill_stores = plan.fill_stores

    def change_then_fill(*arguments, **options):
        write(path, CHANGED)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        fill_stores(*arguments, **options)

    recipe = Recipe(
        name="mix", context_length=64, subsets=(Subset(name="a", tokens=640, source=Source(path=str(path))),)
    )
    options = {"tokenizer": tokenizer_dir, "store": tmp_path / "store", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(plan, "fill_stores", change_then_fill)
        with pytest.raises(DataError, match=rf"{name}: changed since this command began"):
            build_phases([recipe], tmp_path / "out", **options)
    assert not list((tmp_path / "store").glob("*/*"))
    assert build_phases([recipe], tmp_path / "out", **options)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.txt", "a.parquet", "a.arrow"])
def test_reading_piece_by_piece_gives_the_same_documents(tmp_path, monkeypatch, name):
    path = tmp_path / name
    write(path, TEXTS)

    def documents() -> list[str]:
        opened = opening.open_supply(Source(path=str(path)))
        return [text for batch in opened.read_unit(0, Counter()) for text in batch.texts]

    whole = documents()
    monkeypatch.setattr(source_file, "PIECE_BYTES", 700)
    monkeypatch.setattr(files, "PIECE_BYTES", 700)
    assert documents() == whole == (["\n".join(TEXTS)] if name.endswith(".txt") else TEXTS)


def test_a_large_file_edited_with_its_time_kept_is_hashed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REMEMBERED_BYTES", 1)
    source, memory = Source(path=str(write_jsonl(tmp_path / "a.jsonl", TEXTS))), tmp_path / "hashes.json"
    path = Path(source.path)
    first = examine(source, memory=memory)
    before = path.stat()
    with path.open("r+") as file:  # the same inode
        file.write(path.read_text().replace("fox", "cat"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert examine(source, memory=memory)[0].content != first[0].content


def test_only_what_shapes_the_text_is_part_of_a_sources_identity(tmp_path, monkeypatch):
    path = str(write_jsonl(tmp_path / "a.jsonl", TEXTS))

    def identity(template: str = "qa") -> str:
        return opening.open_supply(Source(path=path, template=template)).fingerprint

    def published(**entry):
        known = {"qa": templates.Template("qa", **entry)}
        monkeypatch.setattr(templates, "published_templates", lambda: known)

    published(text="{question}: {answer}", description="Question and answer.")
    first = identity()
    published(text="{question}: {answer}", description="Other prose.")
    assert identity() == first == identity("{question}: {answer}")
    published(text="{question} - {answer}", description="Question and answer.")
    assert identity() != first
    published(text="{question}: {answer}", optional=("answer",))
    assert identity() != first


def test_two_entries_for_the_same_text_share_one_store(tmp_path, tokenizer_dir):
    path = str(write_jsonl(tmp_path / "a.jsonl", TEXTS))
    sources = (Source(path=path), Source(path=path, note="the same"))
    subsets = tuple(Subset(name=f"s{number}", tokens=640, source=source) for number, source in enumerate(sources))
    recipe = Recipe(name="mix", context_length=64, subsets=subsets)
    build_phases([recipe], tmp_path / "out", tokenizer=tokenizer_dir, store=tmp_path / "store", progress=False)
    assert len(list((tmp_path / "store").glob("*/unit-00000.json"))) == 1
