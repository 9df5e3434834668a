"""The merges of BPE in compiled code, without the GIL: the ids of `tokenizers`, with its dropout where asked for.

A word's merges are done as `tokenizers` does them: a queue of candidates by rank and place, from which one is taken
at a time. With dropout each one taken is put aside with chance `rate`, and those put aside come back with the next
one that is not. The random numbers say how many candidates are kept before the next one is dropped, which is the same
as a throw for every candidate. So a word is as without dropout where that number is not smaller than that of the
candidates taken for it. Both ids and number of common words are kept in memory, which saves time and changes nothing.
"""

import threading
from typing import Any, NamedTuple

import numba
import numpy as np

from data_recipes.errors import DataError

CODE_POINTS = 0x110000
CACHED_WORDS = 1 << 16  # of 64 bytes each, for every thread
RECENT_PAIRS = 1 << 12
CACHED_BYTES, CACHED_IDS = 32, 6
LONG_WORD = 32
PADDING = CACHED_BYTES  # zero bytes after the texts, so that eight can be read at any place
NEVER = np.int64(2**62)
_LOW = 0xFFFFFFFF


# Nothing is allocated within, so that no array needs its references counted: that halves the time.
compiled = numba.njit(cache=True, nogil=True, _nrt=False)

# An index that is not negative for certain: counting from the end needs a test each time.
at = np.uint64


class Words(NamedTuple):
    """Texts as words: the UTF-8 of all of them (uint8, `PADDING` zeros after it), where each word ends (int64), how
    many words each text has (int64) and whether the tokenizer's mark comes before the first of them (bool)."""

    data: np.ndarray
    ends: np.ndarray
    counts: np.ndarray
    marked: np.ndarray


class Chance(NamedTuple):
    """Random numbers for each text: `states` (uint64); `gaps` (int64 `[texts, 2]`): so many candidates are kept, and
    whether the one after them is dropped. Both move on with the text."""

    states: np.ndarray
    gaps: np.ndarray


class Merges:
    """Vocabulary and merges of a BPE model of `tokenizers` (its description as in tokenizer.json). `thresholds`: what
    chances are drawn by, `bpe_dropout.thresholds`."""

    def __init__(self, model: dict[str, Any], thresholds: np.ndarray | None = None) -> None:
        if model["type"] != "BPE":
            raise DataError(f"needs a BPE tokenizer; this one is {model['type']}.")
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise DataError("vocabularies with word-end or continuation marks are not supported.")
        self.vocabulary: dict[str, int] = model["vocab"]
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        sides = np.array(
            [[self.vocabulary[first], self.vocabulary[second]] for first, second in pairs], dtype=np.int64
        ).reshape(-1, 2)
        merged = np.array([self.vocabulary[first + second] for first, second in pairs], dtype=np.int64)
        self.pairs = np.full((1 << max(4, int(2 * len(pairs) + 1).bit_length()), 2), -1, dtype=np.int64)
        _fill_pairs(self.pairs, sides, merged)
        self.byte_ids = np.full(256, -1, dtype=np.int32)
        if model.get("byte_fallback"):
            self.byte_ids[:] = [self.vocabulary.get(f"<0x{byte:02X}>", -1) for byte in range(256)]
        self.unknown = self.vocabulary.get(model.get("unk_token") or "", -1)
        self.thresholds = np.empty(0, np.uint64) if thresholds is None else thresholds
        self._of_thread = threading.local()

    def characters(self) -> np.ndarray:
        """The id of each code point (int32), -1 where it has none and its bytes stand for it."""
        table = np.full(CODE_POINTS, -1 if self.byte_ids.min() >= 0 else self.unknown, dtype=np.int32)
        for token, number in self.vocabulary.items():
            if len(token) == 1:
                table[ord(token)] = number
        return table

    def ids(
        self, words: Words, characters: np.ndarray, byte_ids: np.ndarray, *, mark: int, chance: Chance | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one after the other (uint32) and the number of each text's (int64)."""
        if not hasattr(self._of_thread, "memory"):
            self._of_thread.memory = np.full((RECENT_PAIRS, 2), -1), np.zeros((CACHED_WORDS, 8), dtype=np.uint64)
        recent, cache = self._of_thread.memory
        out = np.empty(len(words.data) - PADDING + len(words.counts), dtype=np.uint32)
        lengths = np.zeros(len(words.counts), dtype=np.int64)
        dropping = chance is not None
        states, gaps = chance or (np.empty(0, np.uint64), np.empty((0, 2), np.int64))
        longest = int(np.diff(words.ends, prepend=0).max(initial=0)) + 1
        room, queue = np.empty((4, longest), np.int64), np.empty((2, 2 * longest), np.int64)
        written = _encode_words(
            *words,
            characters,
            byte_ids,
            mark,
            self.pairs,
            recent,
            cache,
            dropping,
            self.thresholds,
            states,
            gaps,
            np.full(2, NEVER),
            room,
            queue,
            out,
            lengths,
        )
        return out[:written].copy(), lengths


@compiled
def _slot_of_pair(key, size):  # pragma: no cover - compiled
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(24)) & (size - 1)


