"""The back ends that turn texts into ids: the fastest one whose ids are those of `tokenizers`, checked every time."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from data_recipes.errors import DataError, first_line
from data_recipes.reading.documents import LongText
from data_recipes.reading.text_columns import ArrowTexts, starts_and_content
from data_recipes.tokens.bpe_dropout import DropoutEncoder
from data_recipes.tokens.merges import Merges
from data_recipes.tokens.probes import Mismatch, probes_of, sample_places
from data_recipes.tokens.seams import BYTE, members
from data_recipes.tokens.tokenizer import LoadedTokenizer
from data_recipes.tokens.words import MARK_RUNS, WHOLE, digits_of, form_of, is_digit_cut

SLOW_DROPOUT = (
    "BPE-dropout: the words of this tokenizer's form are made by tokenizers, under the interpreter's lock; "
    "docs/data.md has the forms for which that is fast"
)


class Encoder(Protocol):
    """Ids of all texts one after the other (uint32) and the number of ids of each (int64)."""

    @property
    def name(self) -> str:
        """As manifests and notes have it."""
        ...

    @property
    def reference(self) -> "Encoder":
        """The slower one that gives the same ids, for a unit for which this one is wrong."""
        ...

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode without special tokens."""
        ...

    def encode_long(self, text: str | LongText) -> Iterator[np.ndarray]:
        """The ids of one document, one stretch after the other."""
        ...

    def check(self, texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Compare a sample of what was encoded with `tokenizers`; `Mismatch` when it differs."""
        ...


class _ByParts(ABC):
    """Encodes a long document part by part, cut where the ids are those of the whole."""

    tokenizer: LoadedTokenizer

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]: ...

    def encode_long(self, text: str | LongText) -> Iterator[np.ndarray]:
        for extra, part in self.tokenizer.parts(text):
            yield self.encode([part])[0][extra:]


class HuggingFaceEncoder(_ByParts):
    """`tokenizers`: the reference."""

    name = "tokenizers"

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        self.tokenizer = tokenizer

    @property
    def reference(self) -> "HuggingFaceEncoder":
        return self

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return self.tokenizer.encode(texts)

    def check(self, texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Nothing to do: this is what the others are compared with."""


class _Compared(_ByParts):
    """A back end that a sample of every unit is encoded by twice: the other time by `tokenizers`."""

    @property
    def reference(self) -> HuggingFaceEncoder:
        return HuggingFaceEncoder(self.tokenizer)

    def check(self, texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        ends = np.cumsum(lengths)
        chosen = list(sample_places(texts))
        if chosen:
            own = np.concatenate([ids[ends[place] - lengths[place] : ends[place]] for place in chosen])
            self._compare([texts[place] for place in chosen], own, lengths[chosen])

    def _compare(self, texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        if not texts:
            return
        reference, reference_lengths = self.tokenizer.encode(texts)
        if not (np.array_equal(reference, ids) and np.array_equal(reference_lengths, lengths)):
            ends, own_ends = np.cumsum(reference_lengths), np.cumsum(lengths)
            same = (
                np.array_equal(reference[end - length : end], ids[own_end - own : own_end])
                for end, length, own_end, own in zip(ends, reference_lengths, own_ends, lengths, strict=True)
            )
            differing = texts[list(same).index(False)]
            raise Mismatch(f"its ids differ from those of tokenizers for {differing[:40]!r}")


class GigatokenEncoder(_Compared):
    """gigatoken, which does byte-level BPE, and BPE with byte fallback where nothing cuts the text into words.

    It is given the tokenizer without its control tokens (their spelling in a text is ordinary text here), and without
    the rule that sets digits apart where that rule changes no id.
    """

    name = "gigatoken"

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        import gigatoken

        self.tokenizer = tokenizer
        description = json.loads(tokenizer.backend.to_str())
        description["added_tokens"] = [token for token in description["added_tokens"] if not token["special"]]
        description["pre_tokenizer"] = without_digit_cuts(description)
        self.engine = gigatoken.Tokenizer.from_json(json.dumps(description))
        probes = probes_of(tokenizer)
        self._compare(probes, *self.encode(probes))

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        given = _as_awkward(texts.array) if isinstance(texts, ArrowTexts) else texts
        # One thread: the units are what runs in parallel.
        layout = self.engine.encode_batch(given, parallel=False).layout
        offsets = np.asarray(layout.offsets.data, dtype=np.int64)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
        return ids, np.diff(offsets)


class CompiledEncoder(_Compared):
    """Our own words and merges, for byte fallback: also with words or digits cut, which gigatoken does not do."""

    name = "compiled BPE"

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        self.tokenizer = tokenizer
        description = json.loads(tokenizer.backend.to_str())
        if description["model"].get("ignore_merges"):
            raise DataError("whole words that are tokens are not looked up.")
        self.merges = Merges(description["model"])
        form = form_of(description, self.merges)
        if form is None:
            raise DataError("its normaliser and pre-tokenizer are of no known form.")
        self.form = form.in_words(description["model"])
        probes = probes_of(tokenizer)
        self._compare(probes, *self.encode(probes))

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return self.merges.ids(
            self.form.words([text.encode() for text in texts]),
            self.form.characters,
            self.form.byte_ids,
            mark=self.form.mark,
        )


def without_digit_cuts(description: dict[str, Any]) -> dict[str, Any] | None:
    """The pre-tokenizer of a tokenizer, less rules at its end that only set digits apart, if no id depends on them.

    None does where no merge has a digit on either side, and none has a byte: nothing ever joins a digit, cut or not.
    """
    cutters = members(description["pre_tokenizer"], "pretokenizers")
    model = description["model"]
    left = list(cutters)
    while left and is_digit_cut(left[-1]):
        left.pop()
    digits = {chr(point) for one in cutters[len(left) :] for point in digits_of(one)}
    merges = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model.get("merges", ()))
    if (
        len(left) == len(cutters)
        or model["type"] != "BPE"
        or model.get("ignore_merges")
        or any(BYTE.fullmatch(side) or not digits.isdisjoint(side) for merge in merges for side in merge)
    ):
        return description["pre_tokenizer"]
    return {"type": "Sequence", "pretokenizers": left} if len(left) > 1 else (left[0] if left else None)


def _as_awkward(array: pa.LargeStringArray) -> Any:
    """A string array in the form that gigatoken takes, over the same memory."""
    import awkward

    starts, content = starts_and_content(array)
    layout = awkward.contents.ListOffsetArray(
        awkward.index.Index64(starts),
        awkward.contents.NumpyArray(content, parameters={"__array__": "char"}),
        parameters={"__array__": "string"},
    )
    return awkward.Array(layout)


def choose_encoder(tokenizer: LoadedTokenizer, *, dropout: float, seed: int) -> tuple[Encoder, str | None]:
    """The encoder for a build, and why it is not a fast one, if it is not."""
    if dropout:
        encoder = DropoutEncoder(tokenizer.backend, rate=dropout, seed=seed)
        return encoder, None if encoder.form is not None else SLOW_DROPOUT
    refused: list[str] = []
    candidates: list[Encoder] = []
    for back_end in (GigatokenEncoder, CompiledEncoder):
        try:
            candidates.append(back_end(tokenizer))
        except Exception as error:  # gigatoken refuses tokenizers that it does not support in many ways
            refused.append(f"not {back_end.name}: {first_line(error):.160}")
        if candidates and not getattr(tokenizer.backend.model, "byte_fallback", False):
            break
    if candidates:
        return max(candidates, key=_speed), None
    return HuggingFaceEncoder(tokenizer), f"tokenised with tokenizers, {'; '.join(refused)}"


def _speed(encoder: Encoder) -> int:
    """Byte fallback with words cut is ours, the rest gigatoken's, as `benchmarks/tokenizers_speed.py` has it."""
    if isinstance(encoder, CompiledEncoder):
        return 2 if encoder.merges.byte_ids.min() >= 0 and encoder.form.rule not in (WHOLE, MARK_RUNS) else 0
    return 1
