"""MinHash: keys that similar texts are likely to share, and the true similarity of those that do.

Texts are compared as sets of shingles, runs of some words. A text shorter than a shingle is one shingle itself, one
without words has none. Two texts of Jaccard similarity s share at least one of `bands` keys, each of `rows` minima,
with probability 1 - (1 - s ** rows) ** bands.

rensa, a library for signatures alone, takes as long for them as `_band_keys` (benchmarks/cleaning.py measures both).
"""

from collections.abc import Sequence

import numba
import numpy as np

from data_recipes.cleaning.words import ngram_hashes, split_words
from data_recipes.ordering import mix64, seed_of

BAND_BITS = 8
MOST_BANDS = 1 << BAND_BITS


def shingles(texts: Sequence[str], shingle_words: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (uint64) of the shingles of some texts, repeated ones too, and offsets (int64 [texts + 1])."""
    words = split_words(texts)
    return ngram_hashes(words, np.clip(np.diff(words.offsets), 1, shingle_words))


def shingle_sets(texts: Sequence[str], shingle_words: int) -> list[np.ndarray]:
    """The different shingles of each text, in ascending order."""
    hashes, offsets = shingles(texts, shingle_words)
    return [np.unique(part) for part in np.split(hashes, offsets[1:-1])] if texts else []


def band_keys(hashes: np.ndarray, offsets: np.ndarray, *, bands: int, rows: int) -> np.ndarray:
    """Keys of texts by their shingles: uint64 [texts, bands]. The lowest bits are the band's number.

    Those of a text without shingles mean nothing.
    """
    # Odd factors and a shift, modulo 2 ** 32: shingles are hashes already.
    seeds = mix64(np.arange(2 * bands * rows, dtype=np.uint64), seed_of("minhash"))
    factors, shifts = (seeds >> np.uint64(32)).astype(np.uint32).reshape(2, -1)
    return _band_keys(hashes, offsets, factors | np.uint32(1), shifts, bands)


def set_keys(hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """A key (uint64 [texts]) that only texts with the same shingles, as often each, share."""
    ends = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mix64(hashes, seed_of("set")), dtype=np.uint64)])
    return ends[offsets[1:]] - ends[offsets[:-1]]


@numba.njit(cache=True, nogil=True)
def _band_keys(hashes, offsets, factors, shifts, bands):  # pragma: no cover - compiled
    count = len(offsets) - 1
    rows = len(factors) // bands
    keys = np.empty((count, bands), dtype=np.uint64)
    minima = np.empty(len(factors), dtype=np.uint32)
    for text in range(count):
        minima[:] = np.uint32(0xFFFFFFFF)
        for place in range(offsets[text], offsets[text + 1]):
            value = np.uint32(hashes[place] >> np.uint64(32))
            for number in range(len(factors)):
                minima[number] = min(minima[number], np.uint32(factors[number] * value + shifts[number]))
        for band in range(bands):
            key = np.uint64(band)
            for row in range(rows):
                key = (key ^ np.uint64(minima[band * rows + row])) * np.uint64(0x9E3779B97F4A7C15)
                key ^= key >> np.uint64(29)
            keys[text, band] = (key & ~np.uint64(MOST_BANDS - 1)) | np.uint64(band)
    return keys


@numba.njit(cache=True, nogil=True)
def jaccard(one, other):  # pragma: no cover - compiled
    """|intersection| / |union| of two ascending arrays without repetitions; 1 where both are empty."""
    shared = 0
    first = 0
    second = 0
    while first < len(one) and second < len(other):
        left = one[first]
        right = other[second]
        shared += left == right
        first += left <= right
        second += right <= left
    union = len(one) + len(other) - shared
    return shared / union if union else 1.0


@numba.njit(cache=True, nogil=True)
def similar_pairs(values, offsets, members, bounds, similarity):  # pragma: no cover - compiled
    """The pairs of at least this similarity in each group, `members[bounds[g]:bounds[g + 1]]`: int64 [pairs, 2],
    numbers of members, the later one first. The set of a member m is `values[offsets[m]:offsets[m + 1]]`."""
    most = 0
    for group in range(len(bounds) - 1):
        size = bounds[group + 1] - bounds[group]
        most += size * (size - 1) // 2
    pairs = np.empty((most, 2), dtype=np.int64)
    found = 0
    for group in range(len(bounds) - 1):
        for second in range(bounds[group] + 1, bounds[group + 1]):
            later = members[second]
            own = values[offsets[later] : offsets[later + 1]]
            for first in range(bounds[group], second):
                earlier = members[first]
                if _is_similar(own, values[offsets[earlier] : offsets[earlier + 1]], similarity):
                    pairs[found] = second, first
                    found += 1
    return pairs[:found]


@numba.njit(cache=True, nogil=True)
def pairs_with_firsts(values, offsets, members, known, most, similarity):  # pragma: no cover - compiled
    """Pairs of one large group: each member is compared with the first `most` that are similar to none before them, and
    is paired with the first of these that it is similar to.

    The first `known` members are such ones already. Returns the pairs, numbers of members [pairs, 2], the later one
    first, and the numbers of all such ones.
    """
    firsts = np.empty(max(most, known), dtype=np.int64)
    firsts[:known] = np.arange(known)
    pairs = np.empty((len(members), 2), dtype=np.int64)
    found = 0
    for later in range(known, len(members)):
        own = values[offsets[members[later]] : offsets[members[later] + 1]]
        is_new = True
        for place in range(known):
            other = members[firsts[place]]
            if _is_similar(own, values[offsets[other] : offsets[other + 1]], similarity):
                pairs[found] = later, firsts[place]
                found += 1
                is_new = False
                break
        if is_new and known < most:
            firsts[known] = later
            known += 1
    return pairs[:found], firsts[:known]


@numba.njit(nogil=True)
def _is_similar(one, other, similarity):  # pragma: no cover - compiled
    # Not more than the smaller of two sets can be shared.
    shorter, longer = min(len(one), len(other)), max(len(one), len(other))
    return shorter >= similarity * longer - 1 and jaccard(one, other) >= similarity
