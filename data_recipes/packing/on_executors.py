"""A build as stages of tasks: on several processes of this machine, on Slurm or on Ray, with the bytes of `build`.

    build_on(request, executor="slurm", tasks=500, executor_config=Path("slurm.yaml"))

Each stage does its share of a list that an earlier stage has written, so that all of them can be submitted before the
first has run: hash the files, tokenise a few units of each source, then as many as these show to be needed, then what
that estimate has missed; plan the rows; write them, read them again, finish. What the stages leave for each other is
in `OUT/work`, the tokens in the store, the rows beside the finished phases: a task that finds its share there skips it.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.executors.cluster import check_not_in_queue
from data_recipes.executors.run import ExecutorName, check_executor, run_stages
from data_recipes.executors.stage import Stage
from data_recipes.files import (
    has_recorded_size,
    matches_record,
    only_process,
    read_checked,
    write_checked,
)
from data_recipes.manifest import fingerprint_of
from data_recipes.packing.build import (
    JOBS,
    LOCK_NAME,
    begin_folder,
    busy,
    check_places,
    claim_places,
    finish_folder,
    is_finished,
    partial_of,
    row_plan,
)
from data_recipes.packing.job import Job, anywhere, files_of, is_built, job_of, local_sources
from data_recipes.packing.phase_manifest import details_of, file_tables, identity_of
from data_recipes.packing.plan import PlannedMix, check_epochs, plan_mixes, plan_phases, tokens_needed
from data_recipes.packing.plan_files import plan_as_json, plan_from_json, read_plan_file, write_store
from data_recipes.packing.request import BuildRequest
from data_recipes.packing.writer import note_of, write_shard
from data_recipes.reading.fetched import FetchedSupply, fetch_file, record_of
from data_recipes.reading.files import (
    Memory,
    hash_file,
    is_known,
    read_memory,
    remember,
)
from data_recipes.reading.listing import supply_as_json, supply_from_json
from data_recipes.reading.supply import LocalSupply
from data_recipes.rows.layout import shard_name
from data_recipes.tokens.encoders import choose_encoder
from data_recipes.tokens.store import TokenStore, wanted_files, wanted_units
from data_recipes.tokens.units import maps, record_path

# A task hashes so many bytes, or files, at a time, and keeps what it has found.
CHUNK_BYTES = 256 * 2**20
CHUNK_FILES = 1000
# Rounds of tokenising before the rows are planned: a few units of each source, as many as these show, and the rest.
ROUNDS = ("measure", "fill", "fill rest")
COMMAND_LOCK = ".command.lock"


def build_on(
    request: BuildRequest, *, executor: ExecutorName, tasks: int, executor_config: Path | None = None
) -> list[Path] | None:
    """Build what is asked with `tasks` tasks at once; returns the folders, or None where Slurm has yet to do the work.

    Given again after a stop or a failure, it goes on. `DataError` as of `build`, and for what an executor lacks.
    """
    check_executor(executor, tasks, executor_config)
    request = anywhere(request)
    check_places(request)
    claim_places(request)
    lock = request.out / LOCK_NAME
    submitted = executor == "slurm"
    with only_process(request.out / COMMAND_LOCK, busy(request)):
        with only_process(lock, busy(request)):
            check_not_in_queue(request.out / JOBS)
        # Slurm's tasks, which may begin before the last stage is submitted, hold the lock beside this command.
        with only_process(lock, busy(request), among_others=submitted):
            job = job_of(request, submitted=submitted)
            job.work.mkdir(exist_ok=True)
            asked = {recipe.key for recipe in request.recipes}
            folders = [request.out / recipe.folder for recipe in request.chain if recipe.key in asked]
            if job.finished.is_file() and not all(is_built(folder) for folder in folders):
                job.look_again()
                job = replace(job, attempt=job.attempt + 1)
            done = run_stages(
                stages_of(job),
                executor=executor,
                tasks=tasks,
                executor_config=executor_config,
                folder=job.jobs,
                progress=request.progress,
            )
    return folders if done else None


def stages_of(job: Job) -> list[Stage]:
    """The whole build. The stages follow from nothing that one of them finds."""

    def stage(name: str, work: Callable[..., None], *, alone: bool = False, **more: Any) -> Stage:
        return Stage(name, partial(_guarded, job, work), alone=alone, **more)

    stages = [
        stage("list files", _list_files, alone=True),
        stage("examine", _examine, done=partial(_examined, job), unit="chunk"),
    ]
    for round, name in enumerate(ROUNDS):
        if job.request.fetched is not None:
            stages.append(stage(f"files to {name}", partial(_list_fetches, round), alone=True))
            stages.append(stage(f"fetch to {name}", partial(_fetch, round), done=partial(_fetched, job, round)))
        stages.append(stage(f"units to {name}", partial(_list_units, round), alone=True))
        stages.append(stage(name, partial(_tokenise, round), done=partial(_tokenised, job, round), unit="unit"))
    return [
        *stages,
        stage("plan rows", _plan_rows, alone=True),
        stage("rows", _write_rows, done=partial(_written, job), unit="shard"),
        stage("check rows", _check_rows),
        stage("finish", _finish, alone=True),
    ]


def _guarded(job: Job, work: Callable[[Job, int, int], None], rank: int, tasks: int) -> None:
    """One task's work. What is wrong with anything that is there makes the next command look at all of it."""
    lock = only_process(job.request.out / LOCK_NAME, busy(job.request), among_others=True)
    try:
        with lock if job.submitted else nullcontext():
            work(job, rank, tasks)
    except DataError:
        job.look_again()
        raise
    finally:
        maps.close()


