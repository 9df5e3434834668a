"""The token store: one folder a source, tokenised unit by unit, used by every phase and every run.

A unit leaves `unit-N.tokens` (raw ids, each document closed by EOS; uint16 where the vocabulary allows, else
uint32), `unit-N.documents.npy` (int64 `[3, documents]`: end in the unit's tokens, file, row) and, last,
`unit-N.json` with its counts and hashes. Documents are shuffled within blocks of a unit, units as wholes: both
by seed. A unit is a pure function of its input, the tokenizer and the seed, so it does not matter which of the
processes that share a store makes it.
"""

import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

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
from data_recipes.tokens.stored import StoredTokens
from data_recipes.tokens.tokenizer import LoadedTokenizer
from data_recipes.tokens.units import NewUnit, UnitFolder, UnitRecord

FORMAT = 2
# By so many units it is estimated how many a source needs; fewer where fewer surely do.
MEASURED_UNITS = 32
# 32 MiB of zstandard are seldom more than this.
TOKENS_OF_LARGE_UNIT = 32 * 2**20
MARGIN = 1.02
# Units in the queue for each worker.
QUEUED_UNITS = 4


def store_label(source: Source) -> str:
    """What the name of a source's folder begins with, before the `-` and its fingerprint."""
    return re.sub(r"[^\w.]+", "-", Path(source.label).name).strip("-.")[:40] or "source"


@dataclass
class TokenStore(StoredTokens):
    """The tokens of one source under one tokenizer and seed, and how to make more of them."""

    supply: Supply
    tokenizer: LoadedTokenizer
    root: Path
    seed: int
    add_bos: bool = False
    dropout: float = 0.0
    encoder: Encoder | None = None
    encoder_note: str | None = None
    records: dict[int, UnitRecord] = field(default_factory=dict)
    ends: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    # Of a source that is read in order: the first units, in whole rounds, of which the tokens are counted.
    _counted: int = 0
    _held: int = 0
    # A task that only makes units need not read the records of all others.
    look: InitVar[bool] = True

    def __post_init__(self, look: bool) -> None:
        if not look:
            return
        number = 0
        known = self.unit_count if self.supply.readable_units is None else self.supply.readable_units
        while known is None or number < known:
            record = self.units.read(number)
            if record is not None:
                self._keep(number, record)
            elif known is None:
                break  # units of such a source are made in order
            number += 1

    @property
    def source(self) -> Source:
        return self.supply.source

    @property
    def fingerprint(self) -> str:
        return self.supply.fingerprint

    @property
    def unit_count(self) -> int | None:
        return self.supply.unit_count

    @property
    def sequential(self) -> bool:
        return self.supply.sequential

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

    def drops(self, tokens: int) -> dict[str, int]:
        """Rows that gave no document, by reason, in the units that hold the first `tokens` tokens."""
        total: Counter[str] = Counter()
        for number in self.first_units(tokens):
            total.update(self.records[number].drops)
        return dict(sorted(total.items()))

    def notes(self, tokens: int) -> list[str]:
        """How these units were made, where that is worth knowing, such as a back end that was given up."""
        return sorted({note for number in self.first_units(tokens) for note in self.records[number].notes})

    def units_wanted(self, tokens: int) -> list[int]:
        """The units to tokenise next, so that the store holds the first `tokens` tokens; none when it does.

        First a few, by which the number of the others is estimated. Each round follows from the units of the rounds
        before it alone: the same ones are tokenised whoever does it, stopped in between or not.
        """
        if self.supply.readable_units is None:
            return self._next_of_streams(tokens)
        count = min(MEASURED_UNITS, max(1, tokens // TOKENS_OF_LARGE_UNIT))
        while tokens > 0:
            order = np.arange(count) if self.unit_count is None else self.unit_order(0)[:count]
            missing = [int(number) for number in order if int(number) not in self.records]
            if missing:
                return missing
            held = sum(self.records[int(number)].tokens for number in order)
            if held >= tokens or self.complete or len(order) < count:
                break
            count += _estimate(count, held, tokens)
        return []

    def _next_of_streams(self, tokens: int) -> list[int]:
        """One unit of each stream: that all have ended shows at the end of such a round."""
        # Counted from where the last call has stopped: a source of 20,000 units has thousands of rounds.
        while self._held < tokens and not self.complete:
            row = range(self._counted, self._counted + self.supply.streams)
            missing = [number for number in row if number not in self.records]
            if missing:
                return missing
            self._held += sum(self.records[number].tokens for number in row)
            self._counted = row.stop
        return []

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
                texts = cast(Sequence[str], batch.texts)
                ids, lengths = encoder.encode(texts)
                if first:
                    encoder.check(texts, ids, lengths)
                yield EncodedBatch(ids, lengths, batch.files, batch.rows, batch.characters)
            first = False


def _estimate(count: int, held: int, tokens: int) -> int:
    """How many units more are needed where `count` hold `held` tokens: a few too many rather than one round more."""
    return max(1, math.ceil(MARGIN * (tokens - held) * count / held)) if held else count


Needs = Mapping[str, tuple[TokenStore, int]]


def wanted_units(needs: Needs) -> list[tuple[TokenStore, int]]:
    """The next round: what each store still lacks to hold the tokens needed, as far as its files are here."""
    return [
        (store, number)
        for store, tokens in needs.values()
        for number in store.units_wanted(tokens)
        if store.supply.readable_units is None or number < store.supply.readable_units
    ]


def wanted_files(needs: Needs) -> list[tuple[TokenStore, str]]:
    """The files to fetch before the next round."""
    return [
        (store, name)
        for store, tokens in needs.values()
        for name in store.supply.files_wanted(max(store.units_wanted(tokens), default=-1) + 1)
    ]


def fill_stores(needs: Needs, *, workers: int, progress: bool, after_round: Callable[[], None] = lambda: None) -> None:
    """Tokenise what each store lacks to hold the tokens needed, or all it can give; `after_round` may stop it."""
    from tqdm import tqdm

    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        tqdm(desc="tokenise", unit="tok", unit_scale=True, disable=None if progress else True) as bar,
    ):

        def together(work: Iterable[Callable[[], Any]], then: Callable[[Any], object] = lambda result: None) -> None:
            # No more in the queue than keeps the workers busy: 150,000 futures would take more memory than the rest.
            futures: deque[Future[Any]] = deque()
            try:
                for one in work:
                    futures.append(pool.submit(one))
                    if len(futures) > QUEUED_UNITS * max(1, workers):
                        then(futures.popleft().result())
                while futures:
                    then(futures.popleft().result())
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

        while (files := wanted_files(needs)) or (units := wanted_units(needs)):
            if files:
                together(partial(store.supply.fetch, name) for store, name in files)
                for store, _ in needs.values():
                    store.supply.look()
                continue
            made = (partial(store.tokenise_unit, number) for store, number in units)
            together(made, lambda record: bar.update(record.tokens))
            after_round()
    for store, _ in needs.values():
        if store.complete and not any(record.tokens for record in store.records.values()):
            drops = sum((Counter(record.drops) for record in store.records.values()), Counter[str]())
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(drops.items()))
            columns = ", ".join(store.supply.columns()[:20])
            raise DataError(
                f"source '{store.source.label}' yields no text at all ({reasons or 'no rows'}). "
                f"Check the text column, the template and the filters."
                + (f" Its rows have the columns {columns}." if columns else "")
            )
