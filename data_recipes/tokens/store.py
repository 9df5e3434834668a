"""The token store: one folder a source, tokenised unit by unit, used by every phase and every run.

A unit leaves `unit-N.tokens` (raw ids, each document closed by EOS; uint16 where the vocabulary allows, else
uint32), `unit-N.documents.npy` (int64 `[3, documents]`: end in the unit's tokens, file, row) and, last,
`unit-N.json` with its counts and hashes. Documents are shuffled within blocks of a unit, units as wholes: both
by seed. A unit is a pure function of its input, the tokenizer and the seed.
"""

import json
import mmap
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from data_recipes.errors import DataError
from data_recipes.files import HashedFile, intact, right_size
from data_recipes.manifest import fingerprint_of
from data_recipes.ordering import permutation, seed_of
from data_recipes.reading.supply import Supply, columns_said
from data_recipes.recipes.source import Source
from data_recipes.tokens import blocks as shuffled_blocks
from data_recipes.tokens.blocks import EncodedBatch, arrange, blocks
from data_recipes.tokens.encoders import Encoder, HuggingFaceEncoder, Mismatch
from data_recipes.tokens.tokenizer import LoadedTokenizer

FORMAT = 1


@dataclass(frozen=True)
class UnitRecord:
    """What is known of a finished unit. `last`: the end of a stream whose length was not known before."""

    tokens: int
    documents: int
    characters: int
    drops: dict[str, int]
    last: bool
    notes: list[str]
    files: dict[str, dict[str, Any]]