def _list_files(job: Job, rank: int, tasks: int) -> None:
    """Which files are to be hashed, in chunks."""
    known = read_memory(job.request.hash_memory)
    chunks: list[list[str]] = [[]]
    size = 0
    for path in dict.fromkeys(path for source in local_sources(job.request) for path in files_of(source)):
        if is_known(path, known):
            continue
        if chunks[-1] and (size + path.stat().st_size > CHUNK_BYTES or len(chunks[-1]) == CHUNK_FILES):
            chunks.append([])
            size = 0
        chunks[-1].append(str(path))
        size += path.stat().st_size
    write_checked(job.work / "files.json", {"chunks": [chunk for chunk in chunks if chunk]})


def _chunks(job: Job) -> list[tuple[Path, list[str]]]:
    """The files of each chunk, and where a task keeps their hashes."""
    chunks = read_plan_file(job.work / "files.json")["chunks"]
    return [(job.work / "examined" / f"{fingerprint_of(chunk)[:16]}.json", chunk) for chunk in chunks]


def _examine(job: Job, rank: int, tasks: int) -> None:
    """Hash files, so that no later stage does."""
    (job.work / "examined").mkdir(exist_ok=True)
    for kept, chunk in _chunks(job)[rank::tasks]:
        known: Memory = read_checked(kept) or {}
        paths = [Path(path) for path in chunk]
        fresh = {str(path.resolve()): hash_file(path) for path in paths if not is_known(path, known)}
        if fresh:
            write_checked(kept, {**known, **fresh})


def _examined(job: Job) -> tuple[int, int]:
    return _there([kept for kept, _ in _chunks(job)])


def _list_units(round: int, job: Job, rank: int, tasks: int) -> None:
    """Which units are tokenised next; before the first round the sources as all tasks will read them."""
    planned = _looked_at(job, first=round == 0 and job.request.fetched is None)
    needs = tokens_needed(planned)
    listed = job.work / "sources"
    listed.mkdir(exist_ok=True)
    for key, (store, _) in needs.items():
        assert isinstance(store.supply, LocalSupply | FetchedSupply)
        # Of fetched datasets more files may be here than in the round before.
        if round == 0 or isinstance(store.supply, FetchedSupply):
            write_checked(listed / f"{key}.json", supply_as_json(store.supply))
    check_epochs(planned)
    write_checked(job.units(round), {"units": [[store.key, number] for store, number in wanted_units(needs)]})


