"""Keys of similar texts are the same as often as they should be, and similarity is that of Python's sets."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.cleaning.duplicates.minhash import band_keys, jaccard, set_keys, shingle_sets, shingles

SETS = st.sets(st.integers(0, 30), max_size=20)


def as_array(numbers: set[int]) -> np.ndarray:
    return np.array(sorted(numbers), dtype=np.uint64)


@given(SETS, SETS)
def test_jaccard_is_that_of_sets(one: set[int], other: set[int]) -> None:
    union = len(one | other)
    assert jaccard(as_array(one), as_array(other)) == (len(one & other) / union if union else 1.0)


def pairs_of_similarity(
    similarity: float, shingle_count: int, pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Pairs of sets of random shingles, one after the other, and their true similarity, about the one asked for."""
    generator = np.random.default_rng(seed)
    shared = round(2 * shingle_count * similarity / (1 + similarity))
    own = shingle_count - shared
    numbers = generator.integers(0, 1 << 64, (pairs, shared + 2 * own), dtype=np.uint64)
    sets = [part for row in numbers for part in (row[: shared + own], np.delete(row, np.s_[shared : shared + own]))]
    return np.concatenate(sets), np.arange(2 * pairs + 1) * shingle_count, shared / (shared + 2 * own)


@pytest.mark.parametrize("shingle_count", [12, 300])
@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 3)])
@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_recall_follows_its_formula(similarity: float, bands: int, rows: int, shingle_count: int) -> None:
    pairs = 2000
    hashes, offsets, true = pairs_of_similarity(similarity, shingle_count, pairs, seed=bands * shingle_count)
    keys = band_keys(hashes, offsets, bands=bands, rows=rows)
    found = (keys[::2] == keys[1::2]).any(axis=1).sum()
    expected = 1 - (1 - true**rows) ** bands
    # Five standard deviations, and one pair where there is hardly any.
    assert abs(found - pairs * expected) <= 5 * np.sqrt(pairs * expected * (1 - expected)) + 1


def test_each_band_is_as_likely_as_the_others() -> None:
    hashes, offsets, true = pairs_of_similarity(0.8, 100, 2000, seed=3)
    keys = band_keys(hashes, offsets, bands=14, rows=8)
    share = (keys[::2] == keys[1::2]).mean(axis=0)
    assert np.abs(share - true**8).max() < 5 * np.sqrt(true**8 * (1 - true**8) / 2000)
    assert (keys & np.uint64(255) == np.arange(14, dtype=np.uint64)).all()


def test_keys_do_not_depend_on_what_else_is_in_the_batch() -> None:
    texts = ["one two three four five six seven", "", "中文文本也是一样的", "a b"]
    hashes, offsets = shingles(texts, 5)
    together = band_keys(hashes, offsets, bands=3, rows=2)
    for text, keys in zip(texts, together, strict=True):
        if text:  # without words the keys mean nothing
            assert (band_keys(*shingles([text], 5), bands=3, rows=2)[0] == keys).all()


@given(st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=5))
def test_set_keys_are_equal_for_the_same_shingles_in_any_order(lists: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, lists)])
    keys = set_keys(np.array([number for one in lists for number in one], dtype=np.uint64), offsets)
    for one, key in zip(lists, keys, strict=True):
        for other, other_key in zip(lists, keys, strict=True):
            assert (key == other_key) == (sorted(one) == sorted(other))


def test_a_text_shorter_than_a_shingle_is_one_shingle() -> None:
    sets = shingle_sets(["a b c", "A, b; C!", "a b", "", "a b c d e", "中文", "中 文"], 5)
    assert [len(one) for one in sets] == [1, 1, 1, 0, 1, 1, 1]
    assert sets[0] == sets[1]
    assert len({sets[0][0], sets[2][0], sets[4][0], sets[5][0]}) == 4
    assert sets[5] == sets[6]


def test_shingle_sets_are_those_of_plain_python() -> None:
    generator = random.Random(1)
    texts = [" ".join(generator.choices("abc", k=generator.randrange(30))) for _ in range(50)]
    sets = shingle_sets(texts, 3)
    for one, own in zip(texts, sets, strict=True):
        assert list(own) == sorted(set(own))
        for other, others in zip(texts, sets, strict=True):
            plain = [
                {tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))} - {()}
                for words in (one.split(), other.split())
            ]
            assert len(np.intersect1d(own, others)) == len(plain[0] & plain[1])
