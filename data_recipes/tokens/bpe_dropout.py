"""BPE-dropout (Provilkov et al. 2020) that gives the same ids every time.

`tokenizers` draws its dropout from the thread's own random numbers, which nobody can seed. Here the merges are
done again, with numbers that follow from the build's seed and the text, so that a document is cut up in the
same way whenever and wherever it is tokenised. Normaliser, pre-tokeniser and vocabulary are the tokenizer's.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from data_recipes.errors import DataError
from data_recipes.ordering import seed_of
from data_recipes.reading.documents import LongText, chunks_of
from data_recipes.tokens.seams import seams_of

PROBE = (
    "The price rose from 1,024.5 to 98765;  naïve café 天地玄黄，宇宙洪荒。 🙂\n\tdef f(x):\n        return x ** 2\n"
)


class DropoutEncoder:
    """Encodes with each possible merge left out, at each step, with chance `rate`."""

    name = "seeded BPE-dropout"

    def __init__(self, backend: Any, *, rate: float, seed: int) -> None:
        if not 0 < rate < 1:
            raise DataError(f"BPE-dropout {rate}; expected a rate above 0 and below 1.")
        self.backend = backend
        self.rate = rate
        self.seed = seed
        seams = seams_of(backend)
        self.seams = seams if seams is not None and seams.between_words else None
        model = json.loads(backend.to_str())["model"]
        if model["type"] != "BPE":
            raise DataError(f"BPE-dropout needs a BPE tokenizer; this one is {model['type']}.")
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise DataError("BPE-dropout: vocabularies with word-end or continuation marks are not supported.")
        self.vocabulary: dict[str, int] = model["vocab"]
        self.byte_fallback = bool(model.get("byte_fallback"))
        self.unknown = self.vocabulary.get(model.get("unk_token") or "")
        pairs = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        left = np.array([self.vocabulary[first] for first, _ in pairs], dtype=np.int64)
        right = np.array([self.vocabulary[second] for _, second in pairs], dtype=np.int64)
        merged = np.array([self.vocabulary[first + second] for first, second in pairs], dtype=np.int64)
        self.keys, self.ranks = _hash_table((left << 32) | right)
        self.merged = merged
        if self._ids(PROBE, 0.0, 0)[0].tolist() != backend.encode(PROBE, add_special_tokens=False).ids:
            raise DataError("BPE-dropout: without dropout the ids are not this tokenizer's own; it is not supported.")

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one after the other (uint32) and the number of ids of each (int64)."""
        ids = [np.concatenate([np.empty(0, np.uint32), *self.encode_long(text)]) for text in texts]
        lengths = np.array([len(one) for one in ids], dtype=np.int64)
        return np.concatenate(ids) if ids else np.empty(0, np.uint32), lengths

    def encode_long(self, text: str | LongText) -> Iterator[np.ndarray]:
        """The ids of one document, one stretch after the other: the random numbers continue from part to part."""
        digest = hashlib.blake2b()
        for chunk in chunks_of(text):
            digest.update(chunk.encode())
        state = seed_of(self.seed, digest.hexdigest())
        for part in [str(text)] if self.seams is None else self.seams.parts(chunks_of(text)):
            ids, state = self._ids(part, self.rate, state)
            yield ids

    def check(self, texts: list[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Nothing to compare with: `tokenizers`' own dropout differs every time. Decoding is tested instead."""

    def _ids(self, text: str, rate: float, state: int) -> tuple[np.ndarray, int]:
        normalized = self.backend.normalizer.normalize_str(text) if self.backend.normalizer else text
        if self.backend.pre_tokenizer:
            words = [word for word, _ in self.backend.pre_tokenizer.pre_tokenize_str(normalized)]
        else:
            words = [normalized]
        symbols: list[int] = []
        starts = [0]
        for word in words:
            for character in word:
                self._append(character, symbols)
            starts.append(len(symbols))
        return _merge_words(
            np.array(symbols, dtype=np.int64),
            np.array(starts, dtype=np.int64),
            self.keys,
            self.ranks,
            self.merged,
            np.uint64(min(int(rate * 2**64), 2**64 - 1)),
            np.uint64(state),
        )

    def _append(self, character: str, symbols: list[int]) -> None:
        found = self.vocabulary.get(character)
        if found is not None:
            symbols.append(found)
        elif self.byte_fallback:
            symbols += [self.vocabulary[f"<0x{byte:02X}>"] for byte in character.encode()]
        elif self.unknown is not None:
            symbols.append(self.unknown)


def _hash_table(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An open-addressing table of merge pairs: keys (-1: empty) and their ranks."""
    size = 1 << max(4, int(2 * len(keys) + 1).bit_length())
    table = np.full(size, -1, dtype=np.int64)
    ranks = np.full(size, -1, dtype=np.int64)
    _fill(keys, table, ranks)
    return table, ranks


@numba.njit(cache=True, nogil=True, inline="always")
def _slot(key, size):  # pragma: no cover - compiled
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & (size - 1)


@numba.njit(cache=True, nogil=True)
def _fill(keys, table, ranks):  # pragma: no cover - compiled
    for rank in range(len(keys)):
        slot = _slot(keys[rank], len(table))
        while table[slot] != -1 and table[slot] != keys[rank]:
            slot = (slot + 1) & (len(table) - 1)
        if table[slot] == -1:
            table[slot] = keys[rank]
            ranks[slot] = rank


@numba.njit(cache=True, nogil=True)
def _rank(left, right, table, ranks):  # pragma: no cover - compiled
    key = (left << 32) | right
    slot = _slot(key, len(table))
    while table[slot] != -1:
        if table[slot] == key:
            return ranks[slot]
        slot = (slot + 1) & (len(table) - 1)
    return -1


@numba.njit(cache=True, nogil=True)
def _merge_words(symbols, starts, table, ranks, merged, drop_below, state):  # pragma: no cover - compiled
    out = np.empty(len(symbols), dtype=np.uint32)
    written = 0
    for number in range(len(starts) - 1):
        word = symbols[starts[number] : starts[number + 1]].copy()
        size = len(word)
        while size > 1:
            best = -1
            place = -1
            for index in range(size - 1):
                rank = _rank(word[index], word[index + 1], table, ranks)
                if rank < 0:
                    continue
                if drop_below > 0:
                    state += np.uint64(0x9E3779B97F4A7C15)
                    value = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                    if (value ^ (value >> np.uint64(31))) < drop_below:
                        continue
                if best < 0 or rank < best:
                    best = rank
                    place = index
            if place < 0:
                break
            word[place] = merged[best]
            for index in range(place + 1, size - 1):
                word[index] = word[index + 1]
            size -= 1
        for index in range(size):
            out[written + index] = word[index]
        written += size
    return out[:written], state
