"""What a build will read, write and take, told before anything is read.

Rows, look-ahead and what comes before are those of the build's own plan (`packing/plan.py`); bytes and hours follow
from the figures of `assumptions.yaml`, or from what was measured in their place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from data_recipes.errors import DataError
from data_recipes.forecast.assumptions import Figures
from data_recipes.forecast.measured import measured_figures
from data_recipes.forecast.sights import ON_THE_HUB, Sight, can_be_had, expected_ending, look, reading_key
from data_recipes.manifest import read_manifest
from data_recipes.packing.ledger import Drawn
from data_recipes.packing.plan import NOTHING_DRAWN, PlannedMix, planned_tokens, share_out, tokens_needed
from data_recipes.packing.request import BuildRequest, is_built
from data_recipes.reading.files import UNIT_BYTES, SourceMissing
from data_recipes.reading.hub import UNIT_ROWS
from data_recipes.recipes.phases import phase_folder
from data_recipes.recipes.recipe import Recipe
from data_recipes.recipes.source import Source
from data_recipes.rows.layout import KIND
from data_recipes.tokens.store import TokenStore
from data_recipes.tokens.tokenizer import load_tokenizer

# Bytes of a store's document table for each document (end, file and row), and of a unit's record and headers.
TABLE_BYTES, UNIT_RECORD_BYTES = 24, 800
# Bytes of a row beside its ids (a subset, offsets), and of each document in it (a length, source, file, row, span).
ROW_BYTES, DOCUMENT_BYTES = 12, 36


@dataclass
class Expected:
    """A source as it is expected to be; stands in for its store in the build's plan, which asks for its `key`."""

    key: str
    source: Source
    sight: Sight
    domain: str | None = None
    subsets: dict[str, int] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    rows: int = 0
    drawn: int = 0
    needed: int = 0
    needed_with_before: int = 0
    drawn_before: int = 0
    furthest: int = 0


@dataclass(frozen=True)
class Forecast:
    """`mixes`: those asked for; `chain`: with those before; `sources` in the order of first use."""

    mixes: Sequence[PlannedMix]
    chain: Sequence[PlannedMix]
    sources: Sequence["SourceForecast"]
    figures: Figures
    encoder: str
    rate: float
    workers: int
    token_bytes: int
    shortfalls: Sequence[dict[str, Any]]

    def total(self, name: str) -> int:
        """The sum of a figure over all sources, those left out that nobody can read."""
        return sum(getattr(one, name) for one in self.sources)

    @property
    def seconds(self) -> float:
        return sum(one.text_bytes for one in self.sources) / (self.rate * 1e6 * self.workers)


@dataclass(frozen=True)
class SourceForecast:
    """One source: tokens `drawn` into rows, `tokenised` with the look-ahead, and the bytes that follow.

    `size`: tokens of the whole source, None while unknown. `before`: tokens that phases before those asked for draw;
    `tokenised_with_before`: with them. `furthest`: how far the last phase to draw from it gets, all before it included
    and a branch (26-4k) left out of what does not come after it.
    """

    expected: Expected
    size: int | None
    drawn: int
    tokenised: int
    before: int
    furthest: int
    tokenised_with_before: int
    text_bytes: int
    text_bytes_with_before: int
    download_bytes: int
    store_bytes: int
    store_bytes_with_before: int
    row_bytes: int
    documents: int

    @property
    def epochs(self) -> float | None:
        """How often the source is gone through, the phases before included; None while its size is unknown."""
        return self.furthest / self.size if self.size else None


