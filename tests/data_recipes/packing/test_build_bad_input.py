"""Bad input of every kind: refused with a message that says what to do, or counted and told in the manifest."""

import gzip
import json
import re
from collections import Counter

import pytest
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.manifest import claim_folder
from data_recipes.packing.build import build_phases
from data_recipes.reading.files import examine, units_of
from data_recipes.reading.formats import read_parts
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows

GOOD = make_documents("web-en", 200)


def recipe(source: Source | str, *, tokens: int = 640, name: str = "mix", **subset) -> Recipe:
    return Recipe(name=name, context_length=64, subsets=(Subset(name="one", tokens=tokens, source=source, **subset),))


@pytest.fixture
def build(tmp_path, tokenizer_dir):
    def run(*recipes: Recipe, out: str = "out", **options) -> PackedRows:
        options = {"tokenizer": tokenizer_dir, "store": tmp_path / "store", "progress": False, **options}
        return PackedRows(build_phases(recipes, tmp_path / out, **options)[0])

    return run


def test_rows_that_give_no_document_are_counted_by_reason(tmp_path, build):
    path = tmp_path / "mixed.jsonl"
    surrogate = b'{"text": "lone \\ud800 surrogate"}\n'
    bad = [
        b"{broken\n",
        b"[1, 2]\n",
        b'{"other": "x"}\n',
        b'{"text": " "}\n',
        b'{"text": "caf\xe9"}\n',
        surrogate,
        b"\n",
    ]
    path.write_bytes(b"".join(bad) + "".join(json.dumps({"text": text}) + "\n" for text in GOOD).encode())
    built = build(recipe(Source(path=str(path))))
    assert built.manifest["sources"][0]["drops"] == {
        "malformed JSON": 1,
        "not a JSON object": 1,
        "no column 'text'": 1,
        "empty": 1,
        "not UTF-8": 2,
    }
    rows = [piece["row"] for row in range(built.num_rows) for piece in built.documents(row)]
    assert min(rows) >= len(bad)


@pytest.mark.parametrize("how", [{}, {"template": "{text}"}], ids=["column", "template"])
def test_lines_of_another_encoding_are_never_guessed(tmp_path, build, how):
    path = tmp_path / "wide.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in GOOD), encoding="utf-16")
    with pytest.raises(DataError, match=r"yields no text at all \(malformed JSON: 200, not UTF-8: 1\)"):
        build(recipe(Source(path=str(path), **how)))


def test_plain_files_that_are_not_text_are_counted(tmp_path, build):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "latin.txt").write_bytes("naïve café".encode("latin-1"))
    (folder / "binary.txt").write_bytes(b"a\x00b" * 100)
    (folder / "empty.txt").touch()
    for number, text in enumerate(GOOD):
        (folder / f"good{number}.md").write_text(text)
    built = build(recipe(Source(path=str(folder))))
    assert built.manifest["sources"][0]["drops"] == {"not UTF-8": 1, "binary": 1, "empty": 1}


def test_a_source_without_any_text_is_an_error(tmp_path, build):
    path = write_jsonl(tmp_path / "ids.jsonl", GOOD, column="blob_id")
    with pytest.raises(DataError, match=r"yields no text at all \(no column 'text': 200\).*columns blob_id, id\."):
        build(recipe(Source(path=str(path))))


def test_a_misspelt_column_is_answered_with_those_that_there_are(tmp_path, build):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"content": GOOD, "score": list(range(len(GOOD)))})
    pq.write_table(table, tmp_path / "a.parquet")
    for name, new in (("a.arrow", pa.ipc.new_stream), ("b.arrow", pa.ipc.new_file)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    for name in ("a.parquet", "a.arrow", "b.arrow"):
        with pytest.raises(DataError, match=r"no column 'contnet': 200\).* have the columns content, score\."):
            build(recipe(Source(path=str(tmp_path / name), text="contnet")))


@pytest.mark.parametrize("content", [b"", b"PAR1", None], ids=["zero bytes", "magic only", "cut short"])
def test_damaged_parquet_is_an_error_that_names_the_file(tmp_path, build, content):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "parquet"
    folder.mkdir()
    pq.write_table(pa.table({"text": GOOD}), folder / "a.parquet")
    whole = (folder / "a.parquet").read_bytes()
    (folder / "b.parquet").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DataError, match=r"b\.parquet.*damaged or cut short"):
        build(recipe(Source(path=str(folder))))


