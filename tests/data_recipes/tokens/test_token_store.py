"""Tokenising: the same ids by every back end, units that do not depend on how the work is cut, long documents."""

import json
from collections import Counter

import numpy as np
import pytest
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.packing.build import build_phases
from data_recipes.reading import files as source_files
from data_recipes.reading.files import examine, units_of
from data_recipes.reading.formats import read_parts
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows
from data_recipes.tokens.bpe_dropout import DropoutEncoder
from data_recipes.tokens.encoders import GigatokenEncoder, HuggingFaceEncoder, choose_encoder
from data_recipes.tokens.probes import PROBES, Mismatch
from data_recipes.tokens.tokenizer import load_tokenizer

TEXTS = [text for domain in ("web-en", "web-zh", "code") for text in make_documents(domain, 100)]


def test_gigatoken_gives_the_ids_of_tokenizers(tokenizer_dir):
    tokenizer = load_tokenizer(tokenizer_dir)
    encoder, note = choose_encoder(tokenizer, dropout=0.0, seed=0)
    assert encoder.name == "gigatoken", note
    texts = [*TEXTS, *PROBES, "a </s> b <pad>", ""]
    fast, reference = encoder.encode(texts), tokenizer.encode(texts)
    assert np.array_equal(fast[0], reference[0])
    assert np.array_equal(fast[1], reference[1])