def forecast(
    request: BuildRequest,
    *,
    sights: Mapping[str, Sight] | None = None,
    rate: float | None = None,
    refuse: bool = False,
) -> Forecast:
    """What building `request` will need.

    `sights`: what the Hub has told, by reading key; other sources are looked at here. `rate`: megabytes of text a
    second and worker. `refuse`: raise what the build would raise about sources that are not there.
    """
    if rate is not None and not 0 < rate < float("inf"):
        raise DataError(f"--rate {rate}; expected megabytes of text a second, above 0, such as 70.")
    expected: dict[str, Expected] = {}

    def expect(source: Source) -> TokenStore:
        key = reading_key(source)
        if key not in expected:
            expected[key] = Expected(key, source, (sights or {}).get(key) or look(source))
        sight = expected[key].sight
        unreadable = not sight.readable and sight.state != "gated"
        if unreadable and (refuse or request.missing != "fail"):
            raise SourceMissing(sight.message)
        if refuse and sight.state == ON_THE_HUB and not can_be_had(source):
            raise SourceMissing(f"{source.label}: cannot be loaded: not in the cache, and HF_HUB_OFFLINE is set.")
        # The plan of the rows asks a store for its key alone.
        return cast(TokenStore, expected[key])

    chain = share_out(request, expect, lambda recipe: _start_of(request, recipe))
    wanted = {recipe.key for recipe in request.recipes}
    mixes = _alone([item for item in chain if item.recipe.key in wanted], chain)
    token_bytes, encoder = _of_tokenizer(request)
    _count(expected, mixes, chain)
    used = [one for one in expected.values() if one.subsets]
    figures = Figures(measured_figures(request.store_folder, [(one.source, one.domain) for one in used]))
    if token_bytes is None:
        token_bytes = 2 if figures.take("other", "vocabulary") <= 2**16 else 4
    sources = [_of_source(one, figures, token_bytes) for one in used]
    if rate is None:
        rate = figures.take("megabytes_per_second", encoder)
    shortfalls = _shortfalls(mixes, chain, {one.expected.key: one for one in sources}, wanted)
    return Forecast(mixes, chain, sources, figures, encoder, rate, request.threads, token_bytes, shortfalls)


def _start_of(request: BuildRequest, recipe: Recipe) -> Drawn:
    """The context lengths before a recipe whose predecessor was built earlier; what that has drawn is told by contents,
    which are not read here."""
    if recipe.after is None or not is_built(request.out, recipe.after):
        return NOTHING_DRAWN
    manifest = read_manifest(request.out / phase_folder(recipe.after), kind=KIND)
    return Drawn({}, {}, tuple(manifest["context_lengths"]))


def _alone(mixes: Sequence[PlannedMix], chain: Sequence[PlannedMix]) -> list[PlannedMix]:
    """The mixes asked for as if nothing came before them, but with the look-ahead that they have in the chain."""
    keys = [item.recipe.key for item in mixes]
    places = {number: keys.index(item.recipe.key) for number, item in enumerate(chain) if item.recipe.key in keys}
    return [
        replace(item, previous=places.get(-1 if item.previous is None else item.previous), start=NOTHING_DRAWN)
        for item in mixes
    ]


def _of_tokenizer(request: BuildRequest) -> tuple[int | None, str]:
    """Bytes of an id (None: no tokenizer is here), and what will encode."""
    encoder = "bpe-dropout" if request.dropout else "gigatoken"
    locations = [request.tokenizer] if request.tokenizer else {recipe.tokenizer_location for recipe in request.recipes}
    here = [location for location in locations if location is not None and Path(location).exists()]
    if not here and (request.tokenizer is None or not str(request.tokenizer).startswith((".", "/", "~"))):
        return None, encoder
    from data_recipes.tokens.encoders import choose_encoder

    loaded = load_tokenizer(here[0] if here else str(request.tokenizer))
    if not request.dropout:
        encoder = choose_encoder(loaded, dropout=0.0, seed=0)[0].name
    return (2 if loaded.vocab_size <= 2**16 else 4), encoder


