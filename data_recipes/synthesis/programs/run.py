"""`yulanmini data synthesize programs`: so many problems, none twice, with worked steps and checked answers.

    synthesize_programs(ProgramsRequest(count=1_000_000, levels=(5,)), Path("problems"), tasks=8)

The folder has the columns of all synthetic samples. It is a function of the request alone: the same bytes for any
number of tasks, stopped and continued or not. A unit of problems is made in memory and written as one file; units draw
from parts of each kind that do not overlap, so that nothing has to be remembered of other units.
"""

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from data_recipes.cleaning.pipeline.unit_files import PARTIAL, read_record, unit_name, write_record, writing_parquet
from data_recipes.errors import DataError, nearest
from data_recipes.executors.run import ExecutorName, check_executor, run_stages
from data_recipes.executors.stage import Stage
from data_recipes.files import matches_record, only_process, write_whole
from data_recipes.manifest import (
    CLAIM_NAME,
    MANIFEST_NAME,
    claim_folder,
    fingerprint_of,
    folder_state,
    fsync_tree,
    read_manifest,
    sha256_file,
    verify_files,
    write_manifest,
)
from data_recipes.synthesis.programs.draw import about_how_many, all_kinds, distinct_problems, weights_of
from data_recipes.synthesis.programs.problem import LANGUAGES, Problem

