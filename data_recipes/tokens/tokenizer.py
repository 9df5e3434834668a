"""Text to ids: what a build needs of a tokenizer, without importing transformers.

Documents are encoded without special tokens, and the tokenizer's own control tokens, where a text happens to
contain their spelling, are encoded as the ordinary text they are: only the build sets EOS.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import DataError
from data_recipes.places import local_folder
from data_recipes.reading.documents import CHUNK_CHARACTERS, LongText, chunks_of
from data_recipes.tokens.seams import Seams, seams_of

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class LoadedTokenizer:
    """`backend` is a `tokenizers.Tokenizer`; ids are below `vocab_size`."""

    backend: Any
    location: str
    fingerprint: str
    vocab_size: int
    eos_id: int
    eos_token: str
    bos_id: int | None
    pad_id: int | None

    def describe(self) -> dict[str, Any]:
        """For manifests."""
        return {
            "fingerprint": self.fingerprint,
            "vocab_size": self.vocab_size,
            "eos_id": self.eos_id,
            "eos_token": self.eos_token,
            "bos_id": self.bos_id,
            "pad_id": self.pad_id,
        }

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one after the other (uint32) and the number of ids of each (int64)."""
        flat = array("I")
        lengths = np.zeros(len(texts), dtype=np.int64)
        for group in self._groups(texts):
            encodings = self.backend.encode_batch_fast([part for _, _, part in group], add_special_tokens=False)
            for (place, extra, _), encoding in zip(group, encodings, strict=True):
                ids = encoding.ids  # a new list each time: made, copied and freed one by one, they stay cached
                flat.fromlist(ids[extra:] if extra else ids)
                lengths[place] += len(ids) - extra
        return np.array(flat, dtype=np.uint32), lengths

    def _groups(self, texts: Sequence[str]) -> Iterator[list[tuple[int, int, str]]]:
        """Parts of texts to encode in one call (`tokenizers` takes 200 bytes a character): text, extra ids, part."""
        group: list[tuple[int, int, str]] = []
        held = 0
        for place, text in enumerate(texts):
            for extra, part in self.parts(text):
                group.append((place, extra, part))
                held += len(part)
                if held >= CHUNK_CHARACTERS:
                    yield group
                    group, held = [], 0
        if group:
            yield group

    @property
    def control_tokens(self) -> list[str]:
        """Their spelling in a text is ordinary text."""
        return [token.content for token in self.backend.get_added_tokens_decoder().values() if token.special]

    @cached_property
    def seams(self) -> Seams | None:
        """Where a long text can be cut; None: nowhere."""
        return seams_of(self.backend)

    def parts(self, text: str | LongText) -> Iterator[tuple[int, str]]:
        """A long text in parts whose ids follow each other in the text's, less so many of the first of each."""
        if len(text) <= CHUNK_CHARACTERS or self.seams is None:
            yield 0, str(text)
            return
        for number, part in enumerate(self.seams.parts(chunks_of(text))):
            yield (self.seams.extra_ids if number else 0), part

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, as the tokenizer gives it back; EOS and BOS give nothing."""
        return str(self.backend.decode([int(token) for token in ids], skip_special_tokens=True))

    def locate(self, text: str, *, bos: bool) -> "LocatedTokens":
        """A document's ids, as a build stores them, and where in the text each of them begins."""
        before = [self.bos_id] if bos and self.bos_id is not None else []
        ids, begins = array("q", before), array("q", [0] * len(before))
        start = 0
        for extra, part in self.parts(text):
            encoding = self.backend.encode(part, add_special_tokens=False)
            ids.extend(encoding.ids[extra:])
            begins.extend(start + begin for begin, _ in encoding.offsets[extra:])
            start += len(part)
        ids.append(self.eos_id)
        begins.append(len(text))
        return LocatedTokens(text, np.array(ids, dtype=np.int64), np.array(begins, dtype=np.int64), len(before))

    def span_by_decoding(
        self, text: str, encoded: np.ndarray, start: int, end: int, *, ids: np.ndarray, bos: bool
    ) -> str | None:
        """As `LocatedTokens.span`, for ids that only dropout gives: by what they decode to."""
        whole = np.array([*[self.bos_id] * bos, *encoded.tolist(), self.eos_id], dtype=np.int64)
        if not np.array_equal(whole[start:end], ids) or len(self.decode(whole)) != len(text):
            return None
        # A character cut in two decodes to replacement signs at the end: it goes to the second span.
        first, last = (len(self.decode(whole[:edge]).rstrip("\ufffd")) for edge in (start, end))
        return text[first : len(text) if end >= len(whole) - 1 else last]


