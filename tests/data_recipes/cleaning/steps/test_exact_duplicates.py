"""Each text is kept once: against an oracle, for any number of tasks, and with a million copies of one text."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from corpus_in_memory import CorpusInMemory, Place
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.cleaning.duplicates import sorted_runs
from data_recipes.cleaning.steps.base import StepSettings
from data_recipes.cleaning.steps.exact_duplicates import ExactDuplicates, hash_of
from data_recipes.errors import DataError

TEXTS = st.sampled_from(["a", "b", " a ", "a\n", "a b", "a\t\nb", "A", "", " ", "é", "e\u0301", "中文", "中 文"])
UNITS = st.lists(st.lists(TEXTS, max_size=6), min_size=1, max_size=4)


def search(folder: Path, units: list[list[str]], **how) -> CorpusInMemory:
    return CorpusInMemory(folder, ExactDuplicates(StepSettings(step="exact-duplicates")), units, **how)


def normal(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


@settings(max_examples=25)
@given(units=UNITS, excluded=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=5), order=st.randoms())
def test_of_equal_texts_the_first_in_order_is_kept(units, excluded: set[Place], order, tmp_path_factory) -> None:
    sources = [order.randrange(3) for _ in units]
    corpus = search(tmp_path_factory.mktemp("corpus"), units, source_of_units=sources, excluded=excluded)
    places = [(unit, row) for unit, texts in enumerate(units) for row in range(len(texts))]
    kept: dict[str, Place] = {}
    expected = {}
    for place in sorted(set(places) - excluded, key=corpus.rank):
        first = kept.setdefault(normal(units[place[0]][place[1]]), place)
        if first != place:
            expected[place] = first
    assert corpus.run(tasks=2) == expected


def test_the_same_bytes_for_any_number_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_runs, "RANGE_BYTES", 2000)
    units = [[f"text {(number * (unit + 3)) % 700}" for number in range(300)] for unit in range(8)]
    runs = [search(tmp_path / str(tasks), units) for tasks in (1, 3, 7)]
    verdicts = [corpus.run(tasks) for corpus, tasks in zip(runs, (1, 3, 7), strict=True)]
    assert len(verdicts[0]) == 2400 - len({text for texts in units for text in texts})
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert runs[0].files() == runs[1].files() == runs[2].files()
    assert len([name for name in runs[0].files() if name.startswith("copies/")]) > 7


def test_units_of_which_nothing_takes_part_are_no_hindrance(tmp_path: Path) -> None:
    assert search(tmp_path, [["a"], [], ["b", "b"]], excluded={(0, 0)}).run() == {(2, 1): (2, 0)}


def test_copies_within_a_unit_are_not_sorted_across_units(tmp_path: Path) -> None:
    corpus = search(tmp_path, [["the same"] * 20_000, ["the same"] * 20_000 + ["another"]])
    verdicts = corpus.run()
    assert len(verdicts) == 39_999
    assert set(verdicts.values()) == {(0, 0)}
    assert sum(path.stat().st_size for path in (tmp_path / "hashes").iterdir()) < 1000


def test_a_damaged_file_between_the_stages_is_refused_and_made_again(tmp_path: Path) -> None:
    units = [["a", "b"], ["b", "a", "c"]]
    corpus = search(tmp_path, units)
    expected = dict(corpus.run())
    for name, content in corpus.files().items():
        (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
        for path in (tmp_path / "copies").iterdir():
            if name.startswith("hashes"):
                path.unlink()
        with pytest.raises(DataError, match="Give the same command again"):
            corpus.run()
        assert corpus.run() == expected


def test_hashes_of_texts_are_the_same_on_every_machine() -> None:
    assert hash_of("The  quick\n fox") == hash_of("The quick fox")
    assert np.frombuffer(hash_of("The quick fox"), dtype="<u8").tolist() == [3465779160646840402, 14510441449432328204]
