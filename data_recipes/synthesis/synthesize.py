"""Seeds to samples: a kind of document asked of a model, parsed, verified, cleaned; every seed with its verdict.

The result is a function of seeds, kind, settings and the server's answers: the same bytes for any number of tasks and
requests at a time, stopped and continued or not.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_recipes.cleaning.config import CleaningConfig, load_cleaning_config
from data_recipes.cleaning.pipeline.inputs import (
    InputSource,
    Inventory,
    check_apart,
    check_same_as_before,
    keep_inventory,
    look_at,
)
from data_recipes.cleaning.pipeline.unit_files import PARTIAL, unit_name
from data_recipes.endpoint.address import base_url
from data_recipes.endpoint.client import check_endpoint
from data_recipes.errors import DataError, nearest
from data_recipes.executors.run import ExecutorName, check_executor, run_stages
from data_recipes.executors.stage import Stage
from data_recipes.files import only_process
from data_recipes.manifest import MANIFEST_NAME, claim_folder, folder_state, read_manifest, verify_files
from data_recipes.registry import named_subclasses
from data_recipes.synthesis import progress as so_far
from data_recipes.synthesis.cleaned import check_cleaning, cleaning_stages
from data_recipes.synthesis.kinds.base import Checks, Kind
from data_recipes.synthesis.making import made_schema, make_samples
from data_recipes.synthesis.run import KIND, SAMPLES_FOLDER, Run, Server
from data_recipes.synthesis.samples import write_samples
from data_recipes.synthesis.seeds import check_columns, count_seeds
from data_recipes.synthesis.summary import LOCK_NAME, REPORT_NAME, SUMMARY_NAME, DrawReport, finish, made_for, made_from

DEFAULT_CLEANING = "synthetic"


def kinds() -> dict[str, type[Kind]]:
    """Every kind by its name."""
    return named_subclasses(Kind, elsewhere=True)  # type: ignore[type-abstract]


def prepare(
    kind: str,
    inputs: Sequence[InputSource],
    out: Path,
    *,
    model: str,
    server: Server,
    checks: Checks,
    settings: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    cleaning: CleaningConfig | None = None,
    limit: int | None = None,
    votes: int = 1,
    prices: tuple[float, float] | None = None,
    again: bool = False,
) -> Run:
    """A run, checked as far as that is possible without reading seeds or asking the server.

    `settings`: sampling and the kind's own options. `again`: ask again what the server had no answer to.
    """
    known = kinds()
    if kind not in known:
        raise DataError(f"no kind '{kind}'.{nearest(kind, known)}")
    chosen = dict(settings or {})
    made = known[kind](**{name: chosen.pop(name) for name in list(chosen) if name in known[kind].options})
    for name in ("model", "messages", "stream", "n", "seed"):
        if name in chosen:
            why = "every draw has a seed of its own" if name == "seed" else "that is up to this command"
            raise DataError(f"--set {name}: cannot be set; {why}.")
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: expected at least 1.")
    if votes < 1:
        raise DataError(f"--votes {votes}: expected at least 1.")
    if votes > 1 and made.final_answer is None:
        raise DataError(f"--votes {votes}: {kind} has no final answer that its draws could agree on. Leave it out.")
    run = Run(
        kind=made,
        inputs=tuple(one.absolute() for one in inputs),
        out=Path(out).absolute(),
        model=model,
        server=server,
        checks=checks,
        cleaning=cleaning or load_cleaning_config(DEFAULT_CLEANING),
        settings={**made.settings, **chosen},
        columns=dict(columns or {}),
        limit=limit,
        votes=votes,
        prices=prices,
        again=again,
    )
    base_url(server.url)
    check_cleaning(run.cleaning, [*made_schema(made.fields).names, "text"])
    check_apart(run.inputs, run.out)
    check_columns(run.inputs, made.columns, made.optional_columns, run.columns)
    return run


def synthesize(
    run: Run,
    *,
    tasks: int = 1,
    executor: ExecutorName = "local",
    executor_config: Path | None = None,
    report: DrawReport | None = None,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Carry out a prepared run; returns its manifest, None where Slurm has yet to do the work. Given again after a
    stop, it goes on.

    `report` makes the content of `report.html` from the summary. `DataError` for bad inputs, a folder of something
    else, and a server that is not there, refuses the key or lacks the model: what it has answered is kept.
    """
    check_executor(executor, tasks, executor_config)
    claim_folder(run.out, kind=KIND, made_from=made_for(run.kind.name))
    busy = DataError(f"{run.out}: another process is working on it. Wait for it, or choose another --out.")
    with only_process(run.out / LOCK_NAME, busy):
        done = run_stages(
            stages_of(run, report),
            executor=executor,
            tasks=tasks,
            executor_config=executor_config,
            folder=run.work / "jobs" / run.result[:16],
            progress=progress,
        )
    return read_manifest(run.out, kind=KIND) if done else None


