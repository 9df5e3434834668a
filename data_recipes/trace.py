"""From a row back to its text: which documents, which of their tokens, and the very characters of those tokens.

The text comes from the source, read again; that it is the right one is proven by encoding it anew and comparing
with the row's ids. Where the source is gone or has changed, the row's tokens are decoded instead, and it says so.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.bpe_dropout import DropoutEncoder
from data_recipes.errors import DataError
from data_recipes.read_documents import read_parts
from data_recipes.reader import PackedRows
from data_recipes.row_files import read_file_tables
from data_recipes.source import Source
from data_recipes.source_files import Part, SourceFile
from data_recipes.tokenise import LoadedTokenizer, load_tokenizer


def trace(folder: str | Path, row: int, *, text: bool = False) -> dict[str, Any]:
    """`{"row", "subset", "domain", "documents": [{"source", "file", "row", "start", "end", ...}]}` of one row.

    `start` and `end` count tokens of the document; its closing EOS is its last token. With `text=True` each
    document has `text`, the characters of these tokens, and `text_from`: `source` or, where that is not to be
    had, `tokens` (decoded).
    """
    return Tracer(folder).row(row, text=text)


def trace_rows(
    folder: str | Path,
    *,
    row: int | None = None,
    step: int | None = None,
    batch_size: int | None = None,
    text: bool = False,
    tokenizer: str | None = None,
) -> list[dict[str, Any]]:
    """One row, or all rows of training step `step` of this phase, counted from 0: rows step*batch_size up to
    (step+1)*batch_size. `tokenizer`: where it is now, if not where the manifest says."""
    if (row is None) == (step is None):
        raise DataError("give a row, or --step and --batch-size.")
    tracer = Tracer(folder, tokenizer=tokenizer)
    if row is not None:
        return [tracer.row(row, text=text)]
    if batch_size is None or batch_size < 1:
        raise DataError(f"batch size {batch_size}; a step needs --batch-size, 1 or more rows.")
    assert step is not None
    first = step * batch_size
    if not 0 <= first < tracer.rows.num_rows:
        steps = -(-tracer.rows.num_rows // batch_size)
        raise DataError(f"{folder}: no step {step}; at {batch_size} rows a step it has steps 0 to {steps - 1}.")
    return [tracer.row(number, text=text) for number in range(first, min(first + batch_size, tracer.rows.num_rows))]


class Tracer:
    """One built phase, its sources opened as they are needed."""

    def __init__(self, folder: str | Path, *, tokenizer: str | None = None) -> None:
        self.rows = PackedRows(folder)
        self.tokenizer_location = tokenizer or self.rows.manifest["tokenizer"]["location"]
        self.tables = read_file_tables(self.rows.folder)
        self._tokenizer: LoadedTokenizer | None = None
        self._documents: dict[tuple[int, int, int], str | None] = {}

    def row(self, number: int, *, text: bool) -> dict[str, Any]:
        """What `trace` returns."""
        pieces = self.rows.documents(number)
        batch = self.rows.rows(number, number + 1)
        subset = int(batch.subset_ids[0])
        documents = []
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
            if text:
                ids = batch.input_ids[0, place : place + length]
                document["text"], document["text_from"] = self._text(piece, ids)
            place += length
            documents.append(document)
        return {
            "row": number,
            "subset": self.rows.subset_names[subset],
            "domain": self.rows.subset_domains[subset],
            "padding": int(batch.padding[0]),
            "documents": documents,
        }

    @property
    def tokenizer(self) -> LoadedTokenizer:
        if self._tokenizer is None:
            said = self.rows.manifest["tokenizer"]
            loaded = load_tokenizer(self.tokenizer_location)
            if loaded.fingerprint != said["fingerprint"]:
                raise DataError(
                    f"{self.tokenizer_location}: not the tokenizer that {self.rows.folder} was built with, or changed."
                )
            self._tokenizer = loaded
        return self._tokenizer

    def _text(self, piece: dict[str, int], ids: np.ndarray) -> tuple[str, str]:
        whole = self._document(piece)
        if whole is not None:
            span = self._span(whole, piece["start"], piece["end"], ids)
            if span is not None:
                return span, "source"
        return self.tokenizer.decode(ids), "tokens"

    def _span(self, whole: str, start: int, end: int, ids: np.ndarray) -> str | None:
        config = self.rows.manifest["config"]
        if not config["bpe_dropout"]:
            return self.tokenizer.span(whole, start, end, ids=ids, bos=config["bos"])
        encoder = DropoutEncoder(self.tokenizer.backend, rate=config["bpe_dropout"], seed=self.rows.manifest["seed"])
        encoded = encoder.encode([whole])[0]
        return self.tokenizer.span_by_decoding(whole, encoded, start, end, ids=ids, bos=config["bos"])

    def _document(self, piece: dict[str, int]) -> str | None:
        key = (piece["source"], piece["file"], piece["row"])
        if key not in self._documents:
            if len(self._documents) > 256:
                self._documents.clear()
            try:
                self._documents[key] = self._read(*key)
            except (DataError, OSError):
                self._documents[key] = None
        return self._documents[key]

    def _read(self, source_number: int, file_number: int, row: int) -> str | None:
        said = self.rows.manifest["sources"][source_number]
        source = Source.model_validate(said["entry"])
        if said["location"] is None:
            return _hub_document(source, said["revision"], row)
        place = Path(said["location"])
        name = self.tables[source_number]["files"][file_number]
        path = place if place.is_file() else place / name
        if not path.is_file():
            return None
        return _local_document(source, SourceFile(name, path, path.stat().st_size, ""), row)


def _local_document(source: Source, file: SourceFile, row: int) -> str | None:
    part = Part(0)
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(file.path) as parquet:
            first = 0
            for group in range(parquet.metadata.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                if first <= row < first + size:
                    part = Part(0, group, group + 1, first)
                first += size
    for batch in read_parts(source, [file], [part], Counter()):
        if batch.rows[-1] >= row:
            place = int(np.searchsorted(batch.rows, row))
            return batch.texts[place] if batch.rows[place] == row else None
    return None


def _hub_document(source: Source, revision: str | None, row: int) -> str | None:
    from data_recipes.read_hub import HubSupply

    if revision is not None:
        source = source.model_copy(update={"revision": revision})
    return HubSupply.find(source).document(row)
