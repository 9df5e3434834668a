"""A cleaning run: what is kept and dropped, with which evidence, and what a second run computes again."""

import json
from collections import Counter
from pathlib import Path

import planted_steps
import pyarrow.parquet as pq
import pytest

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.summary import read_summary, reasons_of

STEPS = [
    {"step": "planted-rewrite"},
    {"step": "planted-count", "fewest": 3},
    {"step": "planted-twins"},
    {"step": "planted-costly", "fewest": 4},
]
ROWS = [
    *({"text": f"document number {n} says hello to you", "stars": n} for n in range(5)),
    {"text": "too short"},
    {"text": "document number 0 says hello to you"},
    {"text": None},
    {"text": 5},
    {"body": "x"},
    {"text": "a secret one here"},
    {"text": "x y z w"},
    {"text": "a " * 4000},
    {"text": " "},
    {"text": "half \ud800 a character"},
]
# What the rows, two more lines and three plain files are dropped for.
EXPECTED = {
    ("reading", "null"): 1,
    ("reading", "not text"): 1,
    ("reading", "no column 'text'"): 1,
    ("reading", "longer than 5,000 bytes"): 2,
    ("reading", "empty"): 1,
    ("reading", "malformed JSON"): 1,
    ("reading", "not UTF-8"): 3,
    ("planted-rewrite", "secret"): 1,
    ("planted-count", "fewer than 3 words"): 1,
    ("planted-twins", "the same text"): 1,
    ("planted-costly", "few vowels"): 1,
}


def config(steps=STEPS, **changes):
    return checked_config({"steps": steps, "max_document_bytes": 5_000} | changes)