def _looked_at(job: Job, *, first: bool) -> list[PlannedMix]:
    """The mixes with their sources, which must be those of the `first` time."""
    if first:
        found = [read_checked(kept) or {} for kept, _ in _chunks(job)]
        if found:
            remember(job.request.hash_memory, {path: one for each in found for path, one in each.items()})
    planned = plan_mixes(job.request)
    if first:
        write_checked(job.work / "stores.json", {"keys": _keys(planned)})
    else:
        _check_unchanged(job, planned)
    return planned


def _list_fetches(round: int, job: Job, rank: int, tasks: int) -> None:
    """Which files of Hub datasets are fetched next."""
    planned = _looked_at(job, first=round == 0)
    found = {}
    for store, name in wanted_files(tokens_needed(planned)):
        assert isinstance(store.supply, FetchedSupply)
        listing = store.supply.listing
        # Two sources may read the same file.
        found[listing["hub"], listing["commit"], name] = [str(store.supply.listed), name]
    write_checked(job.work / f"fetch-{round}.json", {"files": list(found.values())})


def _to_fetch(job: Job, round: int) -> list[tuple[dict[str, Any], str]]:
    """The listing and the name of each file of a round."""
    files = read_plan_file(job.work / f"fetch-{round}.json")["files"]
    listings = {place: read_plan_file(Path(place)) for place, _ in files}
    return [(listings[place], name) for place, name in files]


def _fetch(round: int, job: Job, rank: int, tasks: int) -> None:
    """Fetch files of the list."""
    assert job.request.fetched is not None
    for listing, name in _to_fetch(job, round)[rank::tasks]:
        fetch_file(listing, name, job.request.fetched)


def _fetched(job: Job, round: int) -> tuple[int, int]:
    assert job.request.fetched is not None
    return _there([record_of(listing, name, job.request.fetched) for listing, name in _to_fetch(job, round)])


def _keys(planned: Sequence[PlannedMix]) -> dict[str, str]:
    """The key of each source by its label: it changes with the contents."""
    return {store.source.label: store.key for mix in planned for store in mix.stores}


def _check_unchanged(job: Job, planned: Sequence[PlannedMix]) -> None:
    before, now = read_plan_file(job.work / "stores.json")["keys"], _keys(planned)
    changed = [label for label in sorted({*before, *now}) if before.get(label) != now.get(label)]
    if changed:
        raise DataError(
            f"{', '.join(changed[:3])}: its files changed while this build was running. Give the same command again, "
            "when nobody writes to them: what was made of the other sources is kept."
        )


def _tokenise(round: int, job: Job, rank: int, tasks: int) -> None:
    """Make units of the list."""
    request = job.request
    mine = read_plan_file(job.units(round))["units"][rank::tasks]
    if not mine:
        return
    encoder, note = choose_encoder(request.loaded_tokenizer, dropout=request.dropout, seed=request.base_seed)
    stores: dict[str, TokenStore] = {}
    for key, number in mine:
        if key not in stores:
            supply = supply_from_json(read_plan_file(job.work / "sources" / f"{key}.json"))
            stores[key] = TokenStore(
                supply,
                request.loaded_tokenizer,
                request.store_folder,
                request.base_seed,
                request.bos,
                request.dropout,
                encoder,
                note,
                look=False,
            )
        stores[key].tokenise_unit(number)


def _tokenised(job: Job, round: int) -> tuple[int, int]:
    units = read_plan_file(job.units(round))["units"]
    return _there([record_path(job.request.store_folder / key, number) for key, number in units])