@dataclass(frozen=True)
class LocatedTokens:
    """A document: its ids (int64, closed by EOS), where each begins in the text, and how many come before the text."""

    text: str
    ids: np.ndarray
    begins: np.ndarray
    before: int

    def span(self, start: int, end: int, *, ids: np.ndarray) -> str | None:
        """The characters of the tokens `start` to `end`; None if their ids are not `ids`.

        Spans that follow each other follow each other in the text, without gap or overlap: a character whose
        bytes two spans share goes to the second.
        """
        if not np.array_equal(self.ids[start:end], ids):
            return None
        first = 0 if start <= self.before else int(self.begins[start])
        last = len(self.text) if end >= len(self.ids) - 1 else int(self.begins[end])
        return self.text[first:last]


def load_tokenizer(location: str | Path) -> LoadedTokenizer:
    """From a folder with `tokenizer.json`, or a Hub id. `DataError` without one, or without an EOS token."""
    from tokenizers import Tokenizer

    files = tokenizer_files(str(location))
    content = files["tokenizer.json"].read_bytes()
    try:
        backend: Any = Tokenizer.from_str(content.decode())
    except Exception as error:
        raise DataError(f"{files['tokenizer.json']}: not a usable tokenizer.json: {error!s:.200}") from error
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    # It only adds special tokens and trims offsets; a trace needs offsets that leave no character out.
    backend.post_processor = None
    # Its own dropout cannot be seeded: a build that wants any asks for it, and gets `bpe_dropout.py`.
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None
    config: dict[str, Any] = {}
    for name in reversed(TOKENIZER_FILES[1:]):
        if name in files:
            config.update({key: value for key, value in json.loads(files[name].read_text()).items() if value})
    ids = {name: _special_id(backend, config.get(f"{name}_token")) for name in ("eos", "bos", "pad")}
    eos_id = ids["eos"]
    if eos_id is None:
        raise DataError(
            f"{location}: the tokenizer has no EOS token, which must stand between documents. "
            "Set eos_token in tokenizer_config.json to a token of the vocabulary."
        )
    eos_token = str(backend.id_to_token(eos_id))
    identity = hashlib.sha256(content + b"\0" + eos_token.encode()).hexdigest()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    return LoadedTokenizer(
        backend=backend,
        location=str(location),
        fingerprint=identity,
        vocab_size=max(vocabulary.values()) + 1,
        eos_id=eos_id,
        eos_token=eos_token,
        bos_id=ids["bos"],
        pad_id=ids["pad"],
    )


def tokenizer_files(location: str) -> dict[str, Path]:
    """The files of a tokenizer in a folder, or on the Hub (or in its cache). `DataError` where there is none."""
    folder = local_folder(location, "tokenizer folder")
    if folder is not None and folder.is_dir():
        found = {name: folder / name for name in TOKENIZER_FILES if (folder / name).is_file()}
        if "tokenizer.json" not in found:
            raise DataError(f"{folder}: no tokenizer.json in it; give the folder of a fast (tokenizers) tokenizer.")
        return found
    if folder is not None:
        raise DataError(f"{folder}: a file; give the folder that holds tokenizer.json and tokenizer_config.json.")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found = {}
    for name in TOKENIZER_FILES:
        try:
            found[name] = Path(hf_hub_download(location, name))
        except LocalEntryNotFoundError as error:  # neither the Hub nor the cache: the repository may well exist
            if "tokenizer.json" in found:
                continue
            raise DataError(
                f"tokenizer '{location}': not a local folder, not in the cache, and the Hub cannot be reached. "
                "Give a folder that holds tokenizer.json."
            ) from error
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise DataError(
                f"tokenizer '{location}': neither a local folder nor available from the Hub "
                f"({type(error).__name__}). Give a folder that holds tokenizer.json."
            ) from error
    if "tokenizer.json" not in found:
        raise DataError(f"tokenizer '{location}': the Hub repository has no tokenizer.json.")
    return found


def _special_id(backend: Any, token: Any) -> int | None:
    if isinstance(token, dict):
        token = token.get("content")
    return backend.token_to_id(token) if isinstance(token, str) else None