@pytest.mark.parametrize("what", ["cut short", "no bytes", "something else"])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.txt.zst"])
def test_a_damaged_compressed_file_is_an_error_that_names_it(tmp_path, build, name, what):
    import zstandard

    content = "".join(json.dumps({"text": text}) + "\n" for text in GOOD).encode()
    whole = gzip.compress(content) if name.endswith(".gz") else zstandard.compress(content)
    path = tmp_path / name
    path.write_bytes({"cut short": whole[: len(whole) // 2], "no bytes": b"", "something else": b"[1, 2]"}[what])
    with pytest.raises(DataError, match=rf"{re.escape(name)}: damaged or cut short .*(gzip|zstd|gz|zst)\)"):
        build(recipe(Source(path=str(path))))


def test_compressed_files_of_several_streams_are_read_whole(tmp_path, build):
    import zstandard

    halves = ["".join(json.dumps({"text": text}) + "\n" for text in part).encode() for part in (GOOD[:90], GOOD[90:])]
    for suffix, compress in (("gz", gzip.compress), ("zst", zstandard.compress)):
        path = tmp_path / f"a.jsonl.{suffix}"
        path.write_bytes(b"".join(map(compress, halves)))
        built = build(recipe(Source(path=str(path)), tokens=64_000), out=suffix)
        assert {piece["row"] for row in range(built.num_rows) for piece in built.documents(row)} == set(
            range(len(GOOD))
        )


def test_a_document_far_longer_than_a_row_is_cut_into_rows(tmp_path, build):
    path = write_jsonl(tmp_path / "long.jsonl", ["word " * 60_000])
    built = build(recipe(Source(path=str(path)), tokens=640))
    pieces = [piece for row in range(built.num_rows) for piece in built.documents(row)]
    assert sorted(piece["start"] for piece in pieces) == list(range(0, 640, 64))


def test_tokenizer_without_eos_is_refused(tmp_path, build, tokenizer_dir):
    folder = tmp_path / "no-eos"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((tokenizer_dir / "tokenizer.json").read_bytes())
    path = write_jsonl(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(DataError, match="no EOS token"):
        build(recipe(Source(path=str(path))), tokenizer=folder)


def test_missing_source_fails_is_skipped_or_substituted(tmp_path, build):
    source = Source(path=str(write_jsonl(tmp_path / "a.jsonl", GOOD)))
    gone = Source(path=str(tmp_path / "gone.jsonl"))
    subsets = (
        Subset(name="here", tokens=640, domain="web-en", source=source),
        Subset(name="gone", tokens=1280, domain="web-en", source=gone),
    )
    mix = Recipe(name="mix", context_length=64, subsets=subsets)
    with pytest.raises(DataError, match=r"1 of 2 subsets \(66\.7% of the tokens\) cannot be read.*\n.*gone\.jsonl"):
        build(mix)
    assert not (tmp_path / "out" / "mix").exists()
    with pytest.raises(DataError, match="Nothing is left to build"):
        build(recipe(gone), missing="skip")
    skipped = build(mix, missing="skip")
    assert skipped.num_rows == 10
    assert skipped.manifest["config"]["missing"][0]["action"] == "skipped"
    substituted = build(mix, missing="substitute", out="other")
    assert substituted.num_rows == 30
    assert substituted.manifest["config"]["missing"][0]["action"] == "substituted"


def test_a_shortfall_is_listed_and_nothing_is_written(tmp_path, build):
    source = Source(path=str(write_jsonl(tmp_path / "a.jsonl", GOOD)))
    with pytest.raises(DataError, match=r"not enough text.*\n.*one: 1,000,000 tokens wanted, \S+ left within 2 epochs"):
        build(recipe(source, tokens=1_000_000, max_epochs=2))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".build.lock", "claim.json"]


def test_a_clear_shortfall_is_seen_after_one_unit(tmp_path, build, monkeypatch):
    from data_recipes.reading import files as source_files

    monkeypatch.setattr(source_files, "UNIT_BYTES", 2_000)
    source = Source(path=str(write_jsonl(tmp_path / "a.jsonl", GOOD)))
    with pytest.raises(DataError, match=r"1,000,000 tokens wanted, about [\d,]+ left within 1 epoch"):
        build(recipe(source, tokens=1_000_000, max_epochs=1))
    assert len(list((tmp_path / "store").glob("*/unit-*.json"))) == 1


def test_a_small_source_is_gone_through_epoch_by_epoch(tmp_path, build):
    built = build(recipe(Source(path=str(write_jsonl(tmp_path / "a.jsonl", GOOD[:20]))), tokens=6400))
    assert 2 < built.manifest["subsets"][0]["epochs"] < 3
    starts = [piece["row"] for row in range(built.num_rows) for piece in built.documents(row) if piece["start"] == 0]
    assert {starts.count(row) for row in range(20)} == {2, 3}


def test_changed_contents_are_reported(tmp_path, build):
    path = write_jsonl(tmp_path / "a.jsonl", GOOD)
    first = build(recipe(Source(path=str(path))))
    assert build(recipe(Source(path=str(path)))).fingerprint == first.fingerprint
    path.write_text(path.read_text().replace("fox", "cat", 1))
    with pytest.raises(DataError, match=r"source a\.jsonl: its contents changed"):
        build(recipe(Source(path=str(path))))
    assert build(recipe(Source(path=str(path))), out="again").fingerprint != first.fingerprint


def test_another_recipe_in_the_same_folder_is_refused(tmp_path, build):
    source = Source(path=str(write_jsonl(tmp_path / "a.jsonl", GOOD)))
    build(recipe(source))
    with pytest.raises(DataError, match=r"built from something else:\nquotas: .*640.*then, .*1280.* now"):
        build(recipe(source, tokens=1280))


def test_too_few_tokens_for_a_row_are_refused(tmp_path, build):
    source = Source(path=str(write_jsonl(tmp_path / "a.jsonl", GOOD)))
    with pytest.raises(DataError, match="less than half a row of 64"):
        build(recipe(source, tokens=30))


def test_text_on_another_disk_is_read_and_its_place_is_not_published(tmp_path, build):
    disk, folder = tmp_path / "disk", tmp_path / "recipe"
    write_jsonl(disk / "deep" / "a.jsonl", GOOD)
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "linked").symlink_to(disk, target_is_directory=True)
    (disk / "deep" / "round").symlink_to(disk, target_is_directory=True)  # a circle of links is gone through once
    subsets = tuple(
        Subset(name=name, tokens=640, source=Source(path=path).beside(folder))
        for name, path in (("linked", "data"), ("absolute", str(disk)), ("up", "../disk"))
    )
    gone = Subset(name="gone", tokens=640, source=Source(path=str(tmp_path / "gone.jsonl")))
    built = build(Recipe(name="mix", context_length=64, subsets=(*subsets, gone)), missing="skip")
    tables = json.loads((built.folder / "sources.json").read_text())
    assert {name for table in tables for name in table["files"]} == {"linked/deep/a.jsonl", "deep/a.jsonl"}
    manifest = built.manifest
    assert [source["location"] for source in manifest["sources"]] == [str(folder / "data"), str(disk)]
    published = json.dumps([tables, manifest["config"], manifest["subsets"], manifest["inputs"]])
    assert str(tmp_path) not in published
    assert "gone.jsonl: no such file or folder" in published


def test_a_link_to_what_is_not_there_is_an_error(tmp_path, build):
    write_jsonl(tmp_path / "data" / "a.jsonl", GOOD)
    (tmp_path / "data" / "b.jsonl").symlink_to(tmp_path / "not-mounted.jsonl")
    with pytest.raises(DataError, match=r"b\.jsonl: a link to .*not-mounted\.jsonl, which is not there\. Mount"):
        build(recipe(Source(path=str(tmp_path / "data"))))


def test_two_builds_in_one_folder_exclude_each_other(tmp_path, build):
    import fcntl

    source = Source(path=str(write_jsonl(tmp_path / "a.jsonl", GOOD)))
    claim_folder(tmp_path / "out", kind="packed-phases")
    with (tmp_path / "out" / ".build.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another build is writing here"):
            build(recipe(source))


def test_control_tokens_spelt_in_a_text_stay_text(tmp_path, build):
    texts = [f"{text} </s> <pad> <s>" for text in GOOD]
    built = build(recipe(Source(path=str(write_jsonl(tmp_path / "a.jsonl", texts))), tokens=6400))
    eos = built.manifest["tokenizer"]["eos_id"]
    batch = built.rows(0, built.num_rows)
    ends = sum(int((ids == eos).sum()) for ids in batch.input_ids)
    pieces = [piece for row in range(built.num_rows) for piece in built.documents(row)]
    starts = sum(piece["start"] == 0 for piece in pieces)
    assert abs(ends - starts) <= 1
    assert not (batch.input_ids == built.manifest["tokenizer"]["pad_id"]).any()


def test_a_spoilt_unit_of_an_earlier_run_is_noticed_and_made_again(tmp_path, build):
    path = write_jsonl(tmp_path / "a.jsonl", GOOD)
    first = build(recipe(Source(path=str(path))))
    ids = first.rows(0, first.num_rows).input_ids
    unit = next((tmp_path / "store").glob("*/unit-00000.tokens"))
    sound = unit.read_bytes()
    unit.write_bytes(bytes(len(sound)))  # of the right size, as a crash of the machine can leave it
    with pytest.raises(DataError, match=r"unit-00000\.tokens: its content is not what was written.*Run the same"):
        build(recipe(Source(path=str(path))), out="again")
    again = build(recipe(Source(path=str(path))), out="again")
    assert (again.rows(0, again.num_rows).input_ids == ids).all()
    assert unit.read_bytes() == sound


def test_templates_print_integers_of_any_length(tmp_path):
    number = "12345678901234567890123456789"
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"question": "Which?", "answer": {number}}}\n')
    source = Source(path=str(path), template="{question} {answer}")
    files = examine(source)
    ((text,),) = (batch.texts for batch in read_parts(source, files, units_of(files)[0], Counter()))
    assert text == f"Which? {number}"


def test_a_tokenizer_that_cannot_be_fetched_is_not_called_incomplete(tmp_path, build):
    path = write_jsonl(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(DataError, match="not in the cache, and the Hub cannot be reached"):
        build(recipe(Source(path=str(path))), tokenizer="no-one/no-such-tokenizer")
