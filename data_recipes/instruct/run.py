"""Open sets to dialogues for tuning: gathered, filtered by the cleaning pipeline, written in the shares of a mixture.

    instruct(load_instruct_config("mixture.yaml"), Path("dialogues"))

    DIR/train.jsonl       what `yulanmini train sft` takes; a recipe can name it as a source
    DIR/pairs.jsonl       with `pairs`: what `yulanmini train dpo` takes; DIR/prompts.jsonl its hardest prompts
    DIR/filtered/         the filters' folder: kept/, dropped/ with step and reason, summary.json
    DIR/summary.json, report.html, manifest.json
    DIR/work/             what was gathered and answered; may be removed when all is done

The result is a function of the sources' contents, the config and the answers of the models: the same for any number of
tasks, stopped and continued or not.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.pipeline.inputs import InputSource
from data_recipes.cleaning.pipeline.unit_files import PARTIAL
from data_recipes.errors import DataError, naming_full_disk
from data_recipes.executors.run import ExecutorName, check_executor
from data_recipes.files import only_process, write_whole
from data_recipes.instruct.config import InstructConfig
from data_recipes.instruct.gather import Gathered, check_source, gather, open_source
from data_recipes.instruct.make_pairs import PAIRS_NAME, PROMPTS_NAME, FindResponder, make_pairs
from data_recipes.instruct.summary import summarise
from data_recipes.instruct.write import TRAIN_NAME, write_dialogues
from data_recipes.manifest import (
    CLAIM_NAME,
    MANIFEST_NAME,
    claim_folder,
    folder_state,
    fsync_path,
    read_manifest,
    verify_files,
    write_manifest,
)

KIND = "instruct-data"
LOCK_NAME = ".instruct.lock"
WORK, FILTERED = "work", "filtered"
SUMMARY_NAME, REPORT_NAME = "summary.json", "report.html"
DrawReport = Callable[[dict[str, Any]], str]


def instruct(
    config: InstructConfig,
    out: Path,
    *,
    tasks: int = 1,
    executor: ExecutorName = "local",
    executor_config: Path | None = None,
    responder: FindResponder | None = None,
    report: DrawReport | None = None,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Make the folder `out`; returns its manifest, None where the filters were handed to Slurm and have yet to run.
    Given again after a stop, it goes on.

    `responder` gives who answers prompts of pairs in this process, for a model that is a folder; `report` makes the
    content of `report.html` from the summary. `DataError` for bad sources, a folder of something else, a server that is
    gone: what is finished is kept.
    """
    check_executor(executor, tasks, executor_config)
    check(config, out)
    out = Path(out).absolute()
    claim_folder(out, kind=KIND)
    busy = DataError(f"{out}: another process is at work there. Wait for it, or choose another --out.")
    with only_process(out / LOCK_NAME, busy):
        for left_over in out.glob(f".*{PARTIAL}"):
            left_over.unlink(missing_ok=True)
        seed = config.settings.seed
        gathered = gather(config.sources, out / WORK / "gathered", seed=seed, progress=progress)
        inputs = [InputSource(one.name, str(out / WORK / "gathered" / one.name), "*.jsonl") for one in gathered]
        filtered = clean(
            config.cleaning,
            inputs,
            out / FILTERED,
            tasks=tasks,
            executor=executor,
            executor_config=executor_config,
            progress=progress,
        )
        if filtered is None:
            return None
        return _finish(config, out, gathered, filtered, responder, report, progress)


def _finish(
    config: InstructConfig,
    out: Path,
    gathered: list[Gathered],
    filtered: dict[str, Any],
    responder: FindResponder | None,
    report: DrawReport | None,
    progress: bool,
) -> dict[str, Any]:
    """Write the dialogues, the pairs and last the manifest, where they are not there already."""
    inputs = {**{one.name: one.fingerprint for one in gathered}, FILTERED: filtered["fingerprint"]}
    if _is_whole(out, {"inputs": inputs, "config": config.resolved}):
        return read_manifest(out, kind=KIND)
    for name in (MANIFEST_NAME, REPORT_NAME, SUMMARY_NAME, PAIRS_NAME, PROMPTS_NAME):
        (out / name).unlink(missing_ok=True)
    counts = write_dialogues(out / FILTERED, out / TRAIN_NAME, progress=progress)
    if counts.dialogues == 0:
        raise DataError(
            f"{out}: the filters have left no dialogue; {out / FILTERED / 'dropped'} has them with reasons."
        )
    pairs = None
    if config.settings.pairs is not None:
        pairs = make_pairs(config, out, out / WORK / "pairs", responder=responder, progress=progress)
    summary = summarise(config, out / FILTERED, gathered, counts, pairs)
    write_whole(out / SUMMARY_NAME, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    if report is not None:
        write_whole(out / REPORT_NAME, report(summary))
    for path in out.glob("*.jsonl"):
        fsync_path(path)
    with naming_full_disk(out):
        return write_manifest(
            out,
            kind=KIND,
            inputs=inputs,
            config=config.resolved,
            counts=summary["counts"],
            seed=config.settings.seed,
            leave_out=(CLAIM_NAME, LOCK_NAME, WORK, FILTERED),
        )


def _is_whole(out: Path, made_from: dict[str, Any]) -> bool:
    """Whether the folder holds the finished result of this very run; a damaged one is made again."""
    try:
        manifest = read_manifest(out, kind=KIND)
    except DataError:
        return False
    same = all(manifest.get(key) == json.loads(json.dumps(value)) for key, value in made_from.items())
    return same and not verify_files(out, manifest=manifest)


def check(config: InstructConfig, out: Path) -> None:
    """Refuse what can be refused before anything is read or written."""
    folder_state(Path(out), kind=KIND)
    place = Path(out).resolve()
    for name, source in {**config.sources, **config.pair_sources}.items():
        if source.path is not None and source.location.resolve().is_relative_to(place):
            raise DataError(f"source '{name}': {source.path} is inside {out}. Choose another --out.")
        check_source(name, source)


def plan(config: InstructConfig, out: Path) -> list[dict[str, Any]]:
    """What a run would read: a row a source. Refuses what the run would refuse before it reads; writes nothing."""
    check(config, out)
    of_pairs = config.pair_sources
    rows = []
    for name, source in {**config.sources, **of_pairs}.items():
        supply = open_source(name, source, seed=config.settings.seed)
        rows.append(
            {
                "source": name,
                "category": "pairs" if name in of_pairs else source.category,
                "from": source.label,
                "files": len(supply.file_names),
                "bytes": supply.input_bytes,
                "licence": source.licence or "",
            }
        )
    return rows
