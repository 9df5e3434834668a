"""From a row back to its text: which documents, which of their tokens, and the very characters of those tokens.

The text comes from the source, read again; that it is the right one is proven by encoding it again and comparing
with the row's ids. Where the source is gone or has changed, the row's tokens are decoded instead, which is noted.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import DataError
from data_recipes.reading.opening import fetch_documents
from data_recipes.rows.layout import read_file_tables
from data_recipes.rows.reader import PackedRows
from data_recipes.tokens.bpe_dropout import DropoutEncoder
from data_recipes.tokens.tokenizer import LoadedTokenizer, LocatedTokens, load_tokenizer


def trace(folder: str | Path, row: int, *, text: bool = False) -> dict[str, Any]:
    """`{"row", "subset", "domain", "documents": [{"source", "file", "row", "start", "end", ...}]}` of one row.

    `start` and `end` count tokens of the document; its closing EOS is its last token. With `text=True` each
    document has `text`, the characters of these tokens, and `text_from`: `source` or, where that is
    not available, `tokens` (decoded).
    """
    return Tracer(folder).trace([row], text=text)[0]


def trace_rows(
    folder: str | Path,
    *,
    row: int | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    text: bool = False,
    tokenizer: str | None = None,
) -> list[dict[str, Any]]:
    """One row, or all rows of training step `step` of this phase, counted from 1 as in a run's metrics.jsonl: rows
    (step-1)*batch_size up to step*batch_size. `tokenizer`: where it is now, if not where it was."""
    if (row is None) == (step is None):
        raise DataError("give a row, or --step and --batch-size.")
    tracer = Tracer(folder, tokenizer=tokenizer)
    if row is not None:
        if not 0 <= row < tracer.rows.num_rows:
            raise DataError(f"{folder}: no row {row}; it has rows 0 to {tracer.rows.num_rows - 1}.")
        return tracer.trace([row], text=text)
    if batch_size is None or batch_size < 1:
        found = "no --batch-size" if batch_size is None else f"--batch-size {batch_size}"
        raise DataError(f"{found}; --step needs the rows of a step, 1 or more.")
    assert step is not None
    first = (step - 1) * batch_size
    if not 0 <= first < tracer.rows.num_rows:
        steps = -(-tracer.rows.num_rows // batch_size)
        raise DataError(f"{folder}: no step {step}; at {batch_size} rows a step it has steps 1 to {steps}.")
    return tracer.trace(range(first, min(first + batch_size, tracer.rows.num_rows)), text=text)


class Tracer:
    """One built phase, its sources opened as they are needed."""

    def __init__(self, folder: str | Path, *, tokenizer: str | None = None) -> None:
        self.rows = PackedRows(folder)
        self.tokenizer_location = tokenizer or self.rows.manifest["tokenizer"]["location"]
        self.tables = read_file_tables(self.rows.folder)
        self._tokenizer: LoadedTokenizer | None = None
        self._located: dict[tuple[int, int, int], LocatedTokens] = {}

    def trace(self, numbers: Sequence[int], *, text: bool) -> list[dict[str, Any]]:
        """What the function `trace` returns, for several rows: every file of a source is read once."""
        pieces = {number: self.rows.documents(number) for number in numbers}
        documents = self._documents([piece for row in pieces.values() for piece in row]) if text else None
        return [self._row(number, pieces[number], documents) for number in numbers]

    def _row(
        self, number: int, pieces: list[dict[str, int]], documents: dict[tuple[int, int, int], str] | None
    ) -> dict[str, Any]:
        batch = self.rows.rows(number, number + 1)
        subset = int(batch.subset_ids[0])
        shown = []
        place = 0
        for piece in pieces:
            table = self.tables[piece["source"]]
            document: dict[str, Any] = {
                "source": table["name"],
                "file": table["files"][piece["file"]],
                "row": piece["row"],
                "start": piece["start"],
                "end": piece["end"],
            }
            length = piece["end"] - piece["start"]
            if documents is not None:
                ids = batch.input_ids[0, place : place + length]
                document["text"], document["text_from"] = self._text(documents.get(_key(piece)), piece, ids)
            place += length
            shown.append(document)
        return {
            "row": number,
            "subset": self.rows.subset_names[subset],
            "domain": self.rows.subset_domains[subset],
            "padding": int(batch.padding[0]),
            "documents": shown,
        }

    def _documents(self, pieces: Sequence[dict[str, int]]) -> dict[tuple[int, int, int], str]:
        """The whole text of each piece's document, by numbers of source, file and row, where it is still there."""
        wanted: dict[tuple[int, int], set[int]] = {}
        for piece in pieces:
            wanted.setdefault((piece["source"], piece["file"]), set()).add(piece["row"])
        found = {}
        for (source_number, file_number), rows in wanted.items():
            entry = self.rows.manifest["sources"][source_number]
            texts = fetch_documents(entry, self.tables[source_number]["files"][file_number], rows)
            found.update({(source_number, file_number, row): text for row, text in texts.items()})
        return found

    @property
    def tokenizer(self) -> LoadedTokenizer:
        if self._tokenizer is None:
            loaded = load_tokenizer(self.tokenizer_location)
            if loaded.fingerprint != self.rows.manifest["tokenizer"]["fingerprint"]:
                raise DataError(
                    f"{self.tokenizer_location}: not the tokenizer that {self.rows.folder} was built with, or changed."
                )
            self._tokenizer = loaded
        return self._tokenizer

    @cached_property
    def _dropout(self) -> DropoutEncoder:
        rate = self.rows.manifest["config"]["bpe_dropout"]
        return DropoutEncoder(self.tokenizer.backend, rate=rate, seed=self.rows.manifest["seed"])

    def _text(self, whole: str | None, piece: dict[str, int], ids: np.ndarray) -> tuple[str, str]:
        span = None if whole is None else self._span(whole, piece, ids)
        return (self.tokenizer.decode(ids), "tokens") if span is None else (span, "source")

    def _span(self, whole: str, piece: dict[str, int], ids: np.ndarray) -> str | None:
        config = self.rows.manifest["config"]
        start, end = piece["start"], piece["end"]
        if not config["bpe_dropout"]:
            key = _key(piece)
            if key not in self._located:  # a long document has pieces in many rows
                self._located[key] = self.tokenizer.locate(whole, bos=config["bos"])
            return self._located[key].span(start, end, ids=ids)
        encoded = self._dropout.encode([whole])[0]
        return self.tokenizer.span_by_decoding(whole, encoded, start, end, ids=ids, bos=config["bos"])


def _key(piece: dict[str, int]) -> tuple[int, int, int]:
    return piece["source"], piece["file"], piece["row"]
