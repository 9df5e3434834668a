"""Texts that come as Arrow columns are those that come row by row: the same batches, numbers and counts of drops."""

import gzip
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.reading import documents, formats, json_files
from data_recipes.reading.files import examine, units_of
from data_recipes.reading.formats import read_parts
from data_recipes.reading.json_column import column_of_lines
from data_recipes.reading.source_file import DamagedFile, Format
from data_recipes.reading.text_columns import ArrowTexts
from data_recipes.recipes.source import Filter, Source

ODD_LINES = {
    "blank": b"",
    "no column": b'{"x": 1}',
    "null": b'{"text": null}',
    "number": b'{"text": 7}',
    "list": b'{"text": ["a", "b"]}',
    "object": b'{"text": {"text": "a"}}',
    "twice": b'{"text": "a", "text": "b"}',
    "two on a line": b'{"text": "a"} {"text": "b"}',
    "over two lines": b'{"text":\n"a"}',
    "balanced": b'{"a":\n{"b": 1}}{"text": "y"}',
    "something behind": b'{"text": "a"}x',
    "control character": b'{"text": "a\x01"}',
    "not UTF-8": b'{"text": "\xff"}',
    "not UTF-8 elsewhere": b'{"text": "a", "x": "\xff"}',
    "lone surrogate": b'{"text": "\\ud800"}',
    "low surrogate first": b'{"text": "\\udc00\\ud800"}',
    "surrogate and another": b'{"text": "\\ud83d\\u0041"}',
    "surrogate elsewhere": b'{"text": "a", "x": "\\ud800"}',
    "escaped key": b'{"te\\u0078t": "a"}',
    "wrong escape": b'{"text": "\\q"}',
    "wrong escape elsewhere": b'{"x": "\\q", "text": "a"}',
    "cut escape": b'{"text": "\\u12',
    "cut": b'{"text": "a"',
    "trailing comma": b'{"text": "a",}',
    "single quotes": b"{'text': 'a'}",
    "comment": b'{"text": "a" /* b */}',
    "leading zero": b'{"text": "a", "n": 01}',
    "plus": b'{"text": "a", "n": +1}',
    "bare minus": b'{"text": "a", "n": -}',
    "no digits": b'{"text": "a", "n": 1.}',
    "no exponent": b'{"text": "a", "n": 1e}',
    "NaN": b'{"text": "a", "n": NaN}',
    "half a word": b'{"text": "a", "n": tru}',
    "wrong bracket": b'{"text": "a", "n": [1}]',
    "array": b'["text", "a"]',
    "string": b'"text"',
    "spaces before": b'  {"text": "a"}',
    "only spaces": b'{"text": " \\t\\u3000\\u001f "}',
    "empty": b'{"text": ""}',
    "prefix of the key": b'{"tex": "b", "texts": "c", "text": "a"}',
    "deep": b'{"text": "a", "x": ' + b"[" * 80 + b"]" * 80 + b"}",
}
PLAIN_LINES = [
    b'{"text": "first"}',
    '{"text": "naïve 天地 🙂 \\ud83d\\ude00 \\u00e9\\u4e2d\\u0000\\/\\\\\\"\\b\\f\\n\\r\\t"}'.encode(),
    b'{"id": [1, -2.5e-3, {"text": "inner", "b": []}, {}], "text" : "between" , "t": true, "f": false, "n": null}\r',
]


def read(source: Source) -> tuple[list[documents.Documents], Counter[str]]:
    files = examine(source)
    drops: Counter[str] = Counter()
    return [batch for unit in units_of(files) for batch in read_parts(source, files, unit, drops)], drops


def same_by_rows(source: Source, monkeypatch: pytest.MonkeyPatch) -> list[documents.Documents]:
    """The batches, after comparing them with those of the way by rows."""
    fast, fast_drops = read(source)
    with monkeypatch.context() as patch:
        patch.setattr(formats.JsonLines, "batchable", Format.batchable)
        patch.setattr(formats.Parquet, "batchable", Format.batchable)
        slow, slow_drops = read(source)
    assert fast_drops == slow_drops
    assert len(fast) == len(slow)
    for one, other in zip(fast, slow, strict=True):
        assert list(map(str, one.texts)) == list(map(str, other.texts))
        assert one.files.tolist() == other.files.tolist()
        assert one.rows.tolist() == other.rows.tolist()
        assert one.characters == other.characters == sum(len(text) for text in one.texts)
        assert one.rows.dtype == one.files.dtype == np.int64
    return fast


