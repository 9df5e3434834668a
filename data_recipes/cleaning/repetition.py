"""How much of a text its repeated runs of words make: the rules of Gopher (Rae et al. 2021, Table A1) at any n.

The n-grams are counted as datatrove does, so that verdicts are the same for the same words.
"""

import numba
import numpy as np

from data_recipes.cleaning.words import Words, ngram_hashes


def top_ngram_characters(words: Words, n: int) -> np.ndarray:
    """Characters that the most frequent n-gram of each text makes, the spaces in it counted; int64 [texts].

    Of equally frequent ones the first counts; that is also so where none occurs twice.
    """
    ngrams, offsets = ngram_hashes(words, n)
    return _top(ngrams, offsets, words.offsets, _lengths_before(words), n)


def repeated_ngram_characters(words: Words, n: int) -> np.ndarray:
    """Characters of words in n-grams that occurred before in the text, none counted twice; int64 [texts]."""
    ngrams, offsets = ngram_hashes(words, n)
    return _repeated(ngrams, offsets, words.offsets, _lengths_before(words), n)


def _lengths_before(words: Words) -> np.ndarray:
    """For each word the characters of all words before it, then those of all."""
    before = np.zeros(len(words.starts) + 1, dtype=np.int64)
    np.cumsum(words.ends - words.starts, out=before[1:])
    return before


@numba.njit(cache=True, nogil=True)
def _top(ngrams, offsets, word_offsets, before, n):  # pragma: no cover - compiled
    result = np.zeros(len(offsets) - 1, dtype=np.int64)
    keys, owners, counts = _table(offsets)
    for text in range(len(offsets) - 1):
        mask = _mask(offsets[text + 1] - offsets[text])
        most = 0
        for place in range(offsets[text], offsets[text + 1]):
            slot = _slot(keys, owners, mask, ngrams[place], text)
            if owners[slot] != text:
                owners[slot], keys[slot], counts[slot] = text, ngrams[place], 0
            counts[slot] += 1
            most = max(most, counts[slot])
        for place in range(offsets[text], offsets[text + 1]):
            if counts[_slot(keys, owners, mask, ngrams[place], text)] == most:
                word = word_offsets[text] + place - offsets[text]
                result[text] = most * (before[word + n] - before[word] + n - 1)
                break
    return result


@numba.njit(cache=True, nogil=True)
def _repeated(ngrams, offsets, word_offsets, before, n):  # pragma: no cover - compiled
    result = np.zeros(len(offsets) - 1, dtype=np.int64)
    keys, owners, _ = _table(offsets)
    for text in range(len(offsets) - 1):
        mask = _mask(offsets[text + 1] - offsets[text])
        place = offsets[text]
        while place < offsets[text + 1]:
            slot = _slot(keys, owners, mask, ngrams[place], text)
            if owners[slot] == text:
                word = word_offsets[text] + place - offsets[text]
                result[text] += before[word + n] - before[word]
                place += n
            else:
                owners[slot], keys[slot] = text, ngrams[place]
                place += 1
    return result


@numba.njit(cache=True, nogil=True)
def _table(offsets):  # pragma: no cover - compiled
    """A hash table with room for the n-grams of any one text: keys, the text that each is of, counts."""
    most = 0
    for text in range(len(offsets) - 1):
        most = max(most, offsets[text + 1] - offsets[text])
    size = _mask(most) + 1
    return np.empty(size, dtype=np.uint64), np.full(size, -1, dtype=np.int64), np.empty(size, dtype=np.int64)


@numba.njit(cache=True, nogil=True)
def _mask(entries):  # pragma: no cover - compiled
    size = 4
    while size < 2 * entries:
        size *= 2
    return size - 1


@numba.njit(inline="always")
def _slot(keys, owners, mask, key, text):  # pragma: no cover - compiled
    """Where a key is or belongs in the table."""
    slot = np.int64(key >> np.uint64(20)) & mask
    while owners[slot] == text and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot
