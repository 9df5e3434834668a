"""Text to packed rows: read, tokenise, draw by the ledger, pack, mix, write rows in training order.

    build_phases(published_recipes(), Path("data"), tokenizer=Path("tokenizer"), store=Path("store"), seed=0)

A phase is a function of its sources' contents, the recipe, the tokenizer and the seed: the same bytes for any
number of workers, interrupted or not.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_recipes.errors import DataError
from data_recipes.manifest import MANIFEST_NAME, fingerprint_of, fsync_tree, read_manifest, write_manifest
from data_recipes.packing.missing import Missing
from data_recipes.packing.phase_manifest import config_of, counts_of, details_of, file_tables, inputs_of
from data_recipes.packing.plan import PACKINGS, Packing, PlannedPhase, plan_mixes, plan_phases
from data_recipes.packing.writer import PhasePlan, write_rows
from data_recipes.recipes.phases import PUBLISHED_KEYS
from data_recipes.recipes.recipe import Recipe
from data_recipes.rows.layout import SOURCES_NAME, write_for_datasets
from data_recipes.rows.reader import KIND
from data_recipes.tokens.tokenizer import load_tokenizer
from data_recipes.tokens.units import maps


def build_phases(
    recipes: Sequence[Recipe],
    out: Path,
    *,
    tokenizer: str | Path,
    store: Path,
    seed: int = 0,
    workers: int = 1,
    missing: Missing = "fail",
    packing: Packing = "concat",
    bos: bool = False,
    dropout: float = 0.0,
    before: Sequence[Recipe] = (),
    progress: bool = True,
) -> list[Path]:
    """Build each recipe into its own folder below `out`; returns the folders, in order.

    `store` keeps the tokens of each source and is shared by all phases and runs. `before`: recipes whose draws
    come first without being built, so that one phase alone gets the rows it has in the whole curriculum.
    `missing`: what to do about a source that cannot be read (`fail`; `skip` its tokens; `substitute` other
    sources of its domain). `packing`: `concat` (documents cut at the context length, the original's) or
    `best_fit` (no document cut that fits). `bos`: put BOS before every document (the original sets only EOS
    after it). `dropout`: rate of BPE-dropout (the report uses it; its rate is not public).

    A finished folder of the same build is left as it is; another's is a `DataError`.
    """
    if packing not in PACKINGS:
        raise DataError(f"packing '{packing}'; expected one of {', '.join(PACKINGS)}.")
    loaded = load_tokenizer(tokenizer)
    names = [recipe.folder for recipe in recipes]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"two recipes are called {', '.join(twice)}; each needs a name of its own.")
    out.mkdir(parents=True, exist_ok=True)
    with only_one(out), closing(maps):
        chain = in_order([*before, *recipes])
        planned = plan_mixes(
            chain,
            tokenizer=loaded,
            store=store,
            seed=seed,
            bos=bos,
            dropout=dropout,
            workers=workers,
            missing=missing,
            progress=progress,
            out=out,
        )
        settled = plan_phases(planned, tokenizer=loaded, seed=seed, packing=packing, workers=workers, progress=progress)
        phases = [phase for phase in settled if phase.recipe.folder in names]
        for phase in phases:
            check_finished(phase, out / phase.recipe.folder)
        return [write_phase(phase, out / phase.recipe.folder, workers=workers, progress=progress) for phase in phases]


def in_order(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Published phases in the order of training, then the others as they were given, each behind the one it comes
    `after`."""
    places = {key: place for place, key in enumerate(PUBLISHED_KEYS)}
    waiting = sorted(recipes, key=lambda recipe: places.get(recipe.key, len(places)))
    ordered: list[Recipe] = []
    while waiting:
        keys = {recipe.key for recipe in waiting}
        ready = next((recipe for recipe in waiting if recipe.after not in keys), None)
        if ready is None:
            raise DataError(f"{', '.join(sorted(keys))}: each comes after another of them; one must be the first.")
        ordered.append(ready)
        waiting.remove(ready)
    return ordered


def write_phase(phase: PlannedPhase, folder: Path, *, workers: int, progress: bool) -> Path:
    """Write one planned phase; shards that a killed run has finished are kept."""
    if folder.exists():
        return folder
    plan = PhasePlan.of(
        phase.draws,
        phase.recipe.context_length,
        stores=phase.stores,
        pad_id=phase.tokenizer.eos_id if phase.tokenizer.pad_id is None else phase.tokenizer.pad_id,
    )
    inputs = inputs_of(phase)
    config = config_of(phase, rows_per_shard=plan.rows_per_shard)
    partial = folder.parent / f".{folder.name}.partial"
    identity = fingerprint_of({"inputs": inputs, "config": config, "seed": phase.seed})
    note = partial / ".identity"
    if partial.exists() and (not note.is_file() or note.read_text() != identity):
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    note.write_text(identity)
    total = plan.rows * plan.context_length
    small = total < 2**22
    with tqdm(
        desc=folder.name, total=total, unit="tok", unit_scale=True, disable=None if progress and not small else True
    ) as bar:
        hashes = write_rows(plan, partial, workers=workers, progress=bar)
    (partial / SOURCES_NAME).write_text(json.dumps(file_tables(phase), ensure_ascii=False, indent=1) + "\n")
    write_for_datasets(partial, title=phase.recipe.folder, shards=sorted(hashes), fingerprint=identity)
    for hidden in partial.glob(".*"):
        hidden.unlink()
    write_manifest(
        partial,
        kind=KIND,
        inputs=inputs,
        config=config,
        counts=counts_of(phase, shards=plan.shards),
        seed=phase.seed,
        known_hashes=hashes,
        **details_of(phase),
    )
    fsync_tree(partial)
    partial.rename(folder)
    return folder


def check_finished(phase: PlannedPhase, folder: Path) -> None:
    """`DataError` when the folder holds something else than this phase; says what differs."""
    if not folder.exists():
        return
    if not (folder / MANIFEST_NAME).is_file():
        raise DataError(f"{folder}: exists and is not a built phase. Choose another --out, or remove it.")
    manifest = read_manifest(folder, kind=KIND)
    inputs, earlier = inputs_of(phase), manifest["inputs"]
    changed = [
        f"{name}: {'its contents changed' if name in inputs and name in earlier else 'in one of the two only'}"
        for name in sorted({*inputs, *earlier})
        if inputs.get(name) != earlier.get(name)
    ]
    config = json.loads(json.dumps(config_of(phase, rows_per_shard=manifest["config"]["rows_per_shard"])))
    changed += [
        f"{key}: {_short(manifest['config'].get(key))} then, {_short(config.get(key))} now"
        for key in sorted({*config, *manifest["config"]})
        if config.get(key) != manifest["config"].get(key) and not (key == "ledger_in" and changed)
    ]
    if manifest["seed"] != phase.seed:
        changed.append(f"seed: {manifest['seed']} then, {phase.seed} now")
    if changed:
        lines = "\n".join(f"  {line}" for line in changed)
        raise DataError(f"{folder}: built from something else:\n{lines}\nRemove it, or choose another --out.")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two builds do not write into each other's shards."""
    with (out / ".build.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{out}: another build is writing here. Wait for it, or choose another --out.") from error
        yield
