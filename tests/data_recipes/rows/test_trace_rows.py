"""From rows back to the very text, for every format, packing and way of tokenising."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Filter, Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows
from data_recipes.rows.trace import trace, trace_rows
from data_recipes.tokens.tokenizer import LoadedTokenizer

TAILS = ["\n\n  indented\u3000 wide  space\t", " naïve café 🙂👩👩👧 ", ""] * 20
TEXTS = [
    text + tail for domain in ("web-en", "web-zh") for text, tail in zip(make_documents(domain, 60), TAILS, strict=True)
]


def write_as(kind: str, folder: Path) -> Source:
    """The texts in one of the formats that are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": list(range(len(TEXTS))), "body": TEXTS})
    if kind == "txt":
        for number, text in enumerate(TEXTS):
            (folder / f"{number:03d}.txt").write_text(text, newline="")
        return Source(path=str(folder), glob="*.txt")
    path = folder / f"docs.{kind}"
    lines = "".join(json.dumps({"body": text}) + "\n" for text in TEXTS).encode()
    if kind == "jsonl":
        path.write_bytes(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "jsonl.zst":
        import zstandard

        path.write_bytes(zstandard.ZstdCompressor().compress(lines))
    elif kind == "parquet":
        pq.write_table(table, path, row_group_size=17)
    elif kind == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)
    elif kind == "feather":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)
    return Source(path=str(path), text="body")


def built_from(source: Source, tmp_path: Path, tokenizer: Path, *, tokens: int = 3200, **options) -> Path:
    recipe = Recipe(name="mix", context_length=64, subsets=(Subset(name="one", tokens=tokens, source=source),))
    options = {"tokenizer": tokenizer, "store": tmp_path / "store", "progress": False, **options}
    return build_phases([recipe], tmp_path / "out", **options)[0]


def rejoined(folder: Path) -> dict[tuple[str, int], str]:
    """The texts of whole documents, put together again from the spans of all rows."""
    spans: dict[tuple[str, int], list[tuple[int, int, str]]] = {}
    for row in range(PackedRows(folder).num_rows):
        for document in trace(folder, row, text=True)["documents"]:
            assert document["text_from"] == "source"
            key = (document["file"], document["row"])
            spans.setdefault(key, []).append((document["start"], document["end"], document["text"]))
    whole = {}
    for key, pieces in spans.items():
        pieces.sort()
        joined = all(left[1] == right[0] for left, right in pairwise(pieces))
        if pieces[0][0] == 0 and joined:
            whole[key] = "".join(text for _, _, text in pieces)
    return whole


@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "feather"])
def test_spans_of_a_document_make_up_its_very_text(kind, tmp_path, tokenizer_dir):
    whole = rejoined(built_from(write_as(kind, tmp_path / "corpus"), tmp_path, tokenizer_dir))
    assert len(whole) > 20
    for (file, row), text in whole.items():
        original = TEXTS[int(Path(file).stem) if kind == "txt" else row]
        # The last document of a draw may be cut: what there is must be its beginning.
        assert original.startswith(text)
    assert sum(
        text == TEXTS[int(Path(file).stem) if kind == "txt" else row] for (file, row), text in whole.items()
    ) >= (len(whole) - 1)


@pytest.mark.parametrize("options", [{"packing": "best_fit"}, {"bos": True}, {"dropout": 0.2}], ids=str)
def test_it_holds_for_other_ways_of_building(options, tmp_path, tokenizer_dir):
    whole = rejoined(built_from(write_as("jsonl", tmp_path / "corpus"), tmp_path, tokenizer_dir, **options))
    assert len(whole) > 20
    assert all(TEXTS[row].startswith(text) for (_, row), text in whole.items())
    assert sum(TEXTS[row] == text for (_, row), text in whole.items()) >= len(whole) - 1


