"""Near duplicates against brute force: what is dropped is similar to what is kept, and little is missed."""

import json
import random
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus_in_memory import CorpusInMemory, Place

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.duplicates import near, shingle_files, sorted_runs
from data_recipes.cleaning.duplicates.minhash import jaccard, shingle_sets
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.steps.near_duplicates import NearDuplicatesSettings, NearDuplicateStep
from data_recipes.errors import DataError

WORDS = [f"word{number}" for number in range(3000)]
IDEOGRAPHS = [chr(0x4E00 + number) for number in range(3000)]


def search(folder: Path, units: list[list[str]], **how: Any) -> CorpusInMemory:
    settings = how.pop("settings", {})
    step = NearDuplicateStep(NearDuplicatesSettings(step="near-duplicates", **settings))
    return CorpusInMemory(folder, step, units, **how)


def edited(words: list[str], edits: int, vocabulary: list[str], generator: random.Random) -> list[str]:
    """A copy with some words replaced, taken out or put in."""
    copy = list(words)
    for _ in range(edits):
        place = generator.randrange(len(copy))
        copy[place : place + generator.randrange(2)] = generator.choices(vocabulary, k=generator.randrange(2))
    return copy


def families(count: int, *, seed: int, chinese: bool = False) -> list[str]:
    """Texts with copies of all degrees of similarity, and copies of these."""
    generator = random.Random(seed)
    vocabulary, space = (IDEOGRAPHS, "") if chinese else (WORDS, " ")
    texts = []
    for _ in range(count):
        versions = [generator.choices(vocabulary, k=generator.randrange(30, 300))]
        for _ in range(generator.randrange(6)):
            parent = generator.choice(versions)
            versions.append(edited(parent, generator.randrange(1 + len(parent) // 40), vocabulary, generator))
        texts += [space.join(words) for words in versions]
    generator.shuffle(texts)
    return texts


def in_units(texts: list[str], units: int) -> list[list[str]]:
    return [texts[unit::units] for unit in range(units)]


def all_pairs(corpus: CorpusInMemory) -> Iterator[tuple[Place, Place, float]]:
    """True similarities, the document that goes before first."""
    places = [(unit, row) for unit, texts in enumerate(corpus.texts_of_units) for row in range(len(texts))]
    places = sorted(set(places) - corpus.excluded, key=corpus.rank)
    sets = shingle_sets([corpus.texts_of_units[unit][row] for unit, row in places], 5)
    for (one, own), (other, others) in combinations(zip(places, sets, strict=True), 2):
        yield one, other, jaccard(own, others)


@pytest.fixture(scope="module", params=["words", "Chinese"])
def judged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CorpusInMemory:
    texts = families(250, seed=1, chinese=request.param == "Chinese")
    units = in_units(texts, 5)
    corpus = search(
        tmp_path_factory.mktemp("corpus"), units, source_of_units=[1, 0, 1, 2, 0], excluded={(0, 0), (2, 3), (4, 1)}
    )
    corpus.run(tasks=2)
    return corpus


def test_every_dropped_document_is_similar_to_a_kept_one_that_goes_before_it(judged: CorpusInMemory) -> None:
    assert len(judged.copies) > 200
    for place, kept in judged.copies.items():
        assert kept is not None
        assert kept not in judged.copies
        assert not {place, kept} & judged.excluded
        assert judged.rank(kept) < judged.rank(place)
        one, other = shingle_sets([judged.texts_of_units[unit][row] for unit, row in (place, kept)], 5)
        assert jaccard(one, other) >= 0.8


def test_what_is_kept_has_no_similar_one_before_it_beyond_the_expected_misses(judged: CorpusInMemory) -> None:
    similar = [(one, other, value) for one, other, value in all_pairs(judged) if value >= 0.8]
    assert len(similar) > 500
    # A pair of which both are kept was never compared.
    missed = [value for one, other, value in similar if not {one, other} & judged.copies.keys()]
    chances = [(1 - value**8) ** 14 for _, _, value in similar]
    most = sum(chances) + 4 * np.sqrt(sum(chance * (1 - chance) for chance in chances)) + 1
    assert len(missed) <= most
    near_copies = [value for _, _, value in similar if value >= 0.9]
    assert len(near_copies) > 200
    assert sum(value >= 0.9 for value in missed) <= 0.02 * len(near_copies)


def test_documents_without_words_and_of_a_few_words(tmp_path: Path) -> None:
    units = [["a b c", "", "...", "a b"], ["A, b, c!", "!?", "a b c d e f", "c b a"]]
    assert search(tmp_path, units).run() == {(0, 0): (1, 0)}  # the longer one is kept


def test_units_of_which_nothing_takes_part_are_no_hindrance(tmp_path: Path) -> None:
    text = "one two three four five six seven eight"
    units = [["!!", "..."], [text, text], [], [text + " nine"]]
    assert search(tmp_path / "a", units, excluded={(3, 0)}).run() == {(1, 1): (1, 0)}
    assert search(tmp_path / "b", [["!"], [text]], excluded={(1, 0)}).run() == {}


def test_the_source_of_higher_priority_is_kept_then_the_longer_text_then_the_first(tmp_path: Path) -> None:
    text = "one two three four five six seven eight"
    units = [[text + " !!!!"], [text, text + " .", text]]
    assert search(tmp_path / "a", units, source_of_units=[1, 0]).run() == {
        (0, 0): (1, 1),
        (1, 0): (1, 1),
        (1, 2): (1, 1),
    }
    assert search(tmp_path / "b", units).run() == {(1, row): (0, 0) for row in range(3)}


def test_the_same_bytes_for_any_number_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_runs, "RANGE_BYTES", 10_000)
    monkeypatch.setattr(near, "LOADED_BYTES", 20_000)
    monkeypatch.setattr(near, "TEXT_CHARACTERS", 10_000)
    units = in_units(families(60, seed=2), 8)
    runs = {tasks: search(tmp_path / str(tasks), units) for tasks in (1, 3, 7)}
    verdicts = [corpus.run(tasks) for tasks, corpus in runs.items()]
    assert len(verdicts[0]) > 50
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert runs[1].files() == runs[3].files() == runs[7].files()
    assert len([name for name in runs[1].files() if name.startswith("pairs/")]) > 7
    monkeypatch.undo()
    # How much is held in memory changes no verdict either.
    assert search(tmp_path / "all at once", units).run() == verdicts[0]


def test_a_kill_before_any_file_takes_its_name_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = in_units(families(15, seed=3), 3)
    expected = search(tmp_path / "whole", units)
    expected.run()
    corpus = search(tmp_path / "killed", units)
    finished = False
    kills = 0
    for module in (sorted_runs, shingle_files):
        original = module.write_whole

        def killed(path: Path, content: Any, original: Any = original) -> None:
            if path not in met:
                met.add(path)
                raise KeyboardInterrupt
            original(path, content)

        monkeypatch.setattr(module, "write_whole", killed)
    met: set[Path] = set()
    while not finished:
        try:
            corpus.run(tasks=2)
            finished = True
        except KeyboardInterrupt:
            kills += 1
    assert kills > 10
    assert corpus.copies == expected.copies
    assert corpus.files() == expected.files()


def test_a_damaged_file_between_the_stages_is_refused_and_made_again(tmp_path: Path) -> None:
    units = in_units(families(10, seed=4), 2)
    corpus = search(tmp_path, units)
    expected = dict(corpus.run())
    whole = corpus.files()
    order = ["keys", "candidates", "shingles", "pairs", "kept"]
    for name, content in whole.items():
        stage = order.index(name.split("/")[0])
        for later in whole:
            if order.index(later.split("/")[0]) > stage:
                (tmp_path / later).unlink()
        (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
        with pytest.raises(DataError, match="Give the same command again"):
            corpus.run()
        assert corpus.run() == expected
        assert corpus.files() == whole


def test_many_different_copies_take_comparisons_in_proportion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(5)
    words = generator.choices(WORDS, k=400)
    texts = [" ".join([*words, f"number{number}"]) for number in range(1000)]
    monkeypatch.setattr(near, "LOADED_BYTES", 100_000)  # some thirty texts at a time
    corpus = search(tmp_path, in_units(texts, 3))
    verdicts = corpus.run()
    assert len(verdicts) == 999
    assert len(set(verdicts.values())) == 1
    pairs = sum(sorted_runs.Run(path).records for path in (tmp_path / "pairs").iterdir())
    assert pairs <= 14 * 1000


def test_texts_with_the_same_shingles_are_not_read(tmp_path: Path) -> None:
    text = " ".join(WORDS[:200])
    corpus = search(tmp_path, [[text] * 500, [text.upper()] * 500])
    verdicts = corpus.run()
    assert set(verdicts.values()) == {(0, 0)}
    assert len(verdicts) == 999
    assert corpus.read == []


def test_two_kinds_in_one_large_group_are_told_apart(tmp_path: Path) -> None:
    # With one band of one row any texts with the same smallest shingle are candidates.
    generator = random.Random(6)
    kinds = [generator.choices(WORDS, k=60) for _ in range(3)]
    texts = [" ".join(edited(kinds[number % 3], 1, WORDS, generator)) for number in range(120)]
    corpus = search(tmp_path, in_units(texts, 2), settings={"bands": 8, "rows": 1, "similarity": 0.7})
    verdicts = corpus.run()
    kept = 120 - len(verdicts)
    assert kept < 20
    for place, other in verdicts.items():
        assert other not in verdicts
        one, two = shingle_sets([texts[unit + 2 * row] for unit, row in (place, other)], 5)
        assert jaccard(one, two) >= 0.7


def test_a_cleaning_run_names_the_kept_document_of_every_copy(tmp_path: Path) -> None:
    for name, texts in {"books": families(12, seed=7), "crawl": families(12, seed=7) + families(9, seed=8)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = checked_config({"steps": [{"step": "exact-duplicates"}, {"step": "near-duplicates"}]})
    inputs = parse_inputs([str(tmp_path / "books.jsonl"), str(tmp_path / "crawl.jsonl")])
    clean(config, inputs, tmp_path / "out", tasks=1)
    kept, dropped = (pq.read_table(tmp_path / "out" / side).to_pylist() for side in ("kept", "dropped"))
    assert {row["source"] for row in kept} == {"books", "crawl"}
    near_copies = [row for row in dropped if row["step"] == "near-duplicates"]
    exact_copies = [row for row in dropped if row["step"] == "exact-duplicates"]
    assert len(near_copies) > 5
    assert len(exact_copies) >= len(families(12, seed=7))
    # Each step names what it has kept itself; a later one may have dropped that.
    for copies, originals, least in ((near_copies, kept, 0.8), (exact_copies, kept + near_copies, 1.0)):
        texts_of = {(row["source"], row["row"]): row["text"] for row in originals}
        for row in copies:
            original = texts_of[row["copy_of"]["source"], row["copy_of"]["row"]]
            assert jaccard(*shingle_sets([row["text"], original], 5)) >= least
    assert "minhash" not in kept[0]