@compiled
def _fill_pairs(pairs, sides, merged):  # pragma: no cover - compiled
    """Open addressing: the pair, and its rank with the id that it becomes. Of a pair given twice the last counts."""
    size = len(pairs)
    for rank in range(len(sides)):
        key = (sides[rank, 0] << 32) | sides[rank, 1]
        slot = _slot_of_pair(key, size)
        while pairs[slot, 0] != -1 and pairs[slot, 0] != key:
            slot = (slot + 1) & (size - 1)
        pairs[slot, 0] = key
        pairs[slot, 1] = (np.int64(rank) << 32) | merged[rank]


@compiled
def _merge_of(left, right, pairs, recent):  # pragma: no cover - compiled
    """Rank and new id of a pair, -1 if it is none; the few that most words need are in `recent`."""
    key = (np.int64(left) << 32) | np.int64(right)
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    line = np.int64(mixed >> np.uint64(40)) & (len(recent) - 1)
    if recent[at(line), 0] == key:
        return recent[at(line), 1]
    slot, found = np.int64(mixed >> np.uint64(24)) & (len(pairs) - 1), np.int64(-1)
    while pairs[at(slot), 0] != -1:
        if pairs[at(slot), 0] == key:
            found = pairs[at(slot), 1]
            break
        slot = (slot + 1) & (len(pairs) - 1)
    recent[at(line), 0], recent[at(line), 1] = key, found
    return found


