"""Words of texts as arrays of hashes, and n-grams of them: what duplicates and contamination are found by.

A word is a run of letters, digits and combining marks, in lower case. A Chinese or Japanese character and a Korean
syllable, with the marks that follow it, is a word of its own. Everything else separates words.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numba
import numpy as np

# Versions of Unicode differ in which characters are letters, so texts with new letters give other words.
UNICODE = unicodedata.unidata_version

_MARK, _LETTER, _IDEOGRAPH = 1, 2, 3
# Where letters and numbers are words of their own.
_IDEOGRAPH_RANGES = (
    (0x3005, 0x3007),  # repetition, closing and zero signs
    (0x3040, 0x30FF),  # hiragana, katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),  # hangul syllables
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # katakana of half width
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_START = np.uint64(0xCBF29CE484222325)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


@dataclass(frozen=True)
class Words:
    """The words of some texts, one after the other; those of text d are at `offsets[d]` to `offsets[d + 1]`."""

    hashes: np.ndarray
    """uint64 [n], of the word in lower case: the same in every process and on every machine."""
    offsets: np.ndarray
    """int64 [texts + 1]"""
    starts: np.ndarray
    """int64 [n], position of the first character in its text."""
    ends: np.ndarray
    """int64 [n], position after the last character."""


def split_words(texts: Sequence[str]) -> Words:
    """The words of texts. It takes about 30 times the size of the texts in memory: give it a few MB at a time."""
    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    bounds = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)), out=bounds[1:])
    kinds, lower = _character_tables()
    return Words(*_hash_words(characters, bounds, kinds, lower))


def ngram_hashes(words: Words, n: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (uint64) of all runs of `n` words of one text, and offsets (int64 [texts + 1]) as those of words.

    `n` may be an array, one for each text. A text of fewer than `n` words has none. For `n` = 1 these are not the
    hashes of the words themselves.
    """
    if np.any(np.less(n, 1)):
        raise ValueError(f"n-grams of {np.min(n)} words; expected at least 1.")
    lengths = np.diff(words.offsets)
    sizes = np.broadcast_to(np.asarray(n, dtype=np.int64), lengths.shape)
    offsets = np.zeros_like(words.offsets)
    np.cumsum(np.maximum(lengths - (sizes - 1), 0), out=offsets[1:])
    return _hash_ngrams(words.hashes, words.offsets, offsets, np.ascontiguousarray(sizes)), offsets


@cache
def _character_tables() -> tuple[np.ndarray, np.ndarray]:
    """For each code point its kind (uint8, 0 where it separates words) and its lower case (uint32)."""
    kinds = np.zeros(0x110000, dtype=np.uint8)
    lower = np.arange(0x110000, dtype=np.uint32)
    # Unicode assigns letters and marks nowhere else; the test looks at all code points.
    for code in (*range(0x40000), *range(0xE0000, 0xE1000)):
        character = chr(code)
        category = unicodedata.category(character)[0]
        if category == "M":
            kinds[code] = _MARK
        elif category in "LN":
            kinds[code] = _LETTER
            lower[code] = ord(character.lower()[0])
    for first, last in _IDEOGRAPH_RANGES:
        part = kinds[first : last + 1]
        part[part == _LETTER] = _IDEOGRAPH
    return kinds, lower


@numba.njit(cache=True, nogil=True)
def _hash_words(characters, bounds, kinds, lower):  # pragma: no cover - compiled
    # As many as there could be; what is not written to takes no memory.
    hashes = np.empty(len(characters), dtype=np.uint64)
    starts = np.empty(len(characters), dtype=np.int64)
    ends = np.empty(len(characters), dtype=np.int64)
    offsets = np.zeros(len(bounds), dtype=np.int64)
    count = 0
    for text in range(len(bounds) - 1):
        first = bounds[text]
        length = bounds[text + 1] - first
        place = 0
        while place < length:
            kind = kinds[characters[first + place]]
            if kind == 0:
                place += 1
                continue
            starts[count] = place
            value = _START
            is_run = kind != _IDEOGRAPH
            while True:
                value = (value ^ np.uint64(lower[characters[first + place]])) * _MULTIPLIER
                value ^= value >> _SHIFT
                place += 1
                if place == length:
                    break
                kind = kinds[characters[first + place]]
                if kind != _MARK and not (is_run and kind == _LETTER):
                    break
            hashes[count] = value
            ends[count] = place
            count += 1
        offsets[text + 1] = count
    return hashes[:count], offsets, starts[:count], ends[:count]


@numba.njit(cache=True, nogil=True)
def _hash_ngrams(hashes, offsets, ngram_offsets, sizes):  # pragma: no cover - compiled
    result = np.empty(ngram_offsets[-1], dtype=np.uint64)
    for text in range(len(offsets) - 1):
        n = sizes[text]
        leaving = np.uint64(1)  # the factor of the word that a step leaves behind
        for _ in range(n):
            leaving *= _MULTIPLIER
        total = np.uint64(0)
        first = offsets[text]
        for word in range(first, offsets[text + 1]):
            total = total * _MULTIPLIER + hashes[word]
            ngram = word - first - n + 1
            if ngram > 0:
                total -= hashes[word - n] * leaving
            if ngram >= 0:
                # The low bits of the sum depend on the low bits of the words alone, so it is mixed once more.
                value = total + np.uint64(n) * _START
                value = (value ^ (value >> _SHIFT)) * _MULTIPLIER
                result[ngram_offsets[text] + ngram] = value ^ (value >> _SHIFT)
    return result
