"""Text to cleaner text: signals first, thresholds apart, and evidence for every document dropped.

    clean(load_cleaning_config("web-en"), parse_inputs(["crawl=crawl/**/*.jsonl.zst"]), Path("cleaned"))

The result is a function of the inputs' contents and the config: the same bytes for any number of tasks, stopped and
continued or not. A changed threshold judges again what was computed; no text is read for that, only copied.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_recipes.cleaning.config import CleaningConfig
from data_recipes.cleaning.pipeline.inputs import (
    InputSource,
    Inventory,
    check_apart,
    check_readable,
    check_same_as_before,
    keep_inventory,
    look_at,
)
from data_recipes.cleaning.pipeline.join import JOINED_FOLDER, join_files, joined_record, list_files
from data_recipes.cleaning.pipeline.run import KIND, SHORT, Run, is_costly
from data_recipes.cleaning.pipeline.signals import measure_costly, read_and_measure
from data_recipes.cleaning.pipeline.summary import LOCK_NAME, REPORT_NAME, SUMMARY_NAME, DrawReport, finish, made_from
from data_recipes.cleaning.pipeline.unit_files import PARTIAL
from data_recipes.cleaning.pipeline.verdicts import CorpusOfRun, check_loss
from data_recipes.cleaning.pipeline.write import write_documents
from data_recipes.cleaning.steps.base import CorpusStep, Step
from data_recipes.errors import DataError
from data_recipes.executors.run import ExecutorName, check_executor, run_stages
from data_recipes.executors.stage import Stage
from data_recipes.files import only_process
from data_recipes.manifest import MANIFEST_NAME, claim_folder, folder_state, read_manifest, verify_files


def clean(
    config: CleaningConfig,
    inputs: Sequence[InputSource],
    out: Path,
    *,
    tasks: int = 1,
    executor: ExecutorName = "local",
    executor_config: Path | None = None,
    report: DrawReport | None = None,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Clean `inputs` into the folder `out`; returns its manifest, None where Slurm has yet to do the work. Given again
    after a stop, it goes on.

    `report` makes the content of `report.html` from the summary. `DataError` for bad inputs, a folder of something
    else, a source that loses more than the config allows.
    """
    check_executor(executor, tasks, executor_config)
    check_sources(inputs, config, out)
    run = run_of(config, inputs, out)
    claim_folder(out, kind=KIND)
    busy = DataError(f"{out}: another process is cleaning into it. Wait for it, or choose another --out.")
    with only_process(out / LOCK_NAME, busy):
        done = run_stages(
            stages_of(run, report),
            executor=executor,
            tasks=tasks,
            executor_config=executor_config,
            folder=run.work / "jobs" / config.chain[-1][:SHORT],
            progress=progress,
        )
    return read_manifest(out, kind=KIND) if done else None


def run_of(config: CleaningConfig, inputs: Sequence[InputSource], out: Path) -> Run:
    """The run as any task sees it, whatever its current folder."""
    return Run(config, tuple(one.absolute() for one in inputs), Path(out).absolute())


def check_sources(inputs: Sequence[InputSource], config: CleaningConfig, out: Path) -> None:
    """`DataError` where a source cannot be read or is the run's own folder, or `only` names one that is not there."""
    check_apart(inputs, out)
    join = config.settings.join
    check_readable(inputs, text=config.settings.text, repository=None if join is None else join.by)
    names = [one.name for one in inputs]
    for step in config.steps:
        for source in step.settings.only.get("source", ()):
            if source not in names:
                raise DataError(
                    f"step '{step.settings.step}': only: no source '{source}' is given; there are {', '.join(names)}. "
                    "Name it: --in NAME=PATH."
                )


def plan(config: CleaningConfig, inputs: Sequence[InputSource], out: Path) -> Inventory:
    """What a run would read; refuses what the run would refuse before it reads a document, and writes nothing."""
    check_sources(inputs, config, out)
    folder_state(out, kind=KIND)
    inventory = look_at(inputs)
    check_same_as_before(inventory, out, kind=KIND)
    return inventory


def stages_of(run: Run, report: DrawReport | None = None) -> list[Stage]:
    """The whole run as stages. They follow from the config alone, so that all can be submitted before any has run."""
    stages = [
        Stage("inputs", partial(_list_inputs, run), alone=True),
        Stage("texts and signals", partial(read_and_measure, run), done=partial(_texts_done, run)),
    ]
    for number, (step, label) in enumerate(zip(run.config.steps, run.config.labels(), strict=True)):
        if isinstance(step, CorpusStep):
            corpus = CorpusOfRun(run, number)
            for stage in step.stages(corpus):
                name = f"{label}: {stage.name}"
                stages.append(Stage(name, partial(_unless_judged, corpus, stage), alone=stage.alone, done=stage.done))
        elif isinstance(step, Step) and is_costly(step):
            stages.append(Stage(label, partial(measure_costly, run, number), done=partial(_measured, run, step)))
    stages.append(Stage("losses", partial(_check_losses, run), alone=True))
    stages.append(Stage("kept and dropped", partial(write_documents, run), done=partial(_written_done, run)))
    if run.config.settings.join is not None:
        stages.append(Stage("files of repositories", partial(list_files, run)))
        stages.append(Stage("joined", partial(join_files, run)))
    stages.append(Stage("summary", partial(finish, run, report), alone=True))
    return stages


def _list_inputs(run: Run, rank: int, tasks: int) -> None:
    """List the units; take back what says that the run is finished unless it is this very run."""
    for left_over in run.out.rglob(f".*{PARTIAL}"):
        left_over.unlink(missing_ok=True)
    keep_inventory(run.inputs, run.out, kind=KIND)
    if _is_this_run(run):
        return
    for name in (MANIFEST_NAME, REPORT_NAME, SUMMARY_NAME):
        (run.out / name).unlink(missing_ok=True)
    # Records of other settings do not count; gone, they do not seem to for the progress bar either.
    for unit in range(len(run.units)):
        if run.texts_record(unit) is None:
            run.texts(unit).record.unlink(missing_ok=True)
        if run.written_record(unit) is None:
            run.written(unit).unlink(missing_ok=True)


def _is_this_run(run: Run) -> bool:
    """Whether the folder holds the finished result of this run. A damaged file takes its record with it, so that its
    unit is written again."""
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
            record = joined_record if damaged.parent.name == JOINED_FOLDER else Run.written
            record(run, int(damaged.stem)).unlink(missing_ok=True)
    return not problems


def _unless_judged(corpus: CorpusOfRun, stage: Stage, rank: int, tasks: int) -> None:
    """A corpus step's own stage, where its verdicts are not there yet."""
    if not corpus.run.is_finished and not corpus.is_judged():
        stage.run(rank, tasks)


def _check_losses(run: Run, rank: int, tasks: int) -> None:
    check_loss(run)


def _texts_done(run: Run) -> tuple[int, int]:
    return _there(run.work / "texts"), len(run.units)


def _measured(run: Run, step: Step) -> tuple[int, int]:
    return _there(run.signals(step, 0).record.parent), len(run.units)


def _written_done(run: Run) -> tuple[int, int]:
    return _there(run.work / "written"), len(run.units)


def _there(folder: Path) -> int:
    return sum(1 for _ in folder.glob("[!.]*.json"))