@compiled
def _draw(state, gap, thresholds):  # pragma: no cover - compiled
    """One random number (splitmix64): so many more candidates are kept, and whether the next is dropped."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    value = (state[0] ^ (state[0] >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    low = np.int64(thresholds[at(np.int64(value >> np.uint64(56)))])
    while low < len(thresholds) - 256 and value < thresholds[at(256 + low)]:
        low += 1
    gap[0] += low
    gap[1] = 0 if low == len(thresholds) - 256 else 1


@compiled
def _put(queue, count, key, is_heap):  # pragma: no cover - compiled
    """Add a key to a queue of `count`: a short one is in no order, and searched; a long one is a binary heap."""
    place = count
    while is_heap and place > 0:
        parent = (place - 1) >> 1
        if queue[at(parent)] < key:
            break
        queue[at(place)] = queue[at(parent)]
        place = parent
    queue[at(place)] = key
    return count + 1


@compiled
def _take(queue, count, is_heap):  # pragma: no cover - compiled
    """Take the smallest of `count` keys."""
    count -= 1
    key = queue[at(count)]
    smallest, place = queue[0], 0
    if is_heap:
        while True:
            child = 2 * place + 1
            if child >= count:
                break
            if child + 1 < count and queue[at(child + 1)] < queue[at(child)]:
                child += 1
            if key < queue[at(child)]:
                break
            queue[at(place)] = queue[at(child)]
            place = child
    else:
        for other in range(1, count + 1):
            less = queue[at(other)] < smallest
            smallest = queue[at(other)] if less else smallest
            place = other if less else place
    queue[at(place)] = key
    return smallest


@compiled
def _merge(room, queue, size, pairs, recent, thresholds, state, gap):  # pragma: no cover - compiled
    """Merge the `size` symbols in `room[0]`; what is left is in its first places. Returns its number and how many
    candidates were taken."""
    symbols, following, before, candidate = room[0], room[1], room[2], room[3]
    waiting, dropped, is_heap = queue[0], queue[1], size > LONG_WORD
    count, aside, taken = 0, 0, 0
    for place in range(size):
        following[at(place)] = place + 1
        before[at(place)] = place - 1
        candidate[at(place)] = -1
        if place + 1 < size:
            found = _merge_of(symbols[at(place)], symbols[at(place + 1)], pairs, recent)
            candidate[at(place)] = found
            if found >= 0:
                count = _put(waiting, count, (found >> 32 << 32) | place, is_heap)
    while count:
        top = _take(waiting, count, is_heap)
        count -= 1
        taken += 1
        while gap[0] == 0 and gap[1] == 0:
            _draw(state, gap, thresholds)
        if gap[0] == 0:
            gap[1] = 0
            dropped[at(aside)] = top
            aside += 1
            continue
        gap[0] -= 1
        while aside:
            aside -= 1
            count = _put(waiting, count, dropped[at(aside)], is_heap)
        place = top & _LOW
        found = candidate[at(place)]
        if found < 0 or found >> 32 != top >> 32:
            continue  # of a pair that is no more: it was thrown for all the same, as `tokenizers` does
        gone = following[at(place)]
        after = following[at(gone)]
        symbols[at(place)] = found & _LOW
        following[at(place)] = after
        candidate[at(gone)] = -1
        candidate[at(place)] = -1
        if after < size:
            before[at(after)] = place
            found = _merge_of(symbols[at(place)], symbols[at(after)], pairs, recent)
            candidate[at(place)] = found
            if found >= 0:
                count = _put(waiting, count, (found >> 32 << 32) | place, is_heap)
        previous = before[at(place)]
        if previous >= 0:
            found = _merge_of(symbols[at(previous)], symbols[at(place)], pairs, recent)
            candidate[at(previous)] = found
            if found >= 0:
                count = _put(waiting, count, (found >> 32 << 32) | previous, is_heap)
    place, left = 0, 0
    while place < size:
        symbols[at(left)] = symbols[at(place)]
        left += 1
        place = following[at(place)]
    return left, taken


@compiled
def _eight(data, start, length):  # pragma: no cover - compiled
    """Up to eight bytes of a word as one number."""
    value = np.uint64(0)
    for byte in range(8):
        value |= np.uint64(data[at(start + byte)]) << np.uint64(8 * byte)
    if length < 8:
        value &= (np.uint64(1) << np.uint64(8 * max(length, 0))) - np.uint64(1)
    return value


@compiled
def _symbols(data, start, end, characters, byte_ids, symbols, size):  # pragma: no cover - compiled
    """The ids of a word's characters, or of the bytes of those that have none; added after the first `size`."""
    place = start
    while place < end:
        first = np.int64(data[at(place)])
        if first < 0x80:
            width, point = 1, first
        elif first < 0xE0:
            width, point = 2, (first & 0x1F) << 6 | (np.int64(data[at(place + 1)]) & 0x3F)
        elif first < 0xF0:
            width = 3
            point = (
                (first & 0x0F) << 12
                | (np.int64(data[at(place + 1)]) & 0x3F) << 6
                | (np.int64(data[at(place + 2)]) & 0x3F)
            )
        else:
            width = 4
            point = (first & 0x07) << 18 | (np.int64(data[at(place + 1)]) & 0x3F) << 12
            point |= (np.int64(data[at(place + 2)]) & 0x3F) << 6 | (np.int64(data[at(place + 3)]) & 0x3F)
        number = np.int64(characters[at(point)])
        if number >= 0:
            symbols[at(size)] = number
            size += 1
        else:
            for byte in range(place, place + width):
                number = np.int64(byte_ids[at(data[at(byte)])])
                if number >= 0:
                    symbols[at(size)] = number
                    size += 1
        place += width
    return size