@pytest.mark.parametrize("odd", ODD_LINES)
def test_a_block_with_an_odd_line_gives_what_its_rows_give(tmp_path, monkeypatch, odd):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([PLAIN_LINES[0], ODD_LINES[odd], *PLAIN_LINES[1:]]))
    batches = same_by_rows(Source(path=str(path)), monkeypatch)
    assert sum(len(batch.texts) for batch in batches) >= len(PLAIN_LINES)


def test_plain_lines_need_no_row(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(PLAIN_LINES) + b"\n")
    monkeypatch.setattr(formats, "_rows_of", lambda *_: pytest.fail("read by rows"))
    ((batch,), drops) = read(Source(path=str(path)))
    assert isinstance(batch.texts, ArrowTexts)
    assert list(batch.texts) == [json.loads(line)["text"] for line in PLAIN_LINES]
    assert not drops


KEYS = st.text("tex .:{}[],")  # one with an escape is read by rows
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.dictionaries(KEYS, JSON_VALUES, max_size=3), st.text()), min_size=1, max_size=5),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_any_objects_with_a_string_give_it_and_any_damage_is_refused_or_harmless(rows, ascii_only, damage):
    lines = [json.dumps({**others, "text": text}, ensure_ascii=ascii_only).encode() for others, text in rows]
    block = b"\n".join(lines)
    found = column_of_lines(block, "text", block.count(b"\n"))
    assert found is not None
    assert found.to_pylist() == [text for _, text in rows]
    place = damage % len(block)
    spoilt = block[:place] + bytes([damage // len(block) % 256]) + block[place + 1 :]
    found = column_of_lines(spoilt, "text", spoilt.count(b"\n"))
    if found is not None:
        assert found.to_pylist() == [json.loads(line)["text"] for line in spoilt.split(b"\n")]


def test_parts_blocks_and_batches_end_where_they_end_by_rows(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    texts = ["word " * int(size) for size in generator.integers(1, 400, 700)]
    for name in ("a.jsonl", "b.jsonl"):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / name).write_text("\ufeff" + lines[:-1] if name == "b.jsonl" else lines)
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write(lines)
    monkeypatch.setattr("data_recipes.reading.files.UNIT_BYTES", 50_000)
    monkeypatch.setattr(json_files, "BLOCK_BYTES", 7_001)
    monkeypatch.setattr(documents, "BATCH_CHARACTERS", 9_000)
    monkeypatch.setattr(documents, "BATCH_DOCUMENTS", 11)
    monkeypatch.setattr(documents, "LONG_CHARACTERS", 1_900)
    batches = same_by_rows(Source(path=str(tmp_path)), monkeypatch)
    assert [text for batch in batches for text in batch.texts] == 3 * texts
    assert {len(batch.texts) for batch in batches if len(batch.texts[0]) > 1_900} == {1}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_by_column_gives_what_its_rows_give(tmp_path, monkeypatch, kind):
    texts = ["one", None, "", " \n", "nöch", *("many " * n for n in range(1, 3_000, 7))]
    scores = [float(n % 5) if n % 3 else None for n in range(len(texts))]
    table = pa.table({"id": range(len(texts)), "text": pa.array(texts).cast(kind), "score": scores})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    monkeypatch.setattr("data_recipes.reading.files.UNIT_BYTES", 40_000)
    plain, filtered = Source(path=str(tmp_path)), Source(path=str(tmp_path), filters=(Filter(field="score", min=2),))
    on_itself = Source(path=str(tmp_path), filters=(Filter(field="text", contains="any"),))
    for source in (plain, filtered, on_itself):
        assert same_by_rows(source, monkeypatch)


def test_parquet_that_is_not_utf8_is_damaged(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    with pytest.raises(DamagedFile, match="UTF"):
        read(Source(path=str(tmp_path)))