def test_an_unsupported_tokenizer_falls_back_with_a_note(tokenizer_dir, tmp_path):
    content = json.loads((tokenizer_dir / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "[aeiou]+"},
        "behavior": "Isolated",
        "invert": False,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text((tokenizer_dir / "tokenizer_config.json").read_text())
    encoder, note = choose_encoder(load_tokenizer(tmp_path), dropout=0.0, seed=0)
    assert isinstance(encoder, HuggingFaceEncoder)
    assert note.startswith("tokenised with tokenizers, not gigatoken: ")


def test_a_wrong_id_in_a_run_is_noticed_and_the_unit_made_again(tokenizer_dir, tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    recipe = Recipe(
        name="mix", context_length=64, subsets=(Subset(name="a", tokens=640, source=Source(path=str(path))),)
    )
    options = {"tokenizer": tokenizer_dir, "progress": False}
    (right,) = build_phases([recipe], tmp_path / "right", store=tmp_path / "s1", **options)

    encode = GigatokenEncoder.encode

    def wrong_but_for_probes(self, texts):
        ids, lengths = encode(self, texts)
        return (ids if texts[: len(PROBES)] == PROBES else ids ^ 1), lengths

    monkeypatch.setattr(GigatokenEncoder, "encode", wrong_but_for_probes)
    encoder = GigatokenEncoder(load_tokenizer(tokenizer_dir))
    with pytest.raises(Mismatch):
        encoder.check(TEXTS, *encoder.encode(TEXTS))
    (mended,) = build_phases([recipe], tmp_path / "mended", store=tmp_path / "s2", **options)
    assert PackedRows(mended).manifest["files"] == PackedRows(right).manifest["files"]
    assert "not gigatoken: its ids differ" in PackedRows(mended).manifest["sources"][0]["notes"][0]


def test_dropout_is_the_same_every_time_and_close_to_its_rate(tokenizer_dir):
    tokenizer = load_tokenizer(tokenizer_dir)
    plain = tokenizer.encode(TEXTS)[0]
    one, two, other = (DropoutEncoder(tokenizer.backend, rate=0.2, seed=seed).encode(TEXTS)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert 1.1 * len(plain) < len(one) < 2 * len(plain)
    texts = [tokenizer.decode(ids) for ids in (one, plain)]
    assert texts[0] == texts[1]
    nearly_all = DropoutEncoder(tokenizer.backend, rate=0.999999, seed=1).encode(["the quick brown fox"])
    assert nearly_all[1].tolist() == [len("the quick brown fox")]


@pytest.mark.parametrize("rate", [-0.1, 1.0, 7])
def test_dropout_rates_outside_0_to_1_are_refused(tokenizer_dir, rate):
    with pytest.raises(DataError, match="above 0 and below 1"):
        DropoutEncoder(load_tokenizer(tokenizer_dir).backend, rate=rate, seed=0)


@pytest.mark.parametrize("unit_bytes", [700, 5_000, 10**9])
def test_units_cut_a_file_without_losing_or_repeating_a_line(tmp_path, monkeypatch, unit_bytes):
    monkeypatch.setattr(source_files, "UNIT_BYTES", unit_bytes)
    path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    path.write_text(path.read_text().rstrip("\n"))
    source = Source(path=str(path))
    files = examine(source)
    units = units_of(files)
    assert len(units) == max(1, -(-path.stat().st_size // unit_bytes))
    read = [
        (int(row), text)
        for unit in units
        for batch in read_parts(source, files, unit, Counter())
        for row, text in zip(batch.rows, batch.texts, strict=True)
    ]
    assert read == list(enumerate(TEXTS))


def test_large_files_are_hashed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(source_files, "REMEMBERED_BYTES", 1)
    path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    memory = tmp_path / "store" / "hashes.json"
    first = examine(Source(path=str(path)), memory=memory)
    monkeypatch.setattr(source_files, "_hash_and_count", lambda *_: pytest.fail("hashed again"))
    assert examine(Source(path=str(path)), memory=memory) == first
    monkeypatch.undo()
    path.write_text(path.read_text().replace("fox", "cat"))
    assert examine(Source(path=str(path)), memory=memory)[0].content != first[0].content


def phases(source: Source) -> list[Recipe]:
    def recipe(phase: int, length: int, tokens: int) -> Recipe:
        subset = Subset(name="a", tokens=tokens, domain="web-en", source=source)
        return Recipe(name=f"p{phase}", phase=phase, context_length=length, subsets=(subset,))

    return [recipe(25, 32, 6_400), recipe(26, 224, 6_720), recipe(27, 224, 6_720)]


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_long_context_phases_take_long_documents_first_and_none_twice(tmp_path, tokenizer_dir, packing):
    path = write_jsonl(tmp_path / "a.jsonl", make_documents("web-en", 3_000, longest=100))
    built = [
        PackedRows(folder)
        for folder in build_phases(
            phases(Source(path=str(path))),
            tmp_path / "out",
            tokenizer=tokenizer_dir,
            store=tmp_path / "store",
            packing=packing,
            progress=False,
        )
    ]
    seen: Counter[tuple[int, int]] = Counter()
    lengths = []
    for one in built:
        pieces = [piece for row in range(one.num_rows) for piece in one.documents(row)]
        seen.update((piece["row"], token) for piece in pieces for token in range(piece["start"], piece["end"]))
        ends: dict[int, int] = {}
        for piece in pieces:
            ends[piece["row"]] = max(ends.get(piece["row"], 0), piece["end"])
        lengths.append(np.median(list(ends.values())))
    assert max(seen.values()) == 1
    assert built[1].manifest["config"]["long_documents"] == 33
    assert min(lengths[1:]) > 1.2 * lengths[0]


def test_best_fit_cuts_no_document_that_fits(tmp_path, tokenizer_dir):
    path = write_jsonl(tmp_path / "a.jsonl", make_documents("web-en", 3_000, longest=200))
    recipe = Recipe(
        name="mix", context_length=256, subsets=(Subset(name="a", tokens=100_000, source=Source(path=str(path))),)
    )
    (folder,) = build_phases(
        [recipe],
        tmp_path / "out",
        tokenizer=tokenizer_dir,
        store=tmp_path / "store",
        packing="best_fit",
        progress=False,
    )
    built = PackedRows(folder)
    tokenizer = load_tokenizer(tokenizer_dir)
    texts = make_documents("web-en", 3_000, longest=200)
    for row in range(built.num_rows):
        for piece in built.documents(row):
            size = len(tokenizer.backend.encode(texts[piece["row"]]).ids) + 1
            assert size > 256 or (piece["start"], piece["end"]) == (0, size)
    batch = built.rows(0, built.num_rows)
    assert all(lengths.sum() == 256 for lengths in batch.doc_lengths)
    pad = built.manifest["tokenizer"]["pad_id"]
    assert ((batch.input_ids == pad).sum(axis=1) == batch.padding).all()
    assert batch.padding.sum() == built.manifest["counts"]["padding"]