@compiled
def _encode_words(
    data, ends, counts, marked, characters, byte_ids, mark, pairs, recent, cache, dropping, thresholds, states, gaps,
    no_gap, room, queue, out, lengths,
):  # fmt: skip  # pragma: no cover - compiled
    shift = np.uint64(64)
    while (np.uint64(1) << (np.uint64(64) - shift)) < np.uint64(len(cache)):
        shift -= np.uint64(1)
    written, word, start = np.int64(0), np.int64(0), np.int64(0)
    for text in range(len(counts)):
        begun = written
        state, gap = (states[text : text + 1], gaps[text]) if dropping else (states, no_gap)
        for number in range(counts[text]):
            end = ends[at(word)]
            word += 1
            size = end - start
            first = number == 0 and marked[text]
            if size == 1 and not first:
                identity = np.int64(characters[at(data[at(start)])])
                identity = identity if identity >= 0 else np.int64(byte_ids[at(data[at(start)])])
                if identity >= 0:
                    out[at(written)] = identity
                    written += 1
                start = end
                continue
            no_gap[0] = NEVER
            done = False
            if size <= CACHED_BYTES and not first:
                one, two, three, four = _eight(data, start, size), np.uint64(0), np.uint64(0), np.uint64(0)
                if size > 8:
                    two = _eight(data, start + 8, size - 8)
                    if size > 16:
                        three = _eight(data, start + 16, size - 16)
                        if size > 24:
                            four = _eight(data, start + 24, size - 24)
                slot = one * np.uint64(0x9E3779B97F4A7C15) ^ two * np.uint64(0xC2B2AE3D27D4EB4F)
                slot ^= three * np.uint64(0x165667B19E3779F9) ^ four * np.uint64(0x27D4EB2F165667C5)
                slot = (slot ^ (slot >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
                line = cache[at(slot >> shift)]
                about = np.int64(line[4])
                known = line[0] == one and line[1] == two and line[2] == three and line[3] == four
                if not known or about & 0xFF != size:
                    left = _symbols(data, start, end, characters, byte_ids, room[0], 0)
                    left, taken = _merge(room, queue, left, pairs, recent, thresholds, states, no_gap)
                    line[0], line[1], line[2], line[3] = one, two, three, four
                    _remember(line, size, room[0], left, taken)
                    about = np.int64(line[4])
                count, needed = about >> 8 & 0xFF, about >> 16
                while dropping and gap[0] < needed and gap[1] == 0:
                    _draw(state, gap, thresholds)
                if count <= CACHED_IDS and (gap[0] >= needed or not dropping):
                    if dropping:
                        gap[0] -= needed
                    for place in range(count):
                        out[at(written + place)] = np.uint32(line[at(5 + (place >> 1))] >> np.uint64(32 * (place & 1)))
                    written += count
                    done = True
            if not done:
                left = 0
                if first:
                    room[0, 0] = mark
                    left = 1
                left = _symbols(data, start, end, characters, byte_ids, room[0], left)
                left = _merge(room, queue, left, pairs, recent, thresholds, state, gap)[0]
                for place in range(left):
                    out[at(written + place)] = room[0, at(place)]
                written += left
            start = end
        lengths[text] = written - begun
    return written


@compiled
def _remember(line, size, ids, count, taken):  # pragma: no cover - compiled
    """Keep what a word becomes: its ids, if they are few enough, and how many candidates were taken."""
    line[4] = np.uint64(size | min(count, CACHED_IDS + 1) << 8 | taken << 16)
    line[5], line[6], line[7] = np.uint64(0), np.uint64(0), np.uint64(0)
    if count <= CACHED_IDS:
        for place in range(count):
            line[at(5 + (place >> 1))] |= np.uint64(ids[place]) << np.uint64(32 * (place & 1))
