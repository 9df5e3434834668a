"""BPE-dropout (Provilkov et al. 2020) that gives the same ids every time.

`tokenizers` draws its dropout from the thread's own random numbers, which nobody can seed. Here the merges are
done again (`merges.py`: the same distribution), with numbers that follow from the build's seed and the text: the state
of a document's generator begins as the xxh3 of its UTF-8 under the seed, so that a document is cut up in the same way
whenever and wherever it is tokenised. Words are made in compiled code where the tokenizer's form is known
(`words.py`), else by the tokenizer itself.
"""

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import xxhash

from data_recipes.errors import DataError
from data_recipes.reading.documents import LongText, chunks_of
from data_recipes.tokens.merges import PADDING, Chance, Merges, Words
from data_recipes.tokens.probes import PROBES, Mismatch, sample_places
from data_recipes.tokens.seams import seams_of
from data_recipes.tokens.words import form_of


class DropoutEncoder:
    """Encodes with each possible merge left out, at each step, with chance `rate`."""

    def __init__(self, backend: Any, *, rate: float, seed: int, compiled_words: bool = True) -> None:
        if not 0 < rate < 1:
            raise DataError(f"BPE-dropout {rate}; expected a rate above 0 and below 1.")
        self.backend = backend
        self.rate = rate
        self.seed = seed
        seams = seams_of(backend)
        self.seams = seams if seams is not None and seams.between_words else None
        described = json.loads(backend.to_str())
        try:
            self.merges = Merges(described["model"], thresholds(rate))
        except DataError as error:
            raise DataError(f"BPE-dropout: {error}") from error
        self.form = form_of(described, self.merges) if compiled_words else None
        self.characters = self.merges.characters()
        described["model"]["ignore_merges"] = False  # as with dropout in `tokenizers`: a word is merged, not looked up
        self.plain = type(backend).from_str(json.dumps(described))
        self.plain.encode_special_tokens = True
        if self._differing(PROBES) is not None and self.form is not None:
            self.form = None
        if self._differing(PROBES[:1]) is not None:
            raise DataError("BPE-dropout: without dropout the ids are not this tokenizer's own; it is not supported.")

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one after the other (uint32) and the number of ids of each (int64)."""
        encoded = [text.encode() for text in texts]
        chance = self._chance([xxhash.xxh3_64_intdigest(one, self._seed) for one in encoded])
        return self._ids(texts, encoded, chance)

    def encode_long(self, text: str | LongText) -> Iterator[np.ndarray]:
        """The ids of one document, one stretch after the other: the random numbers continue from part to part."""
        digest = xxhash.xxh3_64(seed=self._seed)
        for chunk in chunks_of(text):
            digest.update(chunk.encode())
        chance = self._chance([digest.intdigest()])
        for part in [str(text)] if self.seams is None else self.seams.parts(chunks_of(text)):
            yield self._ids([part], [part.encode()], chance)[0]

    def without_dropout(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As `encode`, with every merge done."""
        return self._ids(texts, [text.encode() for text in texts], None)

    def check(self, texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Compare what a sample gives without dropout: `tokenizers`' own dropout differs every time."""
        differing = self._differing([texts[place] for place in sample_places(texts)])
        if self.form is not None and differing is not None:
            raise Mismatch(f"without dropout its ids differ from those of tokenizers for {differing[:40]!r}")

    def _differing(self, texts: Sequence[str]) -> str | None:
        """The first text whose ids without dropout are not the tokenizer's."""
        for text in texts:
            if self.without_dropout([text])[0].tolist() != self.plain.encode(text, add_special_tokens=False).ids:
                return text
        return None

    @property
    def name(self) -> str:
        return "seeded BPE-dropout" + ("" if self.form is not None else " on the words of tokenizers")

    @property
    def reference(self) -> "DropoutEncoder":
        return DropoutEncoder(self.backend, rate=self.rate, seed=self.seed, compiled_words=False)

    @property
    def _seed(self) -> int:
        return self.seed & 0xFFFFFFFFFFFFFFFF

    def _chance(self, states: list[int]) -> Chance:
        return Chance(np.array(states, dtype=np.uint64), np.zeros((len(states), 2), dtype=np.int64))

    def _ids(self, texts: Sequence[str], encoded: list[bytes], chance: Chance | None) -> tuple[np.ndarray, np.ndarray]:
        if self.form is not None:
            return self.merges.ids(
                self.form.words(encoded), self.form.characters, self.form.byte_ids, mark=self.form.mark, chance=chance
            )
        return self.merges.ids(self._words(texts), self.characters, self.merges.byte_ids, mark=-1, chance=chance)

    def _words(self, texts: Sequence[str]) -> Words:
        """The words of texts as the tokenizer itself makes them, each character by itself in Python."""
        words: list[bytes] = []
        counts = []
        for text in texts:
            normalized = self.backend.normalizer.normalize_str(text) if self.backend.normalizer else text
            if self.backend.pre_tokenizer:
                made = [word.encode() for word, _ in self.backend.pre_tokenizer.pre_tokenize_str(normalized)]
            else:
                made = [normalized.encode()]
            words += made
            counts.append(len(made))
        return Words(
            np.frombuffer(b"".join([*words, bytes(PADDING)]), dtype=np.uint8),
            np.cumsum(np.fromiter(map(len, words), np.int64, len(words))),
            np.array(counts, dtype=np.int64),
            np.zeros(len(texts), dtype=np.bool_),
        )


def thresholds(rate: float) -> np.ndarray:
    """Below which random number of 64 bits the next k + 1 candidates are kept: (1 - rate) ** (k + 1), in whole numbers.

    Before these, for each first byte of such a number: for how many k that byte alone decides it.
    """
    count = max(1, min(4_096, int(8 / rate)))
    kept, scale, table = 1 - Fraction(rate), 2**64, []
    power = scale
    for _ in range(count):
        power = min(power * kept.numerator // kept.denominator, scale - 1)
        table.append(power)
    sure = [sum((byte + 1) << 56 <= threshold for threshold in table) for byte in range(256)]
    return np.array(sure + table, dtype=np.uint64)
