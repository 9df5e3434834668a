"""Lay out the data sets of benchmarks as local folders, for machines without a network: DIR/<owner>/<name>/...

A split is one parquet file that appears whole. What is there already and still as recorded is not fetched again, so the
same command goes on after a kill, and another suite adds to the same folder.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_recipes.errors import DataError, first_line
from data_recipes.files import matches_record, only_process, write_whole
from data_recipes.manifest import claim_folder, folder_state, fsync_tree, sha256_file, write_manifest
from eval.errors import EvalError
from eval.harness.benchmark import Benchmark, DataSource, all_benchmarks
from eval.harness.data_folder import DEFAULT_CONFIG, describe_files
from eval.harness.items import write_items

KIND = "benchmark-data"
RECORD = "fetched.json"
LOCK_FILE = ".lock"


def wanted(benchmarks: Sequence[Benchmark]) -> list[DataSource]:
    """The data sets of some benchmarks, each configuration once, with the splits that any benchmark at all reads."""
    splits: dict[tuple[str, str | None], dict[str, None]] = {}
    for benchmark in all_benchmarks().values():
        for source in _each(benchmark):
            splits.setdefault((source.repo, source.config), {}).update(dict.fromkeys(source.splits))
    found: dict[tuple[str, str | None], DataSource] = {}
    for benchmark in benchmarks:
        for source in _each(benchmark):
            key = source.repo, source.config
            found.setdefault(key, source.model_copy(update={"splits": list(splits.get(key, source.splits))}))
    return list(found.values())


def _each(benchmark: Benchmark) -> list[DataSource]:
    return [one for source in benchmark.data for one in source.each()]


def fetch(benchmarks: Sequence[Benchmark], out: Path, *, progress: bool = False) -> dict[str, Any]:
    """Fetch what benchmarks read into `out`; returns "datasets" (repo: config: split: record), "fetched" splits, and
    how many "items" each evaluation set has that can be kept out of training text.

    One data set that cannot be had does not keep the others away: `EvalError` at the end names those that are missing,
    and what came is kept.
    """
    sources = wanted(benchmarks)
    claim_folder(out, kind=KIND)
    busy = DataError(f"{out}: another process is fetching into it. Wait for that, or choose another place.")
    problems: list[str] = []
    fetched = 0
    with only_process(out / LOCK_FILE, busy):
        steps = [(source, split) for source in sources for split in source.splits]
        for source, split in tqdm(steps, desc="fetching", unit="split", disable=not progress):
            try:
                fetched += fetch_split(source, split, out)
            except EvalError as error:
                problems.append(str(error))
        records = {
            path.parent.relative_to(out).as_posix(): read_record(path.parent) for path in out.glob(f"*/*/{RECORD}")
        }
        known = {
            f"{repo}/{config}/{split}.parquet": record
            for repo, configs in records.items()
            for config, splits in configs.items()
            for split, record in splits.items()
        }
        items = write_items(out)
        fsync_tree(out)
        write_manifest(
            out,
            kind=KIND,
            inputs={name: str(record["revision"]) for name, record in known.items()},
            config={},
            counts={"rows": sum(record["rows"] for record in known.values())},
            known_hashes=known,
        )
    if problems:
        listed = "\n  ".join(dict.fromkeys(problems))
        raise EvalError(f"{len(problems)} of {len(steps)} splits are missing; the others are in {out}:\n  {listed}")
    return {"datasets": records, "fetched": fetched, "items": items}


def plan(benchmarks: Sequence[Benchmark], out: Path) -> list[dict[str, Any]]:
    """What would be fetched, a record a split; checks that `out` could take it. Asks nobody."""
    folder_state(out, kind=KIND)
    return [
        {"repo": source.repo, "config": source.config, "split": split, "here": is_here(source, split, out)}
        for source in wanted(benchmarks)
        for split in source.splits
    ]


def is_here(source: DataSource, split: str, out: Path) -> bool:
    """Whether a split is on the disk as it was recorded, or, where it comes by hand, its data set at all."""
    if source.by_hand:
        return (out / source.repo).is_dir()
    config = source.config or DEFAULT_CONFIG
    record = read_record(out / source.repo).get(config, {}).get(split)
    return record is not None and matches_record(out / source.repo / config / f"{split}.parquet", record)


def fetch_split(source: DataSource, split: str, out: Path) -> bool:
    """Fetch one split if it is not here; whether it had to be."""
    import datasets
    from huggingface_hub import HfApi

    if is_here(source, split, out):
        return False
    if source.by_hand:
        raise EvalError(f"{source.repo}: not on the Hub. {source.by_hand}")
    name = f"{source.repo}, {source.config or DEFAULT_CONFIG}, {split}"
    try:
        revision = HfApi().dataset_info(source.repo, revision=source.revision).sha
        data = datasets.load_dataset(source.repo, source.config, split=split, revision=source.revision or revision)
    except Exception as error:  # of many libraries: no network, no such split, a data set behind a form
        raise EvalError(f"{name}: cannot be fetched ({first_line(error)})") from error
    folder = out / source.repo
    config = source.config or DEFAULT_CONFIG
    path = folder / config / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        data.to_parquet(str(partial))
        record = {"bytes": partial.stat().st_size, "sha256": sha256_file(partial), "rows": len(data)}
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    records = read_record(folder)
    records.setdefault(config, {})[split] = {**record, "revision": revision}
    write_whole(folder / RECORD, json.dumps(records, indent=2) + "\n")
    describe_files(
        folder, {config: {split: f"{config}/{split}.parquet" for split in splits} for config, splits in records.items()}
    )
    return True


def read_record(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """{config: {split: record}} of what was fetched into a data set's folder."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