KIND = "synthetic-samples"
NAME = "programs"
UNIT_PROBLEMS = 10_000
SAMPLES_FOLDER, WORK_FOLDER, SUMMARY_NAME, REPORT_NAME = "samples", "work", "summary.json", "report.html"
LOCK_NAME = ".synthesize.lock"
Side = Literal["train", "heldout"]
LENIENCE = 0.97  # how many problems there are is known to about this
SCHEMA = pa.schema(
    [
        ("seed_source", pa.string()),
        ("seed_file", pa.string()),
        ("seed_row", pa.int64()),
        ("kind", pa.string()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("problem", pa.string()),
        ("solution", pa.string()),
        ("answer", pa.string()),
        ("problem_kind", pa.string()),
        ("level", pa.int8()),
        ("language", pa.string()),
        ("finish_reason", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("checked", pa.bool_()),
        ("votes", pa.int32()),
        ("text", pa.string()),
    ]
)

SAME_FOR_ALL = {
    "seed_source": NAME,
    "kind": NAME,
    "finish_reason": "stop",
    "verdict": "accepted",
    "reason": "",
    "checked": True,
    "votes": pa.scalar(1, pa.int32()),
}


@dataclass(frozen=True)
class ProgramsRequest:
    """What is asked for: levels share `count` equally, the kinds of a level by their weights.

    `side`: problems to train on, or those that are held out of every other use of the generator.
    """

    count: int
    levels: tuple[int, ...] = ()
    languages: tuple[str, ...] = LANGUAGES
    kinds: tuple[str, ...] = ()
    seed: int = 0
    side: Side = "train"

    @property
    def units(self) -> int:
        return -(-self.count // UNIT_PROBLEMS)

    @property
    def shares(self) -> dict[str, float]:
        """The share of each kind."""
        levels = self.levels or sorted({kind.level for kind in all_kinds().values()})
        weights = weights_of(dict.fromkeys(levels, 1.0), self.kinds)
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    @property
    def made_from(self) -> dict[str, Any]:
        return {"config": {"kind": NAME, **json.loads(json.dumps(asdict(self)))}, "seed": self.seed}


def check_request(request: ProgramsRequest) -> None:
    """`DataError` for what there is not: levels, languages, kinds, a side, or so many problems."""
    known_levels = sorted({kind.level for kind in all_kinds().values()})
    for level in request.levels:
        if level not in known_levels:
            raise DataError(f"--level {level}: there are levels {', '.join(map(str, known_levels))}.")
    for language in request.languages:
        if language not in LANGUAGES:
            raise DataError(f"--language {language}: there are problems in {' and '.join(LANGUAGES)}.")
    if request.side not in get_args(Side):
        raise DataError(f"--side {request.side}: no such side.{nearest(request.side, get_args(Side))}")
    if request.count < 1:
        raise DataError(f"--count {request.count}: expected at least 1.")
    for name, values in (("level", request.levels), ("language", request.languages), ("problem", request.kinds)):
        if len(set(values)) < len(values):
            raise DataError(f"--{name} {', '.join(map(str, values))}: named twice.")
    if not request.languages:
        raise DataError("no language: name one, such as en.")
    there = about_how_many(request.shares, heldout=request.side == "heldout", enough=10 * request.count)
    if request.count > LENIENCE * there:
        raise too_many(request, there)


def too_many(request: ProgramsRequest, there: int) -> DataError:
    return DataError(
        f"--count {request.count}: these kinds have about {there:,} different problems on the side '{request.side}'. "
        "Ask for fewer, or add levels or kinds."
    )


@dataclass(frozen=True)
class ProgramsRun:
    """A request and its folder, absolute; picklable."""

    request: ProgramsRequest
    out: Path
    report: Callable[[dict[str, Any]], str] | None = field(default=None, compare=False)

    @property
    def made_from(self) -> str:
        """Also of the code: a folder that another version began is made anew, unit by unit."""
        return fingerprint_of([self.request.made_from, code_fingerprint()])

    def samples(self, unit: int) -> Path:
        return self.out / SAMPLES_FOLDER / f"{unit_name(unit)}.parquet"

    def record_path(self, unit: int) -> Path:
        return self.out / WORK_FOLDER / SAMPLES_FOLDER / f"{unit_name(unit)}.json"

    def record(self, unit: int) -> dict[str, Any] | None:
        return read_record(self.record_path(unit), made_from=self.made_from)

    def stages(self) -> list[Stage]:
        return [
            Stage("clear", partial(clear, self), alone=True),
            Stage("problems", partial(make_units, self), done=partial(units_done, self)),
            Stage("summary", partial(finish, self), alone=True),
        ]


def synthesize_programs(
    request: ProgramsRequest,
    out: Path,
    *,
    tasks: int = 1,
    executor: ExecutorName = "local",
    executor_config: Path | None = None,
    report: Callable[[dict[str, Any]], str] | None = None,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Write the problems into the folder `out`; returns its manifest, None where Slurm has yet to do the work. Given
    again after a stop, it goes on. `report` makes the content of `report.html` from the summary."""
    check_executor(executor, tasks, executor_config)
    check_request(request)
    run = ProgramsRun(request, Path(out).absolute(), report)
    claim_folder(out, kind=KIND, made_from=request.made_from)
    busy = DataError(f"{out}: another process is writing into it. Wait for it, or choose another --out.")
    with only_process(run.out / LOCK_NAME, busy):
        done = run_stages(
            run.stages(),
            executor=executor,
            tasks=tasks,
            executor_config=executor_config,
            folder=run.out / WORK_FOLDER / "jobs" / run.made_from[:16],
            progress=progress,
        )
    return read_manifest(out, kind=KIND) if done else None


def plan_programs(request: ProgramsRequest, out: Path) -> dict[str, Any]:
    """What would be made; refuses what a run would refuse, and writes nothing."""
    check_request(request)
    folder_state(out, kind=KIND, made_from=request.made_from)
    shares = request.shares
    return {"count": request.count, "files": request.units, "kinds": {name: round(shares[name], 4) for name in shares}}


@cache
def code_fingerprint() -> str:
    """Of all that a problem depends on."""
    files = [path for path in sorted(Path(__file__).parent.rglob("*")) if path.suffix in (".py", ".yaml")]
    return fingerprint_of([sha256_file(path) for path in files])


def clear(run: ProgramsRun, rank: int, tasks: int) -> None:
    """Remove what killed processes left, units that are not as they were written, and the manifest that names them."""
    for left_over in run.out.rglob(f".*{PARTIAL}"):
        left_over.unlink(missing_ok=True)
    whole = True
    for unit in range(run.request.units):
        record = run.record(unit)
        if record is None or not matches_record(run.samples(unit), *record["files"].values()):
            run.record_path(unit).unlink(missing_ok=True)
            whole = False
    manifest = run.out / MANIFEST_NAME
    if manifest.is_file() and not (whole and not verify_files(run.out, content=False)):
        manifest.unlink()


def units_done(run: ProgramsRun) -> tuple[int, int]:
    return sum(run.record_path(unit).is_file() for unit in range(run.request.units)), run.request.units


def make_units(run: ProgramsRun, rank: int, tasks: int) -> None:
    """The units of one of several tasks that are not there yet."""
    for unit in range(rank, run.request.units, tasks):
        if run.record(unit) is None:
            make_unit(run, unit)


def make_unit(run: ProgramsRun, unit: int) -> None:
    path, record_path = run.samples(unit), run.record_path(unit)
    table = table_of_unit(run.request, unit)
    with writing_parquet(path, SCHEMA) as (parquet, file):
        parquet.write(table)
    keys = zip(*(table[name].to_pylist() for name in ("level", "problem_kind", "language")), strict=True)
    characters = sum(pc.sum(pc.utf8_length(table[name])).as_py() for name in ("prompt", "response"))
    write_record(
        record_path,
        made_from=run.made_from,
        files={f"../../{SAMPLES_FOLDER}/{path.name}": file.record},
        problems=[[*key, count] for key, count in sorted(Counter(keys).items())],
        characters=characters,
    )


def problems_of_unit(request: ProgramsRequest, unit: int) -> Iterator[Problem]:
    """The problems number `unit * UNIT_PROBLEMS` and following, in their order."""
    wanted = min(UNIT_PROBLEMS, request.count - unit * UNIT_PROBLEMS)
    stream = distinct_problems(
        seed=request.seed,
        heldout=request.side == "heldout",
        shares=request.shares,
        languages=request.languages,
        unit=unit,
        units=request.units,
    )
    for made in range(wanted):
        problem = next(stream, None)
        if problem is None:
            raise too_many(request, made * request.units)
        yield problem


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Python's search for circles of objects takes a tenth of the time of so many, among which there are none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def table_of_unit(request: ProgramsRequest, unit: int) -> pa.Table:
    """The problems of a unit as samples, with their numbers in `seed_row`."""
    rows = []
    with without_garbage_collection():
        for problem in problems_of_unit(request, unit):
            question, response, kind = problem.question, problem.response, problem.asked
            steps, text = "\n".join(problem.steps), f"{question}\n\n{response}"
            rows.append((question, response, steps, problem.answer, kind.name, kind.level, problem.language, text))
    names = ("prompt", "response", "solution", "answer", "problem_kind", "level", "language", "text")
    columns: dict[str, Any] = dict(zip(names, zip(*rows, strict=True), strict=True))
    count = len(columns["prompt"])
    first = unit * UNIT_PROBLEMS
    columns["problem"] = columns["prompt"]
    columns |= {name: pa.repeat(value, count) for name, value in SAME_FOR_ALL.items()}
    columns["seed_file"] = pa.nulls(count, pa.string())
    columns["seed_row"] = pa.array(range(first, first + count), pa.int64())
    return pa.table(columns, schema=SCHEMA)


def finish(run: ProgramsRun, rank: int, tasks: int) -> None:
    """Add up all units, write the summary, and last the manifest."""
    if (run.out / MANIFEST_NAME).is_file():
        return
    records = []
    for unit in range(run.request.units):
        record = run.record(unit)
        if record is None:
            raise DataError(f"{run.samples(unit)}: missing or damaged. Give the same command again: it is made again.")
        records.append(record)
    for stray in (run.out / SAMPLES_FOLDER).glob("*.parquet"):
        if stray.stem not in {unit_name(unit) for unit in range(run.request.units)}:
            stray.unlink()
    summary = summarise(run.request, records)
    write_whole(run.out / SUMMARY_NAME, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    if run.report is not None:
        write_whole(run.out / REPORT_NAME, run.report(summary))
    fsync_tree(run.out / SAMPLES_FOLDER)
    hashes = {name.removeprefix("../../"): file for record in records for name, file in record["files"].items()}
    write_manifest(
        run.out,
        kind=KIND,
        inputs={},
        config=run.request.made_from["config"],
        counts={"samples": summary["samples"], "characters": summary["characters"], "verdicts": summary["verdicts"]},
        seed=run.request.seed,
        known_hashes=hashes,
        leave_out=(CLAIM_NAME, LOCK_NAME, WORK_FOLDER),
        made_from=run.made_from,
    )


def summarise(request: ProgramsRequest, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of all units by level, kind and language."""
    levels: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    for record in records:
        for level, kind, language, count in record["problems"]:
            levels[str(level)] += count
            kinds[kind] += count
            languages[language] += count
    total = levels.total()
    assert total == request.count, (total, request.count)
    return {
        "kind": NAME,
        "samples": total,
        "verdicts": {"accepted": total, "rejected": 0, "failed": 0},
        "characters": sum(record["characters"] for record in records),
        "levels": dict(sorted(levels.items())),
        "kinds": dict(sorted(kinds.items())),
        "languages": dict(sorted(languages.items())),
    }