def _plan_rows(job: Job, rank: int, tasks: int) -> None:
    """What each row holds, for the tasks that write them; tokenises what the rounds have left."""
    phases = plan_phases(job.request)
    _check_unchanged(job, phases)
    folder = job.work / "plan"
    folder.mkdir(exist_ok=True)
    identities = [identity_of(phase, job.request) for phase in phases]
    places = [job.request.out / phase.recipe.folder for phase in phases]
    # All are checked before the first is written.
    finished = [is_finished(*pair) for pair in zip(places, identities, strict=True)]
    stores: dict[str, TokenStore] = {}
    shards: list[tuple[str, int]] = []
    for phase, place, identity, done in zip(phases, places, identities, finished, strict=True):
        if done:
            continue
        begin_folder(place, identity)
        stores |= {store.key: store for store in phase.stores}
        plan = row_plan(phase, job.request)
        described = {
            "plan": plan_as_json(plan),
            "identity": identity,
            "details": details_of(phase, job.request.loaded_tokenizer),
            "files": file_tables(phase),
        }
        write_checked(folder / f"{place.name}.json", described)
        shards += [(place.name, number) for number in range(plan.shards)]
    for store in stores.values():
        write_store(folder, store)
    write_checked(job.work / "rows.json", {"shards": shards})


def _my_shards(job: Job, rank: int, tasks: int) -> list[tuple[Path, list[int]]]:
    """A task's share of the shards: the phases' folders, and their shards in order.

    Shards that follow each other, not every so many: they read the same stretch of each source, so that nearly every
    unit is hashed and every window of best fit solved by one task, not by all.
    """
    shards = read_plan_file(job.work / "rows.json")["shards"]
    mine = shards[rank * len(shards) // tasks : (rank + 1) * len(shards) // tasks]
    numbers: dict[str, list[int]] = {}
    for name, number in mine:
        numbers.setdefault(name, []).append(number)
    return [(job.request.out / name, one) for name, one in numbers.items()]


def _plan_of(job: Job, place: Path) -> dict[str, Any]:
    return read_plan_file(job.work / "plan" / f"{place.name}.json")


def _write_rows(job: Job, rank: int, tasks: int) -> None:
    for place, numbers in _my_shards(job, rank, tasks):
        if is_built(place):
            continue
        content = _plan_of(job, place)["plan"]
        plan = plan_from_json(content, stores=job.work / "plan", root=job.request.store_folder)
        for number in numbers:
            write_shard(plan, partial_of(place), number)


def _written(job: Job) -> tuple[int, int]:
    shards = read_plan_file(job.work / "rows.json")["shards"]
    return _there([note_of(partial_of(job.request.out / name), shard_name(number)) for name, number in shards])


def _check_rows(job: Job, rank: int, tasks: int) -> None:
    """Read what was written once more: between a task and the last stage lie days, networks and other machines."""
    for place, numbers in _my_shards(job, rank, tasks):
        for number in [] if is_built(place) else numbers:
            _record(partial_of(place), number, content=True)


def _record(partial: Path, number: int, *, content: bool) -> dict[str, Any]:
    """The hash and size of a shard; `DataError` where it is not what was written."""
    name = shard_name(number)
    record = read_checked(note_of(partial, name))
    if record is None or not (matches_record if content else has_recorded_size)(partial / name, record):
        note_of(partial, name).unlink(missing_ok=True)
        raise DataError(
            f"{partial / name}: {'it or its record' if record is None else 'it'} is missing or not what was written "
            "there. Give the same command again: it is written again."
        )
    return record


def _finish(job: Job, rank: int, tasks: int) -> None:
    """Give each phase its manifest and its name."""
    shards = read_plan_file(job.work / "rows.json")["shards"]
    for name in dict.fromkeys(name for name, _ in shards):
        place = job.request.out / name
        if is_built(place):
            continue
        plan = _plan_of(job, place)
        numbers = [number for other, number in shards if other == name]
        hashes = {shard_name(number): _record(partial_of(place), number, content=False) for number in numbers}
        finish_folder(place, hashes, identity=plan["identity"], details=plan["details"], files=plan["files"])
    job.jobs.mkdir(parents=True, exist_ok=True)
    job.finished.touch()


def _there(paths: Sequence[Path]) -> tuple[int, int]:
    return sum(path.is_file() for path in paths), len(paths)