def test_filters_and_templates_give_the_text_that_was_trained_on(tmp_path, tokenizer_dir):
    path = tmp_path / "qa.jsonl"
    rows = [{"q": f"What is {n}+{n}?", "a": str(2 * n), "score": n % 5} for n in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(path=str(path), template="{q}\n{a}", filters=(Filter(field="score", min=3),))
    folder = built_from(source, tmp_path, tokenizer_dir, tokens=640)
    for (_, row), text in rejoined(folder).items():
        assert row % 5 >= 3
        assert f"What is {row}+{row}?\n{2 * row}".startswith(text)
    assert PackedRows(folder).manifest["sources"][0]["drops"] == {"filtered": 120}


def test_without_the_source_the_tokens_are_decoded_and_it_says_so(tmp_path, tokenizer_dir):
    path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    folder = built_from(Source(path=str(path)), tmp_path, tokenizer_dir)
    path.write_text(path.read_text().replace("quick", "slow"))
    documents = [document for row in range(20) for document in trace(folder, row, text=True)["documents"]]
    assert {document["text_from"] for document in documents} == {"source", "tokens"}
    path.unlink()
    for document in (document for row in range(20) for document in trace(folder, row, text=True)["documents"]):
        assert document["text_from"] == "tokens"
        assert document["text"].strip("\ufffd") in TEXTS[document["row"]]


def test_a_step_is_its_rows(tmp_path, tokenizer_dir):
    folder = built_from(write_as("jsonl", tmp_path / "corpus"), tmp_path, tokenizer_dir)
    assert trace_rows(folder, step=3, batch_size=4) == [trace(folder, row) for row in range(8, 12)]
    with pytest.raises(DataError, match="no step 14; at 4 rows a step it has steps 1 to 13"):
        trace_rows(folder, step=14, batch_size=4)
    with pytest.raises(DataError, match="no step 0"):
        trace_rows(folder, step=0, batch_size=4)
    with pytest.raises(DataError, match="give a row, or --step"):
        trace_rows(folder)
    with pytest.raises(DataError, match="no --batch-size; --step needs"):
        trace_rows(folder, step=1)
    with pytest.raises(DataError, match="no row 50; it has rows 0 to 49"):
        trace_rows(folder, row=50)


def test_hub_datasets_are_read_through_load_dataset(tmp_path, tokenizer_dir, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "someone" / "texts"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"body": TEXTS}), folder / "train-00000.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf" / "datasets")
    source = Source(hub="someone/texts", split="train", text="body")
    built = built_from(source, tmp_path, tokenizer_dir)
    whole = rejoined(built)
    assert len(whole) > 20
    assert all(TEXTS[row].startswith(text) for (_, row), text in whole.items())
    first = PackedRows(built).manifest["inputs"]
    pq.write_table(pa.table({"body": [text + "!" for text in TEXTS]}), folder / "train-00000.parquet")
    with pytest.raises(DataError, match="someone/texts: its contents changed"):
        built_from(source, tmp_path, tokenizer_dir)
    assert "source someone/texts" in first


def test_an_unknown_hub_dataset_counts_as_missing(tmp_path, tokenizer_dir):
    with pytest.raises(DataError, match=r"no-one/no-such-set: cannot be loaded"):
        built_from(Source(hub="no-one/no-such-set"), tmp_path, tokenizer_dir)


def test_a_step_goes_through_each_file_once(tmp_path, tokenizer_dir, monkeypatch):
    from data_recipes.reading.source_file import SourceFile

    folder = built_from(write_as("jsonl", tmp_path / "corpus"), tmp_path, tokenizer_dir)
    opened = []
    open_file = SourceFile.open
    monkeypatch.setattr(SourceFile, "open", lambda file: opened.append(file.name) or open_file(file))
    found = trace_rows(folder, step=1, batch_size=12, text=True)
    assert len({document["row"] for row in found for document in row["documents"]}) > 1
    assert opened == ["docs.jsonl"]


def test_a_document_in_many_rows_is_encoded_once(tmp_path, tokenizer_dir, monkeypatch):
    whole = "\n".join(make_documents("web-en", 300))
    folder = built_from(Source(path=str(write_jsonl(tmp_path / "a.jsonl", [whole]))), tmp_path, tokenizer_dir)
    located = []
    locate = LoadedTokenizer.locate
    monkeypatch.setattr(LoadedTokenizer, "locate", lambda *args, **kwargs: located.append(1) or locate(*args, **kwargs))
    rows = trace_rows(folder, step=1, batch_size=50, text=True)
    pieces = sorted((piece for row in rows for piece in row["documents"]), key=lambda piece: piece["start"])
    assert len(pieces) == 50
    assert whole.startswith("".join(piece["text"] for piece in pieces))
    assert {piece["text_from"] for piece in pieces} == {"source"}
    assert len(located) == 1