def _count(expected: Mapping[str, Expected], mixes: Sequence[PlannedMix], chain: Sequence[PlannedMix]) -> None:
    """Sum what the mixes take from each source."""
    largest: dict[str, int] = {}
    for item in mixes:
        for subset, store, rows in zip(item.subsets, item.subset_stores, item.rows, strict=True):
            one, tokens = expected[store.key], rows * item.recipe.context_length
            one.rows += rows
            one.drawn += tokens
            one.subsets[subset.name] = one.subsets.get(subset.name, 0) + tokens
            if item.recipe.key not in one.phases:
                one.phases.append(item.recipe.key)
            if tokens >= largest.get(one.key, 0):
                largest[one.key], one.domain = tokens, subset.domain
    for key, (_, needed) in tokens_needed(mixes).items():
        expected[key].needed = needed
    for key, (_, needed) in tokens_needed(chain).items():
        expected[key].needed_with_before = needed
    mine = {item.recipe.key for item in mixes}
    for item, _, store, before, tokens in planned_tokens(chain):
        one = expected[store.key]
        if item.recipe.key in mine:
            one.furthest = max(one.furthest, before + tokens)
        else:
            one.drawn_before += tokens


def _of_source(one: Expected, figures: Figures, token_bytes: int) -> SourceForecast:
    source, sight = one.source, one.sight
    per_token = figures.take("bytes_per_token", source.label, one.domain)
    per_document = figures.take("tokens_per_document", source.label, one.domain)
    endings = sight.endings or {expected_ending(source): 1}
    kept = figures.take("other", "kept_by_filters") if source.filters else 1.0
    weight = sum(endings.values())
    # Text bytes of a file's byte, over files of all endings.
    text_share = sum(
        size / figures.take("file_bytes_per_text_byte", name, "unknown") for name, size in endings.items()
    ) / max(1, weight)
    if sight.bytes is not None:
        size: int | None = round(sight.bytes * text_share * kept / per_token)
    else:
        stated = figures.known("source_tokens", source.label)
        size = None if stated is None else round(stated)
    unit = UNIT_BYTES * text_share * kept / per_token if sight.local else UNIT_ROWS * per_document
    tokenised, with_before = (_whole_units(needed, unit, size) for needed in (one.needed, one.needed_with_before))
    reads = one.sight.readable or one.sight.state == "gated"
    file_bytes = round(tokenised * per_token / text_share / kept)
    # Each row cuts a document, which then counts in two rows.
    segments = one.drawn / per_document + one.rows
    return SourceForecast(
        expected=one,
        size=size,
        drawn=one.drawn,
        tokenised=tokenised,
        before=one.drawn_before,
        furthest=one.furthest,
        tokenised_with_before=with_before,
        text_bytes=round(tokenised * per_token / kept),
        text_bytes_with_before=round(with_before * per_token / kept),
        download_bytes=min(file_bytes, sight.bytes or file_bytes) if reads and not sight.local else 0,
        store_bytes=_store_bytes(tokenised, per_document, unit, token_bytes),
        store_bytes_with_before=_store_bytes(with_before, per_document, unit, token_bytes),
        row_bytes=round(4 * one.drawn + DOCUMENT_BYTES * segments + ROW_BYTES * one.rows),
        documents=round(one.drawn / per_document),
    )


def _whole_units(tokens: int, unit: float, size: int | None) -> int:
    """What is tokenised for so many tokens: whole units, and no more than there is."""
    whole = round(-(-tokens // max(1.0, unit)) * unit)
    return whole if size is None else min(whole, size)


def _store_bytes(tokens: int, per_document: float, unit: float, token_bytes: int) -> int:
    units = -(-tokens // max(1, round(unit)))
    return round(token_bytes * tokens + TABLE_BYTES * tokens / per_document + UNIT_RECORD_BYTES * units)


def _shortfalls(
    mixes: Sequence[PlannedMix], chain: Sequence[PlannedMix], sources: Mapping[str, SourceForecast], wanted: set[str]
) -> list[dict[str, Any]]:
    """Subsets that would go through their source more often than they allow, as far as sizes are known."""
    found = []
    for item, subset, store, before, tokens in planned_tokens(chain):
        size = sources[store.key].size if store.key in sources else None
        if item.recipe.key in wanted and subset.max_epochs is not None and size is not None:
            left = max(0, subset.max_epochs * size - before)
            if tokens > left:
                found.append({"recipe": item.recipe.key, "subset": subset.name, "tokens": tokens, "left": left})
    return found
