"""Sequence classifiers of transformers as scorers of documents: found and checked before work begins, loaded with the
first batch, and giving a document the same numbers whatever others it is scored with.

A matrix product may round differently in another shape. So each document is scored in a shape that only its own length
determines: padded to the next of a few lengths, in a batch of as many rows as that length always has, filled up with
copies where documents are lacking.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_recipes.errors import DataError, first_line
from data_recipes.files import sha256_once
from data_recipes.manifest import fingerprint_of
from data_recipes.places import local_folder

WANTED_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
SHORTEST = 32
"""Tokens of the shortest shape; each longer one has twice as many, up to the most that are read."""
CHARACTERS_A_TOKEN = 64
"""What lies behind so many characters for each token that is read is cut off before the tokenizer sees it."""


@dataclass(frozen=True)
class Encoder:
    """A sequence classifier on this disk. `fingerprint` names its content: the Hub's commit, or hashes of its files."""

    name: str
    folder: Path
    fingerprint: str
    config: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        """The names of its outputs, in their order."""
        names = self.config.get("id2label") or {number: f"LABEL_{number}" for number in range(2)}
        return [names[number] for number in sorted(names, key=int)]


def find_encoder(name: str, revision: str | None = None) -> Encoder:
    """A classifier by its folder, or by its Hub id at a revision, fetched if it is not in the cache.

    `DataError` where it cannot be had, is no sequence classifier, or lacks weights or tokenizer.
    """
    folder = local_folder(name, "model")
    if folder is None:
        folder = _from_hub(name, revision)
        fingerprint = f"{name}@{folder.name}"
    elif revision is not None:
        raise DataError(f"{name}: a folder has no revision; leave `revision` out.")
    else:
        files = sorted(path for pattern in WANTED_FILES for path in folder.glob(pattern)) if folder.is_dir() else []
        fingerprint = fingerprint_of({path.name: sha256_once(path) for path in files})
    return Encoder(name, folder, fingerprint, _checked_config(name, folder))


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(WANTED_FILES)))
    except Exception as error:  # of several libraries: no network, no such id or revision, a form to fill in first
        at = f" at {revision}" if revision else ""
        raise DataError(
            f"{name}{at}: cannot be fetched ({first_line(error)}). Where there is a network, `hf download {name}` puts "
            "it into the cache; a folder with a copy does as well."
        ) from error


def _checked_config(name: str, folder: Path) -> dict[str, Any]:
    expected = "expected a sequence classifier as transformers saves it (config.json, *.safetensors, tokenizer files)"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: no config.json that can be read; {expected}.") from error
    kinds = [kind for kind in config.get("architectures") or [] if isinstance(kind, str)]
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise DataError(f"{name}: holds {', '.join(kinds) or 'no named architecture'}; {expected}.")
    if not any(folder.glob("*.safetensors")):
        raise DataError(
            f"{name}: no *.safetensors; {expected}. Other formats of weights can run code and are not read."
        )
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt", "tokenizer.model")):
        raise DataError(f"{name}: no tokenizer; {expected}.")
    return config


class LoadedEncoder:
    """A classifier in memory, on a GPU where there is one."""

    def __init__(
        self, encoder: Encoder, *, max_tokens: int, batch_tokens: int, dtype: Literal["float32", "bfloat16"]
    ) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.name = encoder.name
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
            model = AutoModelForSequenceClassification.from_pretrained(
                encoder.folder, dtype=getattr(torch, dtype), use_safetensors=True
            )
        except Exception as error:
            raise DataError(f"{encoder.name}: cannot be loaded ({first_line(error)}).") from error
        self.check_tokenizer()
        self.model = model.to(self.device).eval()
        room = getattr(model.config, "max_position_embeddings", None) or max_tokens
        self.max_tokens = min(max_tokens, room, self.tokenizer.model_max_length)
        self.batch_tokens = batch_tokens

    def check_tokenizer(self) -> None:
        if self.tokenizer.pad_token is None:
            raise DataError(
                f"{self.name}: its tokenizer has no padding token, so it cannot score several texts at once."
            )

    def encode(self, texts: Sequence[Any]) -> Mapping[str, list[list[int]]]:
        """What the model is given for each text, at most `max_tokens` of it."""
        most = self.max_tokens * CHARACTERS_A_TOKEN
        return self.tokenizer([text[:most] for text in texts], truncation=True, max_length=self.max_tokens)

    def logits(self, texts: Sequence[Any]) -> np.ndarray:
        """float32 [texts, labels]. `DataError` where some are NaN."""
        encoded = self.encode(texts)
        by_length: dict[int, list[int]] = {}
        for number, ids in enumerate(encoded["input_ids"]):
            by_length.setdefault(self._padded(len(ids)), []).append(number)
        result = np.zeros((len(texts), self.model.config.num_labels), dtype=np.float32)
        for length, numbers in sorted(by_length.items()):
            rows = max(1, self.batch_tokens // length)
            for start in range(0, len(numbers), rows):
                some = numbers[start : start + rows]
                filled = some + some[-1:] * (rows - len(some))
                result[some] = self._run({key: [encoded[key][row] for row in filled] for key in encoded}, length)[
                    : len(some)
                ]
        if np.isnan(result).any():
            raise DataError(f"{self.name}: its outputs are NaN. Is the dtype too narrow, or the file damaged?")
        return result

    def _padded(self, tokens: int) -> int:
        length = SHORTEST
        while length < tokens:
            length *= 2
        return min(length, self.max_tokens)

    def _run(self, rows: dict[str, list[list[int]]], length: int) -> np.ndarray:
        import torch

        padded = self.tokenizer.pad(rows, padding="max_length", max_length=length, return_tensors="pt")
        with torch.inference_mode():
            return self.model(**padded.to(self.device)).logits.float().cpu().numpy()


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the labels, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