def plan(run: Run) -> Inventory:
    """What a run would read; refuses what the run would refuse before it asks, and writes nothing."""
    folder_state(run.out, kind=KIND, made_from=made_for(run.kind.name))
    inventory = look_at(run.inputs)
    check_same_as_before(inventory, run.out, kind=KIND)
    return inventory


def stages_of(run: Run, report: DrawReport | None = None) -> list[Stage]:
    """The whole run as stages. They follow from the run alone, so that all can be submitted before any has run."""
    asking = Stage(
        "answers",
        partial(make_samples, run),
        done=partial(so_far.seeds_done, run.work),
        unit="seed",
        note=partial(so_far.usage_line, run.work),
    )
    return [
        Stage("seeds", partial(_list_seeds, run), alone=True),
        asking,
        *cleaning_stages(run),
        Stage("samples", partial(write_samples, run)),
        Stage("summary", partial(finish, run, report), alone=True),
    ]


def _list_seeds(run: Run, rank: int, tasks: int) -> None:
    """List inputs and seeds; take back what says that the run is finished unless it is this very run."""
    for left_over in run.out.rglob(f".*{PARTIAL}"):
        left_over.unlink(missing_ok=True)
    run.work.mkdir(exist_ok=True)
    keep_inventory(run.inputs, run.out, kind=KIND)
    names = [*run.kind.columns, *run.kind.optional_columns]
    count_seeds(run.units, run.work, names, run.columns, run.limit)
    shards = run.shards
    if not shards:
        raise DataError(f"--in {', '.join(one.path for one in run.inputs)}: no seeds; the files hold no rows.")
    if not run.again and _is_this_run(run):
        so_far.begin(run.work, sum(shard.count for shard in shards), sum(shard.count for shard in shards))
        return
    for name in (MANIFEST_NAME, REPORT_NAME, SUMMARY_NAME):
        (run.out / name).unlink(missing_ok=True)
    done = 0
    for shard in shards:
        record = run.made_record(shard)
        if record is None or (run.again and record.get("lost")):
            run.made(shard).record.unlink(missing_ok=True)
        else:
            done += shard.count
    _remove_strays(run, len(shards))
    so_far.begin(run.work, done, sum(shard.count for shard in shards))
    if done < sum(shard.count for shard in shards):
        _check_room(run, check_endpoint(run.server.url, run.model))


def _check_room(run: Run, context: int | None) -> None:
    """`DataError` where an answer may be longer than the model's context, so that no request could be answered."""
    most = run.settings.get("max_tokens", run.settings.get("max_completion_tokens"))
    if context is not None and isinstance(most, int) and most >= context:
        raise DataError(
            f"{run.model}: served with a context of {context:,} tokens, but answers may have {most:,} (max_tokens). "
            "Serve it with a longer context, or leave room for the question: --set max_tokens=NUMBER."
        )


def _remove_strays(run: Run, shards: int) -> None:
    """Files of seeds beyond a limit that was higher before. Their answers stay."""
    kept = {unit_name(number) for number in range(shards)}
    for folder in (run.work / "made", run.work / "texts", run.work / "samples", run.out / SAMPLES_FOLDER):
        for path in folder.glob("[!.]*"):
            if path.stem not in kept:
                path.unlink()


def _is_this_run(run: Run) -> bool:
    """Whether the folder holds the finished result of this run. A damaged file takes its record with it, so that it is
    written again."""
    try:
        manifest = read_manifest(run.out, kind=KIND)
    except DataError:
        return False
    if manifest.get("made_from") != made_from(run):
        return False
    problems = verify_files(run.out, manifest=manifest)
    for problem in problems:
        damaged = Path(problem.split(": ")[0])
        if damaged.stem.isdigit():
            (run.work / "samples" / f"{damaged.stem}.json").unlink(missing_ok=True)
    return not problems
