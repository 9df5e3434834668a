"""Text to packed rows: read, tokenise, draw by the ledger, pack, mix, write rows in training order.

    build_phases(published_recipes(), Path("data"), tokenizer=Path("tokenizer"), store=Path("store"), seed=0)

A phase is a function of its sources' contents, the recipe, the tokenizer and the seed: the same bytes for any
number of workers, interrupted or not.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from data_recipes.build_plan import PlannedPhase, plan_phases
from data_recipes.errors import DataError
from data_recipes.manifest import (
    MANIFEST_NAME,
    fingerprint_of,
    fsync_tree,
    read_manifest,
    write_manifest,
)
from data_recipes.reader import KIND
from data_recipes.recipe import Recipe
from data_recipes.row_writer import PhasePlan, write_rows
from data_recipes.tokenise import load_tokenizer

Missing = Literal["fail", "skip", "substitute"]
SOURCES_NAME = "sources.json"


def build_phases(
    recipes: Sequence[Recipe],
    out: Path,
    *,
    tokenizer: str | Path,
    store: Path,
    seed: int = 0,
    workers: int = 1,
    missing: Missing = "fail",
    before: Sequence[Recipe] = (),
    progress: bool = True,
) -> list[Path]:
    """Build each recipe into its own folder below `out`; returns the folders, in order.

    `store` keeps the tokens of each source and is shared by all phases and runs. `before`: recipes whose draws
    come first without being built, so that one phase alone gets the rows it has in the whole curriculum.
    `missing`: what to do about a source that cannot be read (`fail`; `skip` its tokens; `substitute` other
    sources of its domain). A finished folder of the same build is left as it is; one of another build is a
    `DataError`.
    """
    loaded = load_tokenizer(tokenizer)
    out.mkdir(parents=True, exist_ok=True)
    with only_one(out):
        phases = plan_phases(
            recipes,
            tokenizer=loaded,
            store=store,
            seed=seed,
            workers=workers,
            missing=missing,
            before=before,
            progress=progress,
        )
        for phase in phases:
            check_finished(phase, out / phase.folder_name)
        return [write_phase(phase, out / phase.folder_name, workers=workers, progress=progress) for phase in phases]


def write_phase(phase: PlannedPhase, folder: Path, *, workers: int, progress: bool) -> Path:
    """Write one planned phase; shards that a killed run has finished are kept."""
    if folder.exists():
        return folder
    partial = folder.parent / f".{folder.name}.partial"
    identity = fingerprint_of(phase.identity())
    note = partial / ".identity"
    if partial.exists() and (not note.is_file() or note.read_text() != identity):
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    note.write_text(identity)
    plan = PhasePlan.of(phase.draws, phase.recipe.context_length, phase.stores)
    total = plan.rows * plan.context_length
    with tqdm(desc=folder.name, total=total, unit="tok", unit_scale=True, disable=not progress or total < 2**22) as bar:
        hashes = write_rows(plan, partial, workers=workers, progress=bar)
    sources = partial / SOURCES_NAME
    sources.write_text(json.dumps(phase.source_tables(), ensure_ascii=False, separators=(",", ":")) + "\n")
    for hidden in partial.glob(".*"):
        hidden.unlink()
    write_manifest(
        partial,
        kind=KIND,
        inputs=phase.inputs(),
        config=phase.config(rows_per_shard=plan.rows_per_shard),
        counts=phase.counts(shards=plan.shards),
        seed=phase.seed,
        known_hashes=hashes,
        **phase.extra(),
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
    inputs = phase.inputs()
    changed = [
        f"{name}: {'contents changed' if name in manifest['inputs'] and name in inputs else 'in one build only'}"
        for name in sorted(set(inputs) | set(manifest["inputs"]))
        if inputs.get(name) != manifest["inputs"].get(name)
    ]
    config = phase.config(rows_per_shard=manifest["config"].get("rows_per_shard", 0))
    changed += [
        f"{key}: {_short(manifest['config'].get(key))} then, {_short(config.get(key))} now"
        for key in sorted(set(config) | set(manifest["config"]))
        if json.loads(json.dumps(config.get(key))) != manifest["config"].get(key)
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
    path = out / ".build.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{out}: another build is writing here. Wait for it, or choose another --out.") from error
        yield
