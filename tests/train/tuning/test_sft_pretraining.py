"""Pretraining text among the dialogues: how much of it, whole and once, each token trained, neighbours apart."""

import json

import numpy as np
import pytest
from datasets import Dataset
from pretrain_miniature import write_inputs
from sft_miniature import write_dialogues, write_sft_config, write_tokenizer

from data_recipes.rows.reader import PackedRows
from train.sft import main
from train.tuning.config import PretrainingSettings
from train.tuning.data import IGNORED_LABEL, write_rows


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("built"))


def rows_of(built, out, *, dialogues=60, max_length=64, **settings):
    path = write_dialogues(out / "dialogues.jsonl", dialogues)
    pretraining = PretrainingSettings(dir=built / "data", **settings)
    rows = out / "rows.arrow"
    found = write_rows(
        path, rows, tokenizer=built / "tokenizer", max_length=max_length, workers=1, pretraining=pretraining
    )
    return Dataset.from_file(str(rows)), found["counts"]


def documents_of(folder):
    """The documents of a phase's rows, as lists of ids."""
    phase = PackedRows(folder)
    batch = phase.rows(0, phase.num_rows)
    for ids, lengths, padding in zip(batch.input_ids, batch.doc_lengths, batch.padding, strict=True):
        pieces = np.split(ids[: len(ids) - padding], np.cumsum(lengths)[:-1])
        yield from (piece.tolist() for piece in pieces if len(piece))


def test_the_share_is_one_of_all_tokens_and_each_is_trained(built, tmp_path):
    rows, counts = rows_of(built, tmp_path, share=0.5, phases=["1", "26"])
    assert counts["pretraining_tokens"] == pytest.approx(counts["tokens"] / 2, rel=0.05)
    assert counts["dialogues"] == 60
    assert len(rows) > 60
    pieces = {
        phase: {
            tuple(ids[start : start + 64])
            for ids in documents_of(built / "data" / f"phase-{phase}")
            for start in range(0, len(ids), 64)
        }
        for phase in ("01", "26")
    }
    found = set()
    for row in rows.select(range(60, len(rows))):
        assert row["labels"] == [IGNORED_LABEL, *row["input_ids"][1:]]  # the first would follow a neighbour if packed
        found |= {
            (phase, tuple(row["input_ids"])) for phase, known in pieces.items() if tuple(row["input_ids"]) in known
        }
    assert {phase for phase, _ in found} == {"01", "26"}
    assert len({piece for _, piece in found}) == len(rows) - 60  # whole pieces of documents, none twice


def test_no_text_is_taken_twice_where_phases_hold_less_than_the_share(built, tmp_path, capsys):
    rows, _ = rows_of(built, tmp_path, share=0.9, phases="1")
    assert "the phases named hold 2,304: all are taken" in capsys.readouterr().err
    taken = sorted(row["input_ids"] for row in rows.select(range(60, len(rows))))
    assert taken == sorted(ids for ids in documents_of(built / "data" / "phase-01") if len(ids) > 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": 0.1, "phases": ["7"]}, ["pretraining.phases", "phase-07", "Present: phase-01"]),
        ({"share": 1.0}, ["pretraining.share"]),
    ],
)
def test_what_cannot_be_mixed_is_refused(built, tmp_path, capsys, settings, words):
    write_tokenizer(tmp_path / "tokenizer")
    config = write_sft_config(tmp_path, pretraining={"dir": str(built / "data"), **settings})
    for arguments in ([str(config)], [str(config), "--dry-run"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert "error: " in error
        assert all(word in error for word in words), error


def test_phases_of_another_tokenizer_and_damaged_ones_are_refused(built, tmp_path, capsys):
    config = write_sft_config(tmp_path, pretraining={"dir": str(built / "data"), "share": 0.1, "phases": "1"})
    tokenizer = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["Q"], tokenizer["model"]["vocab"]["R"] = (
        tokenizer["model"]["vocab"]["R"],
        tokenizer["model"]["vocab"]["Q"],
    )
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert main([str(config)]) == 2
    assert "built with another tokenizer" in capsys.readouterr().err


def test_a_run_with_packed_text_says_what_it_was_made_from(built, tmp_path):
    settings = {"dir": str(built / "data"), "share": 0.3, "phases": "1-2"}
    config = write_sft_config(tmp_path, pretraining=settings, packing="bfd", epochs=1, batch_size=4, micro_batch_size=2)
    assert main([str(config)]) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["inputs"]["pretraining/phase-02"] == PackedRows(built / "data" / "phase-02").fingerprint
    assert manifest["counts"]["pretraining_tokens"] == pytest.approx(0.3 * manifest["counts"]["tokens"], rel=0.1)
