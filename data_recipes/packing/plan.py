"""What a build will do, settled before a row is written: sources, rows of each subset, positions, shortfalls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from data_recipes.errors import DataError
from data_recipes.ordering import seed_of
from data_recipes.packing.draw import Draw, best_fit_draw, concat
from data_recipes.packing.ledger import Drawn, drawn_by, is_built
from data_recipes.packing.missing import MISSING_MODES, Missing, ReadableMix, readable_mix
from data_recipes.packing.stream import LONG_HORIZON, Position, total_tokens
from data_recipes.reading.supply import open_supply
from data_recipes.recipes.phases import phase_folder
from data_recipes.recipes.quotas import row_quotas
from data_recipes.recipes.recipe import Recipe, Subset
from data_recipes.recipes.source import Source
from data_recipes.tokens.encoders import choose_encoder
from data_recipes.tokens.store import TokenStore, fill_stores
from data_recipes.tokens.tokenizer import LoadedTokenizer

Packing = Literal["concat", "best_fit"]
PACKINGS: tuple[Packing, ...] = ("concat", "best_fit")
STRATEGIES: dict[Packing, Callable[..., Draw]] = {"concat": concat, "best_fit": best_fit_draw}
# Units are of about the same size, compressed files less so: only what is short by more than this is refused early.
GENEROUS = 1.5
Ledger = Mapping[str, Position]
NOTHING_DRAWN = Drawn({}, {}, ())


@dataclass(frozen=True)
class PlannedMix:
    """A mix with the rows of each subset; `long` is the length from which documents are preferred, if any.

    `previous` is the mix of this build that it continues; `start` what builds before this one have drawn.
    `context_lengths`: of all mixes up to this one."""

    mix: ReadableMix
    rows: tuple[int, ...]
    long: int | None
    previous: int | None
    start: Drawn
    context_lengths: tuple[int, ...]

    @property
    def recipe(self) -> Recipe:
        return self.mix.recipe


@dataclass(frozen=True)
class PlannedPhase:
    """A mix with its draws, and the position of each of its sources before and after (by the store's key)."""

    planned: PlannedMix
    tokenizer: LoadedTokenizer
    seed: int
    packing: Packing
    draws: tuple[Draw, ...]
    ledger_in: Ledger
    ledger_out: Ledger
    consumed: Mapping[str, int]

    @property
    def recipe(self) -> Recipe:
        return self.planned.recipe

    @property
    def subsets(self) -> tuple[Subset, ...]:
        return self.planned.mix.subsets

    @property
    def stores(self) -> list[TokenStore]:
        """Each store once, in the order of the subsets."""
        return list({store.key: store for store in self.planned.mix.stores}.values())


def plan_mixes(
    chain: Sequence[Recipe],
    *,
    tokenizer: LoadedTokenizer,
    store: Path,
    seed: int,
    bos: bool,
    dropout: float,
    workers: int,
    missing: Missing,
    progress: bool,
    out: Path | None = None,
) -> list[PlannedMix]:
    """Look at the sources of every recipe and share out the rows. Reads and hashes files, tokenises nothing.

    A recipe that comes `after` one that is not in the chain continues where that one's folder in `out` stopped.
    """
    if missing not in MISSING_MODES:
        raise DataError(f"missing '{missing}'; expected one of {', '.join(MISSING_MODES)}.")
    if bos and tokenizer.bos_id is None:
        raise DataError(f"{tokenizer.location}: BOS is asked for, but the tokenizer has no bos_token.")
    encoder, note = choose_encoder(tokenizer, dropout=dropout, seed=seed)
    stores: dict[str, TokenStore | Exception] = {}
    same: dict[str, TokenStore] = {}
    with tqdm(desc="look at sources", unit="source", disable=None if progress else True, leave=False) as bar:

        def store_of(source: Source) -> TokenStore:
            key = source.model_dump_json() + str(source._folder)
            if key not in stores:
                try:
                    supply = open_supply(source, workers=workers, memory=store / ".file-hashes.json")
                    opened = TokenStore(supply, tokenizer, store, seed, bos, dropout, encoder, note)
                    # The same files may be given by two paths: they are one source, with one position.
                    stores[key] = same.setdefault(opened.key, opened)
                except DataError as error:
                    stores[key] = error
                bar.update()
            found = stores[key]
            if isinstance(found, Exception):
                raise found
            return found

        planned: list[PlannedMix] = []
        for index, recipe in enumerate(chain):
            mix = readable_mix(recipe, store_of, missing)
            rows = row_quotas(
                [subset.tokens for subset in mix.subsets],
                [subset.domain for subset in mix.subsets],
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
                if out is None or not is_built(out, recipe.after):
                    raise DataError(
                        f"{recipe.name}: after '{recipe.after}': no such recipe is given to this build or built in "
                        f"{out}. Build it there first, or give both."
                    )
                folder = out / phase_folder(recipe.after)
                start = drawn_by(folder, recipe.name, tokenizer=tokenizer, seed=seed, bos=bos, dropout=dropout)
            lengths = start.context_lengths if previous is None else planned[previous].context_lengths
            length = recipe.context_length
            # After phases of a shorter context, documents that did not fit one of their rows come first.
            long = next((shorter + 1 for shorter in reversed(lengths) if shorter < length), None)
            planned.append(PlannedMix(mix, tuple(rows), long, previous, start, (*lengths, length)))
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


def tokens_needed(planned: Sequence[PlannedMix]) -> dict[str, tuple[TokenStore, int]]:
    """How far each source must be tokenised: an upper bound of what the draws touch."""
    after: list[dict[str, int]] = []
    needs: dict[str, tuple[TokenStore, int]] = {}
    for item in planned:
        position = dict(after[item.previous] if item.previous is not None else item.start.consumed)
        for store, rows in zip(item.mix.stores, item.rows, strict=True):
            tokens = rows * item.recipe.context_length
            if tokens == 0:
                continue
            start = position.get(store.key, 0)
            position[store.key] = start + tokens
            reach = start + tokens * (1 if item.long is None else LONG_HORIZON + 1)
            needs[store.key] = (store, max(reach, needs.get(store.key, (store, 0))[1]))
        after.append(position)
    return needs


def plan_phases(
    planned: Sequence[PlannedMix],
    *,
    tokenizer: LoadedTokenizer,
    seed: int,
    packing: Packing,
    workers: int,
    progress: bool,
) -> list[PlannedPhase]:
    """Tokenise what the mixes need, refuse what there is not enough of, and settle every draw."""
    needs = tokens_needed(planned)
    # One unit of a source tells roughly how much there is: a clear shortfall need not wait for all of them.
    capped = {
        store.key
        for item in planned
        for subset, store in zip(item.mix.subsets, item.mix.stores, strict=True)
        if subset.max_epochs is not None
    }
    first_units = {key: (store, 1) for key, (store, _) in needs.items() if key in capped}
    fill_stores(first_units, workers=workers, progress=False)
    check_epochs(planned)
    fill_stores(needs, workers=workers, progress=progress)
    check_epochs(planned)
    phases: list[PlannedPhase] = []
    for item in planned:
        before = phases[item.previous] if item.previous is not None else None
        phases.append(_settle(item, before, tokenizer=tokenizer, seed=seed, packing=packing))
    return phases


def _settle(
    item: PlannedMix, before: PlannedPhase | None, *, tokenizer: LoadedTokenizer, seed: int, packing: Packing
) -> PlannedPhase:
    ledger: dict[str, Position] = dict(before.ledger_out if before else item.start.positions)
    consumed: dict[str, int] = dict(before.consumed if before else item.start.consumed)
    start = dict(ledger)
    draws: list[Draw] = []
    for subset, store, rows in zip(item.mix.subsets, item.mix.stores, item.rows, strict=True):
        draw = STRATEGIES[packing](
            store,
            ledger.get(store.key, Position()),
            rows,
            item.recipe.context_length,
            seed=seed_of(seed, item.recipe.key, subset.name),
            long=item.long,
        )
        draws.append(draw)
        ledger[store.key] = draw.after
        consumed[store.key] = consumed.get(store.key, 0) + draw.tokens
    return PlannedPhase(
        planned=item,
        tokenizer=tokenizer,
        seed=seed,
        packing=packing,
        draws=tuple(draws),
        ledger_in=start,
        ledger_out=ledger,
        consumed=consumed,
    )


def check_epochs(planned: Sequence[PlannedMix]) -> None:
    """`DataError` with a table when a subset would take its source through more epochs than it allows."""
    taken: list[dict[str, int]] = []
    short = []
    for item in planned:
        so_far = dict(taken[item.previous] if item.previous is not None else item.start.consumed)
        for subset, store, rows in zip(item.mix.subsets, item.mix.stores, item.rows, strict=True):
            wanted = rows * item.recipe.context_length
            so_far[store.key] = so_far.get(store.key, 0) + wanted
            cap = subset.max_epochs
            size = size_of(store)
            if cap is None or size is None:
                continue
            room = cap * size - (so_far[store.key] - wanted)
            if wanted > room:
                left = f"{'' if store.complete else 'about '}{max(0, room):,}"
                epochs = f"{cap} epoch{'s' if cap > 1 else ''}"
                short.append((item.recipe.key, subset.name, f"{wanted:,}", left, epochs))
        taken.append(so_far)
    if short:
        raise DataError(
            "not enough text, nothing was written:\n"
            + _table(("recipe", "subset", "tokens wanted", "left", "within"), short)
            + "\nAsk for fewer tokens, give more text, or raise max_epochs of these subsets."
        )


def size_of(store: TokenStore) -> int | None:
    """Tokens of a source: exact when it is all tokenised, else a generous guess from its first units, if any."""
    if store.complete:
        return total_tokens(store)
    if store.supply.unit_count is None or not store.records:
        return None
    return int(GENEROUS * total_tokens(store) / len(store.records) * store.supply.unit_count)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    )
