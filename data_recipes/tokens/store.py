"""The token store: one folder a source, tokenised unit by unit, used by every phase and every run.

A unit leaves `unit-N.tokens` (raw ids, each document closed by EOS; uint16 where the vocabulary allows, else
uint32), `unit-N.documents.npy` (int64 `[3, documents]`: end in the unit's tokens, file, row) and, last,
`unit-N.json` with its counts and hashes. Documents are shuffled within blocks of a unit, units as wholes: both
by seed. A unit is a pure function of its input, the tokenizer and the seed, so it does not matter which of the
processes that share a store makes it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from data_recipes.errors import DataError
from data_recipes.manifest import fingerprint_of
from data_recipes.ordering import permutation, seed_of
from data_recipes.reading.documents import is_long
from data_recipes.reading.supply import Supply
from data_recipes.recipes.source import Source
from data_recipes.tokens import blocks as shuffled_blocks
from data_recipes.tokens.blocks import EncodedBatch, LongDocument, arrange, blocks
from data_recipes.tokens.encoders import Encoder, HuggingFaceEncoder
from data_recipes.tokens.probes import Mismatch, sample_of
from data_recipes.tokens.tokenizer import LoadedTokenizer
from data_recipes.tokens.units import NewUnit, UnitFolder, UnitRecord

FORMAT = 2


def store_label(source: Source) -> str:
    """What the name of a source's folder begins with, before the `-` and its fingerprint."""
    return re.sub(r"[^\w.]+", "-", Path(source.label).name).strip("-.")[:40] or "source"


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
    # Order and ends of the units, by epoch and number of finished units: see `packing.stream.unit_ends`.
    ends: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        number = 0
        while self.supply.unit_count is None or number < self.supply.unit_count:
            record = self.units.read(number)
            if record is not None:
                self._keep(number, record)
            elif self.supply.unit_count is None:
                break  # units of such a source are made in order
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
        return f"{store_label(self.source)}-{identity[:16]}"

    @property
    def folder(self) -> Path:
        return self.root / self.key

    @cached_property
    def units(self) -> UnitFolder:
        return UnitFolder(self.folder, self.dtype)

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
        """A unit's ids, memory-mapped. `DataError` if what an earlier run has left of it is damaged."""
        return self.units.tokens(number, self.records[number])

    def documents_of(self, number: int) -> np.ndarray:
        """A unit's document table, memory-mapped: int64 `[3, documents]` (end, file, row)."""
        return self.units.documents(number, self.records[number])

    def drops(self) -> dict[str, int]:
        """Rows that gave no document, by reason, over the finished units."""
        total: Counter[str] = Counter()
        for record in self.records.values():
            total.update(record.drops)
        return dict(sorted(total.items()))

    def notes(self) -> list[str]:
        """How the units were made, where that is worth knowing, such as a back end that was given up."""
        return sorted({note for record in self.records.values() for note in record.notes})

    def _keep(self, number: int, record: UnitRecord) -> None:
        self.records[number] = record
        if record.place is not None:
            self.supply.continue_after(number, record.place)

    def tokenise_unit(self, number: int) -> UnitRecord:
        """Read, encode, shuffle and write one unit, unless another process has done it meanwhile."""
        with self.units.making(number):
            record = self.units.read(number) or self._made(number)
        self._keep(number, record)
        return record

    def _made(self, number: int) -> UnitRecord:
        """Tokenise a unit, and again with the reference if the fast back end is wrong."""
        encoder = self.encoder or HuggingFaceEncoder(self.tokenizer)
        try:
            return self._tokenise(number, encoder, self.encoder_note)
        except Mismatch as error:
            slower = encoder.reference
            note = f"unit {number} tokenised with {slower.name}, not {encoder.name}: {error}"
            return self._tokenise(number, slower, note)

    def _tokenise(self, number: int, encoder: Encoder, note: str | None) -> UnitRecord:
        drops: Counter[str] = Counter()
        bos = self.tokenizer.bos_id if self.add_bos else None
        characters = 0
        with self.units.new(number) as unit:
            for number_of_block, block in enumerate(blocks(self._encoded(number, encoder, drops))):
                if isinstance(block, LongDocument):
                    self._write_long(unit, block, bos)
                    characters += block.characters
                    continue
                seed = seed_of("documents", self.seed, self.supply.fingerprint, number, number_of_block)
                order = permutation(sum(len(batch.lengths) for batch in block), seed)
                arranged, ends = arrange(block, order, bos_id=bos, eos_id=self.tokenizer.eos_id, dtype=self.dtype)
                files, rows = (
                    np.concatenate([getattr(batch, name) for batch in block])[order] for name in ("files", "rows")
                )
                unit.close_documents(unit.tokens + ends, files, rows)
                unit.append(arranged)
                characters += sum(batch.characters for batch in block)
            return unit.finish(
                characters=characters,
                drops=dict(sorted(drops.items())),
                place=self.supply.place_after(number) if self.supply.sequential else None,
                notes=[] if note is None else [note],
            )

    def _write_long(self, unit: NewUnit, document: LongDocument, bos: int | None) -> None:
        """A document's ids part by part: only one part is in memory."""
        if bos is not None:
            unit.append(np.array([bos], dtype=self.dtype))
        for ids in document.ids:
            unit.append(ids.astype(self.dtype))
        unit.append(np.array([self.tokenizer.eos_id], dtype=self.dtype))
        unit.close_documents(*(np.array([value]) for value in (unit.tokens, document.file, document.row)))

    def _encoded(self, number: int, encoder: Encoder, drops: Counter[str]) -> Iterator[EncodedBatch | LongDocument]:
        first = True
        for batch in self.supply.read_unit(number, drops):
            if is_long(batch.texts[0]):
                text = batch.texts[0]
                if first:
                    samples = sample_of(text)
                    encoder.check(samples, *encoder.encode(samples))
                yield LongDocument(encoder.encode_long(text), int(batch.files[0]), int(batch.rows[0]), len(text))
            else:
                texts = [str(text) for text in batch.texts]
                ids, lengths = encoder.encode(texts)
                if first:
                    encoder.check(texts, ids, lengths)
                yield EncodedBatch(ids, lengths, batch.files, batch.rows, sum(map(len, texts)))
            first = False


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
            columns = ", ".join(store.supply.columns()[:20])
            raise DataError(
                f"source '{store.source.label}' yields no text at all ({reasons or 'no rows'}). "
                f"Check the text column, the template and the filters."
                + (f" Its rows have the columns {columns}." if columns else "")
            )


def _next_units(store: TokenStore, need: int) -> list[tuple[TokenStore, int]]:
    missing_tokens = need - store.available
    if missing_tokens <= 0 or store.complete:
        return []
    if store.supply.sequential:
        streams = store.supply.streams
        first = next(number for number in range(len(store.records) + 1) if number not in store.records)
        # One of each stream at most, and no further than the last of them: that all have ended shows there.
        row = range(first, first - first % streams + streams)
        missing = [number for number in row if number not in store.records]
    else:
        missing = [int(number) for number in store.unit_order(0) if int(number) not in store.records]
    # Slightly fewer than the estimate, so that no unit is tokenised without need.
    per_unit = max(1, store.available / max(1, len(store.records))) if store.records else 8 * 2**20
    return [(store, number) for number in missing[: max(1, int(0.95 * missing_tokens / per_unit))]]
