"""The back ends that turn texts into ids: the fastest one whose ids are those of `tokenizers`, checked every time."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from data_recipes.errors import first_line
from data_recipes.reading.documents import LongText, chunks_of
from data_recipes.tokens.bpe_dropout import PROBE, DropoutEncoder
from data_recipes.tokens.tokenizer import LoadedTokenizer

# From each unit about so many characters of whole documents are encoded twice; `tokenizers` does 2 MB/s a core.
CHECKED_CHARACTERS = 8_000
PROBES = [
    PROBE,
    "  leading and trailing  \n\n\n\ttabs\t\t",
    "don't I'll we've they'RE 'tis",
    "x" * 300 + "0" * 300,
    "ﬁ Ａ１ é é ̈ \u200b\u200d\u3000。 नमस्ते สวัสดี مرحبا 👩‍👩‍👧‍👦 🇨🇳",
    "\r\n\r\nline\rend\x0b\x0c\x85\u2028\u2029",
    "a\x00b\x01\x7f\ufffd\U0010ffff",
    "1234567890 3.14159 1e-15 0x1F ½ ² ٣",
]


class Encoder(Protocol):
    """Ids of all texts one after the other (uint32) and the number of ids of each (int64)."""

    name: str

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode without special tokens."""
        ...

    def encode_long(self, text: str | LongText) -> Iterator[np.ndarray]:
        """The ids of one document, one stretch after the other."""
        ...

    def check(self, texts: list[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Compare a sample of what was encoded with `tokenizers`; `Mismatch` when it differs."""
        ...


class _ByParts(ABC):
    """Encodes a long document part by part, cut where the ids are those of the whole."""

    tokenizer: LoadedTokenizer

    @abstractmethod
    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]: ...

    def encode_long(self, text: str | LongText) -> Iterator[np.ndarray]:
        for extra, part in self.tokenizer.parts(text):
            yield self.encode([part])[0][extra:]


class HuggingFaceEncoder(_ByParts):
    """`tokenizers`: the reference."""

    name = "tokenizers"

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return self.tokenizer.encode(texts)

    def check(self, texts: list[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Nothing to do: this is what the others are compared with."""


class Mismatch(Exception):
    """gigatoken's ids differ from those of `tokenizers`."""


class GigatokenEncoder(_ByParts):
    """gigatoken, with a sample of every unit compared with `tokenizers`.

    It is given the tokenizer without its control tokens: their spelling in a text is ordinary text here.
    """

    name = "gigatoken"

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        import gigatoken

        self.tokenizer = tokenizer
        description = json.loads(tokenizer.backend.to_str())
        control = [token for token in description["added_tokens"] if token["special"]]
        description["added_tokens"] = [token for token in description["added_tokens"] if not token["special"]]
        self.engine = gigatoken.Tokenizer.from_json(json.dumps(description))
        probes = [*PROBES, *(f"a{token['content']}b {token['content']}" for token in control)]
        ids, lengths = self.encode(probes)
        self._compare(probes, ids, lengths)

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        # One thread: the units are what runs in parallel.
        layout = self.engine.encode_batch(texts, parallel=False).layout
        offsets = np.asarray(layout.offsets.data, dtype=np.int64)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
        return ids, np.diff(offsets)

    def check(self, texts: list[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        ends = np.cumsum(lengths)
        chosen = list(_sample(texts))
        if chosen:
            own = np.concatenate([ids[ends[place] - lengths[place] : ends[place]] for place in chosen])
            self._compare([texts[place] for place in chosen], own, lengths[chosen])

    def _compare(self, texts: list[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        if not texts:
            return
        reference, reference_lengths = self.tokenizer.encode(texts)
        if not (np.array_equal(reference, ids) and np.array_equal(reference_lengths, lengths)):
            differing = next(
                text for text in texts if not np.array_equal(self.tokenizer.encode([text])[0], self.encode([text])[0])
            )
            raise Mismatch(f"its ids differ from those of tokenizers for {differing[:40]!r}")


def _sample(texts: list[str]) -> Iterator[int]:
    """Documents from all over a batch, of `CHECKED_CHARACTERS` together, each of a quarter of that at most."""
    held = 0
    for place in range(0, len(texts), max(1, len(texts) // 16)):
        if len(texts[place]) <= CHECKED_CHARACTERS // 4:
            yield place
            held += len(texts[place])
        if held >= CHECKED_CHARACTERS:
            return


def sample_of(text: str | LongText) -> list[str]:
    """What a long document begins with, as texts short enough to be compared."""
    head = next(iter(chunks_of(text)))[:CHECKED_CHARACTERS]
    size = CHECKED_CHARACTERS // 4
    return [head[start : start + size] for start in range(0, len(head), size)]


def choose_encoder(tokenizer: LoadedTokenizer, *, dropout: float, seed: int) -> tuple[Encoder, str | None]:
    """The encoder for a build, and why it is not the fastest, if it is not."""
    if dropout:
        return DropoutEncoder(tokenizer.backend, rate=dropout, seed=seed), None
    try:
        return GigatokenEncoder(tokenizer), None
    except Mismatch as error:
        note = f"tokenised with tokenizers, not gigatoken: {error}"
    except Exception as error:  # the library refuses tokenizers that it does not support in many ways
        note = f"tokenised with tokenizers, not gigatoken: {first_line(error):.160}"
    return HuggingFaceEncoder(tokenizer), note
