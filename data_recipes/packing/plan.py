"""What a build will do, planned before a row is written: sources, rows of each subset, positions, shortfalls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from data_recipes.errors import DataError, listed
from data_recipes.ordering import seed_of
from data_recipes.packing.draw import Draw, best_fit_draw, concat
from data_recipes.packing.ledger import Drawn, drawn_by
from data_recipes.packing.missing import readable_subsets
from data_recipes.packing.request import BuildRequest, Packing
from data_recipes.packing.stream import LONG_HORIZON, Position, total_tokens
from data_recipes.reading.opening import open_supply
from data_recipes.recipes.quotas import row_quotas
from data_recipes.recipes.recipe import Recipe, Subset
from data_recipes.recipes.source import Source
from data_recipes.tokens.encoders import choose_encoder
from data_recipes.tokens.store import TokenStore, fill_stores

STRATEGIES: dict[Packing, Callable[..., Draw]] = {"concat": concat, "best_fit": best_fit_draw}
# Units are of about the same size, compressed files less so: only what is short by more than this is refused early.
SIZE_ESTIMATE_MARGIN = 1.5
Ledger = Mapping[str, Position]
NOTHING_DRAWN = Drawn({}, {}, ())


@dataclass(frozen=True)
class PlannedMix:
    """A recipe's subsets that can be built, with the store and the number of rows of each.

    `left_out`: what became of the other subsets. `long`: the length from which documents are preferred, if any.
    `previous`: the mix of this build that it continues, by its place in the chain; `start`: what builds before this
    one have drawn. `context_lengths`: of all mixes up to this one.
    """

    recipe: Recipe
    subsets: Sequence[Subset]
    subset_stores: Sequence[TokenStore]
    left_out: Sequence[dict[str, Any]]
    rows: Sequence[int]
    long: int | None
    previous: int | None
    start: Drawn
    context_lengths: tuple[int, ...]

    @property
    def stores(self) -> list[TokenStore]:
        """Each store once, in the order of the subsets."""
        return list({store.key: store for store in self.subset_stores}.values())


@dataclass(frozen=True)
class PlannedPhase(PlannedMix):
    """A mix with its draws, and the position of each of its sources before and after (by the store's key).

    `reach`: the first so many tokens of each source are all that the draws so far can have looked at.
    """

    draws: Sequence[Draw]
    ledger_in: Ledger
    ledger_out: Ledger
    consumed: Mapping[str, int]
    reach: Mapping[str, int]


AnyMix = TypeVar("AnyMix", bound=PlannedMix)


def plan_mixes(request: BuildRequest) -> list[PlannedMix]:
    """Look at the sources of every recipe and share out the rows. Reads and hashes files, tokenises nothing.

    A recipe that comes `after` one that is not in the chain continues where that one's folder in `out` stopped.
    """
    tokenizer, seed, root = request.loaded_tokenizer, request.base_seed, request.store_folder
    encoder, note = choose_encoder(tokenizer, dropout=request.dropout, seed=seed)
    stores: dict[str, TokenStore | DataError] = {}
    same: dict[str, TokenStore] = {}
    with tqdm(desc="look at sources", unit="source", disable=None if request.progress else True, leave=False) as bar:

        def store_of(source: Source) -> TokenStore:
            key = source.model_dump_json() + str(source._folder)
            if key not in stores:
                try:
                    supply = open_supply(
                        source,
                        workers=request.threads,
                        memory=request.hash_memory,
                        seed=seed,
                        fetched=request.fetched_folder,
                    )
                    opened = TokenStore(supply, tokenizer, root, seed, request.bos, request.dropout, encoder, note)
                    # The same files may be given by two paths: they are one source, with one position.
                    stores[key] = same.setdefault(opened.key, opened)
                except DataError as error:
                    stores[key] = error
                bar.update()
            found = stores[key]
            if isinstance(found, DataError):
                raise found
            return found

        return share_out(request, store_of, lambda recipe: drawn_by(request, recipe))


def share_out(
    request: BuildRequest, store_of: Callable[[Source], TokenStore], start_of: Callable[[Recipe], Drawn]
) -> list[PlannedMix]:
    """The rows of every recipe of the chain: `store_of` a source, or `SourceMissing`; `start_of` a recipe whose
    predecessor is not in the chain."""
    chain = request.chain
    planned: list[PlannedMix] = []
    for index, recipe in enumerate(chain):
        subsets, subset_stores, left_out = readable_subsets(recipe, store_of, request.missing)
        rows = row_quotas(
            [subset.tokens for subset in subsets],
            [subset.domain for subset in subsets],
            recipe.context_length,
        )
        if sum(rows) == 0:
            raise DataError(
                f"{recipe.name}: {recipe.tokens:,} tokens are less than half a row of {recipe.context_length:,}; "
                "ask for more tokens, or a larger --scale."
            )
        previous = predecessor(chain, index)
        start = NOTHING_DRAWN
        if previous is None and recipe.after is not None:
            start = start_of(recipe)
        lengths = start.context_lengths if previous is None else planned[previous].context_lengths
        length = recipe.context_length
        # After phases of a shorter context, documents that did not fit one of their rows come first.
        long = next((shorter + 1 for shorter in reversed(lengths) if shorter < length), None)
        lengths = (*lengths, length)
        planned.append(PlannedMix(recipe, subsets, subset_stores, left_out, rows, long, previous, start, lengths))
    return planned


def predecessor(chain: Sequence[Recipe], index: int) -> int | None:
    """The recipe that this one continues: the one it comes `after`, else the one before, but a variant (26-4k) is a
    branch that ends."""
    after = chain[index].after
    for earlier in range(index - 1, -1, -1):
        if after is not None:
            if chain[earlier].key == after:
                return earlier
        elif chain[earlier].variant is None or chain[index].variant == chain[earlier].variant:
            return earlier
    return None


def planned_tokens(planned: Sequence[PlannedMix]) -> Iterator[tuple[PlannedMix, Subset, TokenStore, int, int]]:
    """Each subset in the order of drawing: (mix, subset, store, tokens of it drawn before, tokens to be drawn)."""
    after: list[dict[str, int]] = []
    for item in planned:
        drawn = dict(after[item.previous] if item.previous is not None else item.start.consumed)
        for subset, store, rows in zip(item.subsets, item.subset_stores, item.rows, strict=True):
            before, tokens = drawn.get(store.key, 0), rows * item.recipe.context_length
            drawn[store.key] = before + tokens
            yield item, subset, store, before, tokens
        after.append(drawn)


def tokens_needed(planned: Sequence[PlannedMix]) -> dict[str, tuple[TokenStore, int]]:
    """How far each source must be tokenised: an upper bound of what the draws touch."""
    needs: dict[str, tuple[TokenStore, int]] = {}
    for item, _, store, before, tokens in planned_tokens(planned):
        if tokens > 0:
            needs[store.key] = (store, max(reach_of(item, before, tokens), needs.get(store.key, (store, 0))[1]))
    return needs


def reach_of(item: PlannedMix, before: int, tokens: int) -> int:
    """How far into its source a draw of `tokens` can look that begins before token `before`."""
    return before + tokens * (1 if item.long is None else LONG_HORIZON + 1)


def plan_phases(request: BuildRequest) -> list[PlannedPhase]:
    """Tokenise what the mixes need, refuse what there is not enough of, and plan every draw; without `before`."""
    planned = plan_mixes(request)
    # The first units give an estimate of the whole source: a clear shortfall need not wait until all are tokenised.
    check = partial(check_epochs, planned)
    fill_stores(tokens_needed(planned), workers=request.threads, progress=request.progress, after_round=check)
    check()
    phases: list[PlannedPhase] = []
    for item in planned:
        phases.append(_plan_draws(item, None if item.previous is None else phases[item.previous], request))
    return without_earlier(phases, request)


def without_earlier(planned: Sequence[AnyMix], request: BuildRequest) -> list[AnyMix]:
    """Those of the chain that are asked for; the others only determine where these begin."""
    wanted = {recipe.key for recipe in request.recipes}
    return [item for item in planned if item.recipe.key in wanted]


def _plan_draws(item: PlannedMix, before: PlannedPhase | None, request: BuildRequest) -> PlannedPhase:
    ledger: dict[str, Position] = dict(before.ledger_out if before else item.start.positions)
    consumed: dict[str, int] = dict(before.consumed if before else item.start.consumed)
    start = dict(ledger)
    reach: dict[str, int] = {}
    draws: list[Draw] = []
    for subset, store, rows in zip(item.subsets, item.subset_stores, item.rows, strict=True):
        # Two subsets of one source draw one after the other: the second starts where the first has stopped.
        draw = STRATEGIES[request.packing](
            store,
            ledger.get(store.key, Position()),
            rows,
            item.recipe.context_length,
            seed=seed_of(request.base_seed, item.recipe.key, subset.name),
            long=item.long,
        )
        draws.append(draw)
        ledger[store.key] = draw.after
        looked_at = reach_of(item, consumed.get(store.key, 0), rows * item.recipe.context_length)
        reach[store.key] = max(looked_at, reach.get(store.key, 0))
        consumed[store.key] = consumed.get(store.key, 0) + draw.tokens
    return PlannedPhase(**vars(item), draws=draws, ledger_in=start, ledger_out=ledger, consumed=consumed, reach=reach)


def check_epochs(planned: Sequence[PlannedMix]) -> None:
    """`DataError` that lists them when a subset would take its source through more epochs than it allows."""
    short = []
    for item, subset, store, before, tokens in planned_tokens(planned):
        cap = subset.max_epochs
        # Asked after each round of tokenising: only what is capped is worth counting.
        size = None if cap is None else size_of(store)
        if cap is not None and size is not None and tokens > cap * size - before:
            left = f"{'' if store.complete else 'about '}{max(0, cap * size - before):,}"
            epochs = f"{cap} epoch{'s' if cap > 1 else ''}"
            short.append(f"{item.recipe.key}, {subset.name}: {tokens:,} tokens wanted, {left} left within {epochs}")
    if short:
        raise DataError(
            f"not enough text, nothing was written:\n{listed(short)}\n"
            "Ask for fewer tokens, give more text, or raise max_epochs of these subsets."
        )


def size_of(store: TokenStore) -> int | None:
    """Tokens of a source: exact when it is all tokenised, else a high estimate from its first units, if any."""
    if store.complete:
        return total_tokens(store)
    if store.supply.unit_count is None or not store.records:
        return None
    return int(SIZE_ESTIMATE_MARGIN * total_tokens(store) / len(store.records) * store.supply.unit_count)
