"""Text to packed rows: read, tokenise, draw by the ledger, pack, mix, write rows in training order.

    build_phases(published_recipes(), Path("data"), tokenizer=Path("tokenizer"), store=Path("store"), seed=0)

A phase is a function of its sources' contents, the recipe, the tokenizer and the seed: the same bytes for any
number of workers, interrupted or not.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_recipes.errors import DataError, listed
from data_recipes.executors.cluster import check_not_in_queue
from data_recipes.files import only_process
from data_recipes.manifest import (
    claim_folder,
    fingerprint_of,
    folder_state,
    fsync_tree,
    read_manifest,
    write_manifest,
)
from data_recipes.packing.phase_manifest import details_of, file_tables, identity_of
from data_recipes.packing.plan import PlannedPhase, plan_phases
from data_recipes.packing.request import BuildRequest
from data_recipes.packing.writer import PhasePlan, rows_per_shard, write_rows
from data_recipes.reading.fetched import KIND as FETCHED_KIND
from data_recipes.recipes.recipe import Recipe
from data_recipes.rows.layout import KIND, SOURCES_NAME, write_for_datasets
from data_recipes.tokens.units import maps

PHASES_KIND, STORE_KIND = "packed-phases", "token-store"
LOCK_NAME = ".build.lock"
# Below OUT: what tasks of an executor leave for each other, and of these the marks of what is done.
WORK = "work"
JOBS = f"{WORK}/jobs"


def build_phases(recipes: Sequence[Recipe], out: Path, **options: Any) -> list[Path]:
    """Build each recipe into its own folder below `out`; `options` as of `BuildRequest`. Returns the folders."""
    return build(BuildRequest(recipes, out, **options))


def build(request: BuildRequest) -> list[Path]:
    """Build what is asked. A finished folder of the same build is left as it is; another's is a `DataError`."""
    check_places(request)
    claim_places(request)
    check_not_in_queue(request.out / JOBS)
    with only_process(request.out / LOCK_NAME, busy(request)), closing(maps):
        phases = plan_phases(request)
        folders = [request.out / phase.recipe.folder for phase in phases]
        identities = [identity_of(phase, request) for phase in phases]
        # All are checked before the first is written.
        finished = [is_finished(*pair) for pair in zip(folders, identities, strict=True)]
        for phase, folder, identity, done in zip(phases, folders, identities, finished, strict=True):
            if not done:
                write_phase(phase, request, folder, identity)
        return folders


def busy(request: BuildRequest) -> DataError:
    """Two builds must not write into each other's shards."""
    return DataError(f"{request.out}: another build is writing here. Wait for it, or choose another --out.")


def check_places(request: BuildRequest) -> None:
    """`DataError` where a build could not write, or has no tokenizer; writes nothing."""
    for folder, kind in _places(request):
        folder_state(folder, kind=kind)
    _ = request.loaded_tokenizer


def claim_places(request: BuildRequest) -> None:
    """Mark the folders that a build writes to as its own; `DataError` where one holds anything else."""
    for folder, kind in _places(request):
        claim_folder(folder, kind=kind)


def _places(request: BuildRequest) -> list[tuple[Path, str]]:
    places = [(request.out, PHASES_KIND), (request.store_folder, STORE_KIND)]
    return places if request.fetched_folder is None else [*places, (request.fetched_folder, FETCHED_KIND)]


def write_phase(phase: PlannedPhase, request: BuildRequest, folder: Path, identity: dict[str, Any]) -> None:
    """Write one planned phase; shards that a killed run has finished are kept."""
    plan = row_plan(phase, request)
    partial = begin_folder(folder, identity)
    total = plan.rows * plan.context_length
    quiet = None if request.progress and total >= 2**22 else True
    with tqdm(desc=folder.name, total=total, unit="tok", unit_scale=True, disable=quiet) as bar:
        hashes = write_rows(plan, partial, workers=request.threads, progress=bar)
    details = details_of(phase, request.loaded_tokenizer)
    finish_folder(folder, hashes, identity=identity, details=details, files=file_tables(phase))


def row_plan(phase: PlannedPhase, request: BuildRequest) -> PhasePlan:
    """What the rows of a planned phase are written from."""
    tokenizer = request.loaded_tokenizer
    pad_id = tokenizer.eos_id if tokenizer.pad_id is None else tokenizer.pad_id
    length = phase.recipe.context_length
    return PhasePlan(phase.draws, length, phase.stores, pad_id, rows_per_shard(length))


def partial_of(folder: Path) -> Path:
    """Where a phase is written until it is finished."""
    return folder.parent / f".{folder.name}.partial"


def begin_folder(folder: Path, identity: Mapping[str, Any]) -> Path:
    """The place where the shards of a phase are written; shards of another phase of this name go."""
    partial = partial_of(folder)
    fingerprint = fingerprint_of(identity)
    note = partial / ".identity"
    if partial.exists() and (not note.is_file() or note.read_text() != fingerprint):
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    note.write_text(fingerprint)
    for left_over in partial.glob(".*.partial"):
        left_over.unlink()
    return partial


def finish_folder(
    folder: Path,
    hashes: Mapping[str, Mapping[str, Any]],
    *,
    identity: Mapping[str, Any],
    details: Mapping[str, Any],
    files: Sequence[Mapping[str, Any]],
) -> None:
    """Give a phase, all of whose shards are written, what lies beside them, and its name."""
    partial = partial_of(folder)
    (partial / SOURCES_NAME).write_text(json.dumps(files, ensure_ascii=False, indent=1) + "\n")
    fingerprint = fingerprint_of(identity)
    write_for_datasets(partial, title=folder.name, shards=sorted(hashes), fingerprint=fingerprint)
    for hidden in partial.glob(".*"):
        hidden.unlink()
    write_manifest(partial, kind=KIND, known_hashes=hashes, **identity, **details)
    fsync_tree(partial)
    partial.rename(folder)


def is_finished(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the folder holds this very phase; `DataError`, with what differs, when it holds something else."""
    if folder_state(folder, kind=KIND) == "new":
        return False
    manifest = read_manifest(folder, kind=KIND)
    inputs, earlier = identity["inputs"], manifest["inputs"]
    changed = [
        f"{name}: {'its contents changed' if name in inputs and name in earlier else 'in one of the two only'}"
        for name in sorted({*inputs, *earlier})
        if inputs.get(name) != earlier.get(name)
    ]
    # Rows are the same however many a file holds.
    config = json.loads(json.dumps(identity["config"])) | {"rows_per_shard": manifest["config"]["rows_per_shard"]}
    changed += [
        f"{key}: {_short(manifest['config'].get(key))} then, {_short(config.get(key))} now"
        for key in sorted({*config, *manifest["config"]})
        if config.get(key) != manifest["config"].get(key) and not (key == "ledger_in" and changed)
    ]
    if manifest["seed"] != identity["seed"]:
        changed.append(f"seed: {manifest['seed']} then, {identity['seed']} now")
    if changed:
        raise DataError(f"{folder}: built from something else:\n{listed(changed)}\nRemove it, or choose another --out.")
    return True


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