def table(out: Path, name: str) -> list[dict]:
    return [row for path in sorted((out / name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows and plain files in one folder, with every kind of thing that is no document."""
    place = tmp_path / "in"
    place.mkdir()
    lines = [json.dumps(row).encode() for row in ROWS] + [b"{broken", b'{"text": "\xff\xfe latin"}']
    (place / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (place / "b.txt").write_text("a plain file that is a document")
    (place / "c.md").write_bytes(b"\xff\xfe broken")
    (place / "giant.py").write_text("x = 1\n" * 3_000)
    return place


def test_every_row_is_kept_or_dropped_with_its_reason_and_origin(folder, tmp_path):
    out = tmp_path / "out"
    manifest = clean(config(), parse_inputs([f"mine={folder}"]), out)
    kept, dropped = table(out, "kept"), table(out, "dropped")
    assert [(row["file"], row["row"]) for row in kept] == [*(("a.jsonl", n) for n in range(5)), ("b.txt", 0)]
    assert [row["planted_stars"] for row in kept] == [0, 1, 2, 3, 4, None]
    assert {row["source"] for row in kept + dropped} == {"mine"}
    assert not {"planted_head", "step"} & kept[0].keys(), "a signature is for the step's own use"
    assert Counter((row["step"], row["reason"]) for row in dropped) == EXPECTED
    copy = next(row for row in dropped if row["step"] == "planted-twins")
    assert (copy["row"], copy["copy_of"]) == (6, {"source": "mine", "file": "a.jsonl", "row": 0})
    assert next(row["text"] for row in dropped if row["reason"] == "secret") == "a secret one here"

    summary = read_summary(out)
    assert reasons_of(summary) == EXPECTED
    assert summary["documents"] == len(ROWS) + 2 + 3 == len(kept) + len(dropped)
    assert summary["kept_characters"] == sum(len(row["text"]) for row in kept)
    assert manifest["counts"]["kept_documents"] == len(kept)
    for before, after in zip(summary["funnel"], summary["funnel"][1:], strict=False):
        assert before["documents_kept"] == after["documents_in"]
    assert summary["columns"]["planted_count"]["limits"] == [3]
    assert sum(summary["columns"]["planted_count"]["counts"]) == 9, "all documents that the step judged"
    samples = summary["samples"]["planted-count"]
    assert samples["dropped"]["fewer than 3 words"][0]["excerpt"] == "too short"
    assert samples["just_passed"][0]["excerpt"] == "x y z w", "the one nearest to the threshold"


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """How often each planted step was asked since the last look."""
    place = tmp_path / "calls"
    place.mkdir()
    monkeypatch.setenv(planted_steps.CALLS, str(place))

    def since() -> Counter:
        found = Counter(path.name.split("-")[0] for path in place.iterdir())
        for path in place.iterdir():
            path.unlink()
        return found

    return since


def test_a_changed_threshold_reads_nothing_and_computes_nothing_again(folder, tmp_path, calls, monkeypatch):
    out, inputs = tmp_path / "out", parse_inputs([str(folder)])
    clean(config(), inputs, out)
    assert calls() == {"rewrite": 1, "count": 1, "twins": 1, "costly": 7}
    before = state(out / "work" / "texts") | state(out / "work" / "signals")

    def refuse(*_):
        raise AssertionError("an input was read again")

    with monkeypatch.context() as patch:
        patch.setattr("data_recipes.cleaning.pipeline.documents.numbered_documents", refuse)
        clean(config([*STEPS[:3], {"step": "planted-costly", "fewest": 12}]), inputs, out)
    assert calls() == {}
    assert before == state(out / "work" / "texts") | state(out / "work" / "signals")
    assert not table(out, "kept")

    # More documents reach the costly step: of these alone it is asked.
    clean(config([STEPS[0], {"step": "planted-count", "fewest": 1}, *STEPS[2:]]), inputs, out)
    assert calls() == {"costly": 1}
    assert ("planted-costly", "few vowels", "too short") in {
        (row["step"], row["reason"], row["text"]) for row in table(out, "dropped")
    }

    # And back again: the very result of a run that knew nothing of the others.
    clean(config(), inputs, out)
    clean(config(), inputs, tmp_path / "alone")
    for name in ("kept", "dropped"):
        assert table(out, name) == table(tmp_path / "alone", name)


def test_a_changed_setting_of_signals_computes_that_step_alone(folder, tmp_path, calls):
    out, inputs = tmp_path / "out", parse_inputs([str(folder)])
    clean(config(), inputs, out)
    calls()
    clean(config([STEPS[0], {"step": "planted-count", "unit": "characters"}, *STEPS[2:]]), inputs, out)
    assert calls() == {"count": 1, "costly": 1}  # "too short" has more than 3 characters and reaches the costly step
    clean(config([{"step": "planted-rewrite", "upper": True}, *STEPS[1:]]), inputs, out)
    assert calls().keys() == {"rewrite", "count", "twins", "costly"}, "other texts, so everything"
    assert table(out, "kept") == []  # upper-case vowels do not count


def test_the_same_command_again_does_nothing(folder, tmp_path, calls):
    out, inputs = tmp_path / "out", parse_inputs([str(folder)])
    first = clean(config(), inputs, out)
    before = state(out)
    calls()
    assert clean(config(), inputs, out) == first
    assert calls() == {}
    after = state(out)
    assert {name for name in after if before.get(name) != after[name]} <= {str(out / ".clean.lock")}


def test_units_of_which_nothing_is_left_pass_through_every_real_step(tmp_path, monkeypatch):
    monkeypatch.setattr("data_recipes.reading.files.UNIT_BYTES", 1_000)
    folder = tmp_path / "in"
    folder.mkdir()
    long = "a sentence with enough of different words in it to be looked at number "
    for name, texts in {"a": ["no"] * 50, "b": [long + str(n) for n in range(9)], "c": ["", " "] * 40}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    steps = [{"step": "planted-count"}, {"step": "exact-duplicates"}, {"step": "near-duplicates"}, {"step": "language"}]
    clean(config(steps), parse_inputs([str(folder)]), tmp_path / "out")
    assert read_summary(tmp_path / "out")["documents"] == 50 + 9 + 80
    assert {row["file"] for row in table(tmp_path / "out", "kept")} <= {"b.jsonl"}
