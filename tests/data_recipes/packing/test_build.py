"""Text to packed rows: nothing lost, nothing twice, quotas to a row, documents where the rows say they are."""

from pathlib import Path

import numpy as np
import pytest
from made_text import make_documents, write_jsonl
from tokenizers import Tokenizer

from data_recipes.errors import DataError
from data_recipes.packing import draw
from data_recipes.packing import writer as row_writer
from data_recipes.packing.build import build_phases
from data_recipes.reading import files as source_files
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows, load_phase
from data_recipes.tokens import blocks as shuffled_blocks


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, Path]:
    return {
        domain: write_jsonl(tmp_path / "corpus" / f"{domain}.jsonl", make_documents(domain, 300))
        for domain in ("web-en", "web-zh", "code")
    }


def recipe_of(corpus: dict[str, Path], *, name: str = "mix", phase: int | None = None, **tokens: int) -> Recipe:
    subsets = tuple(
        Subset(
            name=domain, tokens=tokens.get(domain.replace("-", "_"), 2000), domain=domain, source=Source(path=str(path))
        )
        for domain, path in corpus.items()
    )
    return Recipe(name=name, phase=phase, context_length=64, subsets=subsets)


def build(recipes: list[Recipe], out: Path, tokenizer: Path, **options) -> list[PackedRows]:
    options = {"store": out.parent / "store", "seed": 3, "progress": False, **options}
    return [PackedRows(folder) for folder in build_phases(recipes, out, tokenizer=tokenizer, **options)]


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_rows_hold_the_documents_they_name(tmp_path, corpus, tokenizer_dir, monkeypatch, packing):
    # Several units, shuffle blocks, windows, shards and batches, so that every seam is crossed.
    for module, name, size in (
        (source_files, "UNIT_BYTES", 6_000),
        (shuffled_blocks, "SHUFFLE_TOKENS", 500),
        (draw, "WINDOW_TOKENS", 1),
        (draw, "WINDOW_ROWS", 7),
        (row_writer, "SHARD_TOKENS", 640),
        (row_writer, "BATCH_TOKENS", 192),
    ):
        monkeypatch.setattr(module, name, size)
    (built,) = build([recipe_of(corpus)], tmp_path / "out", tokenizer_dir, packing=packing)
    assert built.manifest["counts"]["shards"] > 5
    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    eos = tokenizer.token_to_id("</s>")
    texts = {domain: make_documents(domain, 300) for domain in corpus}
    batch = built.rows(0, built.num_rows)
    seen: set[tuple[int, int, int]] = set()
    for number in range(built.num_rows):
        position = 0
        documents = built.documents(number)
        lengths = [piece["end"] - piece["start"] for piece in documents]
        padding = int(batch.padding[number])
        assert [*lengths, *([padding] if padding else [])] == batch.doc_lengths[number].tolist()
        for piece in documents:
            domain = built.subset_domains[batch.subset_ids[number]]
            whole = [*tokenizer.encode(texts[domain][piece["row"]]).ids, eos]
            length = piece["end"] - piece["start"]
            assert (
                batch.input_ids[number, position : position + length].tolist() == whole[piece["start"] : piece["end"]]
            )
            position += length
            span = {(piece["source"], piece["row"], token) for token in range(piece["start"], piece["end"])}
            assert not span & seen, "a token was used twice in the first epoch"
            seen |= span
        assert position + padding == built.context_length
        assert (batch.input_ids[number, position:] == built.manifest["tokenizer"]["pad_id"]).all()


def test_every_subset_is_within_a_row_of_its_quota(tmp_path, corpus, tokenizer_dir):
    (built,) = build([recipe_of(corpus, web_en=5000, web_zh=1234, code=777)], tmp_path / "out", tokenizer_dir)
    counted = np.bincount(built.rows(0, built.num_rows).subset_ids, minlength=3)
    for subset, rows in zip(built.manifest["subsets"], counted, strict=True):
        assert subset["rows"] == rows
        assert abs(subset["tokens"] - subset["quota_tokens"]) < built.context_length
    assert abs(built.num_rows * 64 - (5000 + 1234 + 777)) <= 32


def test_a_phase_goes_on_where_the_one_before_stopped(tmp_path, corpus, tokenizer_dir):
    recipes = [recipe_of(corpus, name=f"p{phase}", phase=phase) for phase in (1, 2, 3)]
    built = build(recipes, tmp_path / "out", tokenizer_dir)
    spans = [
        {(piece["source"], piece["row"], piece["start"]) for row in range(one.num_rows) for piece in one.documents(row)}
        for one in built
    ]
    assert not spans[0] & spans[1]
    assert not spans[1] & spans[2]
    assert built[1].manifest["config"]["ledger_in"] == built[0].manifest["ledger_out"]


def test_a_phase_alone_has_the_rows_it_has_in_the_whole(tmp_path, corpus, tokenizer_dir):
    recipes = [recipe_of(corpus, name=f"p{phase}", phase=phase) for phase in (1, 2)]
    whole = build(recipes, tmp_path / "whole", tokenizer_dir)
    (alone,) = build([recipes[1]], tmp_path / "alone", tokenizer_dir, before=[recipes[0]])
    assert alone.fingerprint == whole[1].fingerprint


def test_dataset_and_reader_agree(tmp_path, corpus, tokenizer_dir):
    (built,) = build([recipe_of(corpus)], tmp_path / "out", tokenizer_dir)
    dataset = load_phase(built.folder)
    batch = built.rows(5, 9)
    assert dataset[5:9]["input_ids"] == batch.input_ids.tolist()
    assert dataset[5:9]["doc_lengths"] == [lengths.tolist() for lengths in batch.doc_lengths]
    assert len(dataset) == len(built)


def test_rows_outside_the_phase_are_refused(tmp_path, corpus, tokenizer_dir):
    (built,) = build([recipe_of(corpus)], tmp_path / "out", tokenizer_dir)
    with pytest.raises(DataError, match=f"rows 0 to {built.num_rows}"):
        built.rows(built.num_rows - 1, built.num_rows + 1)
