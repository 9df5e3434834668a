"""JSON under any of its names and forms: lines, arrays, objects; told by content, named, never one raw text."""

import gzip
import io
import json
import tracemalloc
from collections import Counter

import pytest
import zstandard
from made_text import make_documents

from data_recipes.errors import DataError
from data_recipes.reading.formats import unhashed
from data_recipes.reading.json_files import MalformedJson, json_values
from data_recipes.reading.opening import open_supply
from data_recipes.reading.supply import documents_of_file
from data_recipes.recipes.source import Source

TEXTS = [*make_documents("web-en", 40), *make_documents("web-zh", 40)]
RECORDS = [{"id": number, "text": text, "meta": {"a": [1, "]"]}} for number, text in enumerate(TEXTS)]


def lines(records: list) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


FORMS = {
    "lines": (lines(RECORDS), "JSON lines"),
    "lines after a damaged one": ('{"text": "cut\n' + lines(RECORDS), "JSON lines"),
    "array on one line": (json.dumps(RECORDS), "a JSON array"),
    "array over lines": ("\ufeff \n" + json.dumps(RECORDS, indent=1, ensure_ascii=False), "a JSON array"),
    "array of lines": ("[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n", "a JSON array"),
    "objects": ("\n".join(json.dumps(record, indent=2) for record in RECORDS), "JSON objects over several lines"),
}
COMPRESSIONS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def read(path, drops: Counter | None = None, **entry) -> tuple[list[int], list[str], list[str]]:
    """Rows and texts of a file through the recipe's reader, and what it says of how it was read."""
    supply = open_supply(Source(path=str(path), **entry))
    drops = Counter() if drops is None else drops
    found = [batch for number in range(supply.unit_count) for batch in supply.read_unit(number, drops)]
    rows = [row for batch in found for row in batch.rows.tolist()]
    return rows, [text for batch in found for text in batch.texts], supply.notes


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_rows_and_is_named(tmp_path, form, suffix):
    content, name = FORMS[form]
    path = tmp_path / f"records.json{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](content.encode()))
    drops: Counter[str] = Counter()
    rows, texts, notes = read(path, drops)
    assert texts == TEXTS
    first = int("damaged" in form)
    assert rows == list(range(first, first + len(TEXTS)))
    assert drops == ({"malformed JSON": 1} if first else {})
    assert notes == [f"records.json{suffix}: read as {name}"]
    file = unhashed(path)
    assert documents_of_file(Source(path=str(path)), file, [rows[3], rows[50]]) == {
        rows[3]: TEXTS[3],
        rows[50]: TEXTS[50],
    }
    assert file.format.columns(file) == ["id", "text", "meta"]


def test_one_object_alone_is_one_document(tmp_path):
    for number, content in enumerate((json.dumps(RECORDS[0]), json.dumps(RECORDS[0], indent=2))):
        path = tmp_path / f"{number}.json"
        path.write_text(content)
        assert read(path)[:2] == ([0], [TEXTS[0]])


def test_templates_and_filters_work_on_arrays(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([*RECORDS, "no object", {"id": 12345678901234567890123, "text": "long"}]))
    drops: Counter[str] = Counter()
    _, texts, _ = read(path, drops, template="{id}: {text}", filters=[{"field": "id", "min": 79}])
    assert texts == [f"79: {TEXTS[79]}", "12345678901234567890123: long"]
    assert drops == {"filtered": 79, "not a JSON object": 1}


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}, {"te', '[{"text": "a"} {"text": "b"}]', '[{"text": "a"}] x', "[1"]
)
def test_a_damaged_array_is_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"a\.json: damaged or cut short .*read as a JSON array"):
        read(path)


def test_text_that_is_not_utf8_is_counted_in_an_array_too(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"text": "caf\xe9"}, {"text": "\\ud800"}, {"text": "good"}]')
    drops: Counter[str] = Counter()
    assert read(path, drops)[1] == ["good"]
    assert drops == {"not UTF-8": 2}


def test_a_large_array_takes_the_memory_of_its_largest_element():
    element = b'{"text": "' + b"0123456789" * 100 + b'"}'
    per_read = 2**20 // len(element)

    class Endless(io.RawIOBase):
        """24 MiB of an array, made as it is read."""

        left = 24

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            if self.left < 0:
                return b""
            return (b"[" if self.left == 23 else b",") + b",".join([element] * per_read) + (b"" if self.left else b"]")

    tracemalloc.start()
    count = sum(1 for _ in json_values(Endless(), "array"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 24 * per_read
    assert peak < 12 * 2**20


def test_numbers_and_signs_at_the_seams_of_chunks(monkeypatch):
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    values = [12345, -1.5e10, "a, ]", {"b": [1, 2]}, [], None, True, "é語"]
    for form, content in (("array", json.dumps(values)), ("objects", " ".join(json.dumps(v) for v in values))):
        assert [v for _, v in json_values(Trickle(content.encode()), form)] == values
    with pytest.raises(MalformedJson, match="something follows"):
        list(json_values(Trickle(b"[] []"), "array"))