@dataclass
class TokenStore:
    """The tokens of one source under one tokenizer and seed."""

    supply: Supply
    tokenizer: LoadedTokenizer
    root: Path
    seed: int
    add_bos: bool = False
    dropout: float = 0.0
    encoder: Encoder | None = None
    encoder_note: str | None = None
    records: dict[int, UnitRecord] = field(default_factory=dict)
    _open: dict[str, np.ndarray] = field(default_factory=dict)
    _unchecked: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        number = 0
        while self.supply.unit_count is None or number < self.supply.unit_count:
            record = self._read_record(number)
            if record is not None:
                self.records[number] = record
                if record.last:
                    self.supply.unit_count = number + 1
            elif self.supply.unit_count is None:
                break  # such units are made one after the other
            number += 1

    @property
    def source(self) -> Source:
        return self.supply.source

    @cached_property
    def key(self) -> str:
        """The folder's name: changes with the contents, the tokenizer, the seed, or how text is prepared."""
        identity = fingerprint_of(
            [
                FORMAT,
                self.supply.fingerprint,
                self.supply.unit_identity(),
                self.tokenizer.fingerprint,
                self.seed,
                self.add_bos,
                self.dropout,
                shuffled_blocks.SHUFFLE_TOKENS,
            ]
        )
        label = re.sub(r"[^\w.]+", "-", Path(self.source.label).name).strip("-.")[:40] or "source"
        return f"{label}-{identity[:16]}"

    @property
    def folder(self) -> Path:
        return self.root / self.key

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<u2" if self.tokenizer.vocab_size <= 2**16 else "<u4")

    @property
    def complete(self) -> bool:
        """Whether every unit is tokenised, so that the source's size is known and a second epoch can begin."""
        return len(self.records) == self.supply.unit_count

    def unit_order(self, epoch: int) -> np.ndarray:
        """The order in which the units come in an epoch (int64): by seed, but the first time through a stream."""
        count = self.supply.unit_count
        if count is None or (epoch == 0 and self.supply.sequential):
            return np.arange(len(self.records) if count is None else count, dtype=np.int64)
        return permutation(count, seed_of("units", self.seed, self.supply.fingerprint, epoch))

    @property
    def available(self) -> int:
        """Tokens of the units finished without a gap, in the order of epoch 0."""
        total = 0
        for number in self.unit_order(0):
            if int(number) not in self.records:
                break
            total += self.records[int(number)].tokens
        return total

    def tokens_of(self, number: int) -> np.ndarray:
        """A unit's ids, memory-mapped."""
        return self._mapped(number, "tokens", lambda path: np.memmap(path, self.dtype, "r"), np.empty(0, self.dtype))

    def documents_of(self, number: int) -> np.ndarray:
        """A unit's document table, memory-mapped: int64 `[3, documents]` (end, file, row)."""
        return self._mapped(
            number, "documents.npy", lambda path: np.load(path, mmap_mode="r"), np.empty((3, 0), np.int64)
        )

    def _mapped(
        self, number: int, kind: str, open_file: Callable[[Path], np.ndarray], nothing: np.ndarray
    ) -> np.ndarray:
        """One of a unit's files, hashed first if an earlier run has left it. `DataError` if it is damaged."""
        record, name = self.records[number], f"unit-{number:05d}.{kind}"
        if record.documents == 0:
            return nothing
        with self._lock:
            if name not in self._open:
                path = self.folder / name
                if name in self._unchecked and not intact(path, record.files[name]):
                    (self.folder / f"unit-{number:05d}.json").unlink()
                    raise DataError(
                        f"{path}: its content is not what was written there. Run the same command again: the unit is "
                        "tokenised anew."
                    )
                self._unchecked.discard(name)
                self._open[name] = open_file(path)
            return self._open[name]

    def release(self) -> None:
        """Give mapped pages back: what a build has read does not stay in its memory."""
        with self._lock:
            for mapped in self._open.values():
                drop_pages(mapped)

    def drops(self) -> dict[str, int]:
        """Rows that gave no document, by reason, over the finished units."""
        total: Counter[str] = Counter()
        for record in self.records.values():
            total.update(record.drops)
        return dict(sorted(total.items()))

    def notes(self) -> list[str]:
        """What the units say of how they were made, such as a back end that was given up."""
        return sorted({note for record in self.records.values() for note in record.notes})

    def _read_record(self, number: int) -> UnitRecord | None:
        path = self.folder / f"unit-{number:05d}.json"
        try:
            record = UnitRecord(**json.loads(path.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            return None  # cut short by a crash of the machine: made again
        if not all(right_size(self.folder / name, said) for name, said in record.files.items()):
            return None
        self._unchecked.update(record.files)
        return record

    def tokenise_unit(self, number: int) -> UnitRecord:
        """Read, encode, shuffle and write one unit; once more with `tokenizers` if the fast back end is wrong."""
        reference = HuggingFaceEncoder(self.tokenizer)
        try:
            return self._tokenise(number, self.encoder or reference, self.encoder_note)
        except Mismatch as error:
            return self._tokenise(number, reference, f"unit {number} tokenised with tokenizers, not gigatoken: {error}")

    def _tokenise(self, number: int, encoder: Encoder, note: str | None) -> UnitRecord:
        drops: Counter[str] = Counter()
        bos = self.tokenizer.bos_id if self.add_bos else None
        stem = f"unit-{number:05d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        tables: list[np.ndarray] = []
        written = 0
        characters = 0
        tokens_path = self.folder / f".{stem}.tokens.partial"
        with HashedFile(tokens_path) as stream:
            for number_of_block, block in enumerate(blocks(self._encoded(number, encoder, drops))):
                seed = seed_of("documents", self.seed, self.supply.fingerprint, number, number_of_block)
                order = permutation(sum(len(batch.lengths) for batch in block), seed)
                arranged, ends = arrange(block, order, bos_id=bos, eos_id=self.tokenizer.eos_id, dtype=self.dtype)
                stream.write(arranged.data)
                files, rows = (
                    np.concatenate([getattr(batch, name) for batch in block])[order] for name in ("files", "rows")
                )
                tables.append(np.stack([ends + written, files, rows]))
                written += len(arranged)
                characters += sum(batch.characters for batch in block)
        table = np.concatenate(tables, axis=1) if tables else np.empty((3, 0), np.int64)
        table_path = self.folder / f".{stem}.documents.partial"
        with HashedFile(table_path) as table_stream:
            np.save(table_stream, table)
        files_said = {}
        for path, name, said in (
            (tokens_path, f"{stem}.tokens", stream.said),
            (table_path, f"{stem}.documents.npy", table_stream.said),
        ):
            files_said[name] = said
            path.replace(self.folder / name)
        last = self.supply.sequential and self.supply.unit_count == number + 1
        notes = [] if note is None else [note]
        counted = dict(sorted(drops.items()))
        record = UnitRecord(written, table.shape[1], characters, counted, last, notes, files_said)
        _write_whole(self.folder / f"{stem}.json", json.dumps(record.__dict__, ensure_ascii=False) + "\n")
        self.records[number] = record
        return record

    def _encoded(self, number: int, encoder: Encoder, drops: Counter[str]) -> Iterator[EncodedBatch]:
        first = True
        for batch in self.supply.read_unit(number, drops):
            ids, lengths = encoder.encode(batch.texts)
            if first:
                encoder.check(batch.texts, ids, lengths)
            first = False
            yield EncodedBatch(ids, lengths, batch.files, batch.rows, sum(map(len, batch.texts)))


def fill_stores(needs: dict[str, tuple[TokenStore, int]], *, workers: int, progress: bool) -> None:
    """Tokenise what each store still lacks to hold the tokens needed (or all it can give), units in order.

    How many units a round takes follows from finished ones only, so the result does not depend on `workers`.
    """
    from tqdm import tqdm

    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        tqdm(desc="tokenise", unit="tok", unit_scale=True, disable=None if progress else True) as bar,
    ):
        while tasks := [task for store, need in needs.values() for task in _next_units(store, need)]:
            futures = [pool.submit(store.tokenise_unit, number) for store, number in tasks]
            try:
                for future in futures:
                    bar.update(future.result().tokens)
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
    for store, _ in needs.values():
        if store.complete and store.available == 0:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in store.drops().items())
            raise DataError(
                f"source '{store.source.label}' yields no text at all ({reasons or 'no rows'}). "
                f"Check the text column, the template and the filters.{columns_said(store.supply)}"
            )


def _next_units(store: TokenStore, need: int) -> list[tuple[TokenStore, int]]:
    lacking = need - store.available
    if lacking <= 0 or store.complete:
        return []
    if store.supply.unit_count is None:
        return [(store, len(store.records))]
    missing = [int(number) for number in store.unit_order(0) if int(number) not in store.records]
    if store.supply.sequential:
        return [(store, missing[0])]
    # A shade fewer than the estimate, so that no unit is tokenised in vain.
    per_unit = max(1, store.available / max(1, len(store.records))) if store.records else 8 * 2**20
    return [(store, number) for number in missing[: max(1, int(0.95 * lacking / per_unit))]]


def drop_pages(mapped: np.ndarray) -> None:
    """Give the pages of a memory-mapped file back; they are read again when they are looked at again."""
    if isinstance(mapped, np.memmap):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
