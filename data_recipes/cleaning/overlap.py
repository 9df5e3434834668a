"""Which items of evaluation sets stand in texts: by runs of words, from the question, the answer, or both.

Every run of n words of an item is in an index. Where a text has one, word for word, that stretch of the item is
covered; an item is found as far as the hits that lie close together cover its words. Case, punctuation, spaces and
line ends play no part (`words.py`). A question in other words is not found: n-grams cannot.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from data_recipes.cleaning.words import Words, split_words

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
# Bits of the first filter for each run that it holds: one in so many other runs passes it.
BITS_A_RUN = 16
MOST_BITS = 2**31
PARTS = ("question", "answer", "question and answer")


@dataclass(frozen=True)
class Item:
    """One item of an evaluation set."""

    set: str
    id: str
    question: str
    answer: str = ""


@dataclass(frozen=True)
class Found:
    """A part of an item in a text: the share of its words that is covered, and from where to where, in characters."""

    set: str
    item: str
    part: str
    share: float
    start: int
    end: int


@dataclass(frozen=True)
class _Grams:
    """The runs to look for. Those with equal words in one part are a group, with the place of each in the part."""

    lengths: np.ndarray  # int64, each length of a run once, rising
    bitmap: np.ndarray  # uint64, of the first `lengths[0]` words of each run
    keys: np.ndarray  # uint64 [slots], 0 where empty
    first: np.ndarray  # int64 [slots], the first group of the key
    group_stops: np.ndarray  # int64 [groups], where the groups of the same key end
    group_parts: np.ndarray  # int32 [groups]
    group_words: np.ndarray  # int64 [groups], where the run stands in the words of all parts
    place_offsets: np.ndarray  # int64 [groups + 1]
    places: np.ndarray  # int32, first word of a run, counted from the beginning of its part


class ItemIndex:
    """Finds items in texts. `lengths[set]` is its n.

    A part of fewer than n words is one run. A question of fewer than `shortest` words, or a short one that several
    items of its set share (`Which of the following is true?`), says too little by itself: it is looked for together
    with its answer. What then still has fewer than `shortest` words cannot be looked for; `too_short` counts it by set.
    """

    def __init__(self, items: Sequence[Item], lengths: dict[str, int], *, shortest: int) -> None:
        self.items = items
        self.too_short: Counter[str] = Counter()
        owner, kind, words, runs = self._parts(lengths, shortest)
        self._owner, self._kind = np.array(owner, dtype=np.int64), np.array(kind, dtype=np.int64)
        self._sizes = np.array([len(part) for part in words], dtype=np.int64)
        self._runs = np.array(runs, dtype=np.int64)
        self._words = np.concatenate([np.empty(0, np.uint64), *words])
        self._grams = _index(self._words, self._sizes, self._runs) if words else None

    def _parts(
        self, lengths: dict[str, int], shortest: int
    ) -> tuple[list[int], list[int], list[np.ndarray], list[int]]:
        questions = _each(split_words([item.question for item in self.items]))
        answers = _each(split_words([item.answer for item in self.items]))
        shared = Counter((item.set, question.tobytes()) for item, question in zip(self.items, questions, strict=True))
        owner: list[int] = []
        kind: list[int] = []
        words: list[np.ndarray] = []
        runs: list[int] = []

        def add(number: int, part: int, text: np.ndarray) -> None:
            owner.append(number)
            kind.append(part)
            words.append(text)
            runs.append(min(len(text), lengths[self.items[number].set]))

        for number, (item, question, answer) in enumerate(zip(self.items, questions, answers, strict=True)):
            n = lengths[item.set]
            both = np.concatenate([question, answer])
            tells = len(question) >= shortest and shared[item.set, question.tobytes()] == 1
            if len(question) >= n or tells:
                add(number, 0, question)
            elif len(both) >= shortest:
                add(number, 2, both)
            else:
                self.too_short[item.set] += 1
            if len(answer) >= n:
                add(number, 1, answer)
        return owner, kind, words, runs

    def find(self, words: Words, *, least: float = 0.0) -> list[list[Found]]:
        """For each text the parts that it has at least the share `least` of, those that are covered most first."""
        found: list[list[Found]] = [[] for _ in range(len(words.offsets) - 1)]
        if self._grams is None:
            return found
        hits = _search(words.hashes, words.offsets, self._words, self._runs, *_fields(self._grams))
        texts, parts, shares, first, last = self._best_stretches(*hits)
        enough = shares >= least
        starts, ends = words.starts[first], words.ends[last + self._runs[parts] - 1]
        rows = (column[enough].tolist() for column in (texts, parts, shares, starts, ends))
        for text, part, share, start, end in zip(*rows, strict=True):
            item = self.items[self._owner[part]]
            found[text].append(Found(item.set, item.id, PARTS[self._kind[part]], share, start, end))
        for one in found:
            one.sort(key=lambda part: (-part.share, part.set, part.item, part.part))
        return found

    def _best_stretches(self, texts: np.ndarray, groups: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Text, part, share of its words covered, first and last hit: for each text and part, of the stretches in
        which a hit follows the other within the part's length, the first of those that cover most."""
        grams = self._grams
        assert grams is not None
        parts = grams.group_parts[groups].astype(np.int64)
        order = np.lexsort((positions, parts, texts))
        texts, parts, groups, positions = texts[order], parts[order], groups[order], positions[order]
        begins = _changes(texts, parts)
        begins[1:] |= np.diff(positions) > self._sizes[parts[1:]]
        stretch, begins = np.cumsum(begins) - 1, np.flatnonzero(begins)
        last = positions[np.append(begins[1:], len(texts))[: len(begins)] - 1]
        texts, parts, first = texts[begins], parts[begins], positions[begins]
        # Every place of the part at which one of the stretch's runs stands, once and in order: how many words it adds.
        counts = np.diff(grams.place_offsets)[groups]
        index = np.repeat(grams.place_offsets[groups] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        width = int(self._sizes.max()) + 1
        marks = np.unique(np.repeat(stretch, counts) * width + grams.places[index])
        stretch, place = marks // width, marks % width
        adds = self._runs[parts[stretch]]
        adds[:-1] = np.where(stretch[1:] == stretch[:-1], np.minimum(adds[:-1], np.diff(place)), adds[:-1])
        covered = np.bincount(stretch, weights=adds, minlength=len(parts))
        order = np.lexsort((first, -covered, parts, texts))
        best = order[_changes(texts[order], parts[order])]
        return texts[best], parts[best], (covered / self._sizes[parts])[best], first[best], last[best]


def _changes(texts: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Where another text or another part begins."""
    result = np.ones(len(texts), dtype=bool)
    result[1:] = (np.diff(texts) != 0) | (np.diff(parts) != 0)
    return result


def _each(words: Words) -> list[np.ndarray]:
    return np.split(words.hashes, words.offsets[1:-1]) if len(words.offsets) > 1 else []


def _fields(grams: _Grams) -> tuple[np.ndarray, ...]:
    return grams.lengths, grams.bitmap, grams.keys, grams.first, grams.group_stops, grams.group_parts, grams.group_words


def _index(words: np.ndarray, sizes: np.ndarray, runs: np.ndarray) -> _Grams:
    """All runs of `runs[part]` words of the parts, by hash."""
    lengths = np.unique(runs)
    counts = sizes - runs + 1
    part = np.repeat(np.arange(len(sizes)), counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    at = np.repeat(np.cumsum(sizes) - sizes, counts) + place
    hashes = _run_hashes(words, at, runs[part])
    bits = max(2**16, 1 << int(min(len(at) * BITS_A_RUN, MOST_BITS) - 1).bit_length())
    bitmap = np.zeros(bits // 64, dtype=np.uint64)
    anchors = _run_hashes(words, at, np.full(len(at), lengths[0])) & np.uint64(bits - 1)
    np.bitwise_or.at(bitmap, anchors >> np.uint64(6), np.uint64(1) << (anchors & np.uint64(63)))
    order = np.lexsort((place, part, hashes))
    hashes, part, place, at = hashes[order], part[order], place[order], at[order]
    is_group = np.ones(len(at), dtype=bool)
    is_group[1:] = (np.diff(part) != 0) | (hashes[1:] != hashes[:-1])
    groups = np.flatnonzero(is_group)
    is_key = np.ones(len(groups), dtype=bool)
    is_key[1:] = hashes[groups][1:] != hashes[groups][:-1]
    firsts = np.flatnonzero(is_key)
    stops = np.repeat(np.append(firsts[1:], len(groups)), np.diff(np.append(firsts, len(groups))))
    slots = 1 << int(2 * len(firsts)).bit_length()
    keys, first = _hash_table(hashes[groups][firsts], firsts, slots)
    return _Grams(
        lengths,
        bitmap,
        keys,
        first,
        stops,
        part[groups].astype(np.int32),
        at[groups],
        np.append(groups, len(at)),
        place.astype(np.int32),
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _mixed(total, length):  # pragma: no cover - compiled
    value = total + np.uint64(length) * _MULTIPLIER
    value = (value ^ (value >> _SHIFT)) * _MULTIPLIER
    value ^= value >> _SHIFT
    return value if value != 0 else np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _run_hashes(words, starts, lengths):  # pragma: no cover - compiled
    result = np.empty(len(starts), dtype=np.uint64)
    for number in range(len(starts)):
        total = np.uint64(0)
        for word in range(starts[number], starts[number] + lengths[number]):
            total = total * _MULTIPLIER + words[word]
        result[number] = _mixed(total, lengths[number])
    return result


@numba.njit(cache=True, nogil=True)
def _hash_table(hashes, values, slots):  # pragma: no cover - compiled
    keys = np.zeros(slots, dtype=np.uint64)
    first = np.zeros(slots, dtype=np.int64)
    for number in range(len(hashes)):
        slot = hashes[number] & np.uint64(slots - 1)
        while keys[slot] != 0:
            slot = (slot + np.uint64(1)) & np.uint64(slots - 1)
        keys[slot] = hashes[number]
        first[slot] = values[number]
    return keys, first


@numba.njit(cache=True, nogil=True)
def _search(
    hashes, offsets, item_words, runs, lengths, bitmap, keys, first, group_stops, group_parts, group_words
):  # pragma: no cover - compiled
    """(text, group, position) of the hits. A group that was hit less than a run before is not hit again."""
    texts = np.empty(1024, dtype=np.int64)
    groups = np.empty(1024, dtype=np.int64)
    positions = np.empty(1024, dtype=np.int64)
    last_hit = np.full(len(group_parts), -(2**40), dtype=np.int64)
    count = 0
    anchor = lengths[0]
    leaving = np.uint64(1)  # the factor of the word that a step leaves behind
    for _ in range(anchor):
        leaving *= _MULTIPLIER
    bits = np.uint64(len(bitmap) * 64 - 1)
    slots = np.uint64(len(keys) - 1)
    for text in range(len(offsets) - 1):
        total = np.uint64(0)
        for word in range(offsets[text], offsets[text + 1]):
            total = total * _MULTIPLIER + hashes[word]
            start = word - anchor + 1
            if start > offsets[text]:
                total -= hashes[start - 1] * leaving
            if start < offsets[text]:
                continue
            mark = _mixed(total, anchor) & bits
            if not (bitmap[mark >> np.uint64(6)] >> (mark & np.uint64(63))) & np.uint64(1):
                continue
            value = total
            length = anchor
            for wanted in lengths:
                if start + wanted > offsets[text + 1]:
                    break
                while length < wanted:
                    value = value * _MULTIPLIER + hashes[start + length]
                    length += 1
                key = _mixed(value, wanted)
                slot = key & slots
                while keys[slot] != 0 and keys[slot] != key:
                    slot = (slot + np.uint64(1)) & slots
                if keys[slot] == 0:
                    continue
                group = first[slot]
                for number in range(group, group_stops[group]):
                    if start - last_hit[number] < runs[group_parts[number]] and last_hit[number] >= offsets[text]:
                        continue
                    same = runs[group_parts[number]] == wanted
                    for step in range(wanted):
                        same = same and item_words[group_words[number] + step] == hashes[start + step]
                    if not same:
                        continue
                    last_hit[number] = start
                    if count == len(texts):
                        texts = np.append(texts, np.empty(count, dtype=np.int64))
                        groups = np.append(groups, np.empty(count, dtype=np.int64))
                        positions = np.append(positions, np.empty(count, dtype=np.int64))
                    texts[count] = text
                    groups[count] = number
                    positions[count] = start
                    count += 1
    return texts[:count], groups[:count], positions[:count]
