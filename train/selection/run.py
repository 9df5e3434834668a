"""`yulanmini train select`: from candidates and targets to the dialogues that are worth training on.

Stages of data_recipes/executors: rows, warm-up, directions of the targets, influence of the candidates (by many tasks),
and the choice. What is there is not made again; the selection does not depend on the number of tasks.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer

from data_recipes.errors import DataError
from data_recipes.executors.run import ExecutorName, check_executor, run_stages
from data_recipes.executors.stage import Stage
from data_recipes.files import only_process, write_whole
from data_recipes.instruct.messages import dialogue_messages
from data_recipes.manifest import (
    CLAIM_NAME,
    claim_folder,
    folder_fingerprint,
    folder_state,
    sha256_file,
    write_manifest,
)
from train.config_file import resolved
from train.errors import TrainError
from train.selection.config import SelectConfig
from train.selection.influence import Measure, measure_candidates, measure_targets
from train.selection.rows import BLOCK, chosen_lines, write_candidates, write_targets
from train.selection.tags import ask_for_tags, frequent_tags, varied
from train.selection.warm_up import warm_up
from train.tuning.data import check_chat_template
from train.tuning.model import snapshot

KIND = "selection"
SELECTED, SCORES, SUMMARY = "selected.jsonl", "scores.parquet", "summary.json"


def select(
    config: SelectConfig,
    *,
    tasks: int = 1,
    executor: ExecutorName = "local",
    executor_config: Path | None = None,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Select into `config.output_dir`; returns the summary, None where Slurm has yet to do the work.

    Given again after a stop, it goes on. TrainError and `DataError` for bad input.
    """
    check_executor(executor, tasks, executor_config)
    made_from = check(config)
    out = config.output_dir
    if claim_folder(out, kind=KIND, made_from=made_from) != "finished":
        work = out / "work"
        work.mkdir(exist_ok=True)
        with only_process(work / "lock", DataError(f"{out}: another process is selecting into it.")):
            done = run_stages(
                stages_of(config, made_from),
                executor=executor,
                tasks=tasks,
                executor_config=executor_config,
                folder=work / "jobs",
                progress=progress,
            )
        if not done:
            return None
    return json.loads((out / SUMMARY).read_text())


def check(config: SelectConfig) -> dict[str, Any]:
    """What a selection is made from; refuses missing files and another selection's folder, and writes nothing."""
    for key, files in (("candidates", config.candidates), ("targets", config.targets)):
        for name, path in files.items():
            if not path.is_file():
                raise TrainError(f"{path}: no such file (key '{key}.{name}'); expected a .jsonl file of dialogues.")
    model = snapshot(config.model, "model", needs="config.json")
    tokenizer = tokenizer_folder(config)
    check_chat_template(AutoTokenizer.from_pretrained(tokenizer), tokenizer)
    files = {**config.candidates, **{f"target {name}": path for name, path in config.targets.items()}}
    inputs = {
        "model": folder_fingerprint(model),
        "tokenizer": folder_fingerprint(tokenizer),
        **{name: sha256_file(path) for name, path in files.items()},
    }
    made_from = {"config": resolved(config, config.output_dir), "inputs": inputs}
    folder_state(config.output_dir, kind=KIND, made_from=made_from)
    return made_from


def stages_of(config: SelectConfig, made_from: dict[str, Any]) -> list[Stage]:
    return [
        Stage("rows", partial(make_rows, config), alone=True),
        Stage("warm-up", partial(make_warm_up, config), alone=True),
        Stage("targets", partial(make_directions, config), alone=True),
        Stage("influence", partial(make_influence, config), done=partial(blocks_done, config)),
        Stage("choice", partial(choose, config, made_from), alone=True),
    ]


def place(config: SelectConfig, name: str) -> Path:
    return config.output_dir / "work" / name


def tokenizer_folder(config: SelectConfig) -> Path:
    return snapshot(config.tokenizer or config.model, "tokenizer", needs="tokenizer.json")


def device_of(rank: int) -> torch.device:
    gpus = torch.cuda.device_count()
    return torch.device("cuda", rank % gpus) if gpus else torch.device("cpu")


def pad_id_of(config: SelectConfig) -> int:
    return AutoTokenizer.from_pretrained(tokenizer_folder(config)).pad_token_id or 0


def make_rows(config: SelectConfig, rank: int, tasks: int) -> None:
    done = place(config, "rows.json")
    if done.is_file():
        return
    settings = {
        "tokenizer": AutoTokenizer.from_pretrained(tokenizer_folder(config)),
        "max_length": config.max_length,
    }
    count = write_candidates(config.candidates, place(config, "candidates"), **settings)
    write_targets(config.targets, place(config, "targets.parquet"), **settings)
    write_whole(done, json.dumps({"candidates": count}))


def candidates_of(config: SelectConfig) -> int:
    return json.loads(place(config, "rows.json").read_text())["candidates"]


def make_warm_up(config: SelectConfig, rank: int, tasks: int) -> None:
    if not place(config, f"warm-up/epoch-{config.warm_up.epochs}").is_dir():
        count, candidates = candidates_of(config), place(config, "candidates")
        warm_up(config, candidates, count, place(config, "warm-up"), pad_id_of(config), device_of(rank))


def make_directions(config: SelectConfig, rank: int, tasks: int) -> None:
    out = place(config, "directions.npy")
    if not out.is_file():
        measure = Measure(config, place(config, "warm-up"), pad_id_of(config), device_of(rank))
        measure_targets(measure, place(config, "targets.parquet"), list(config.targets), out)


def blocks(config: SelectConfig) -> Iterator[tuple[Path, Path]]:
    """Of each file of candidates its own place and that of its influence."""
    for block in range(-(-candidates_of(config) // BLOCK)):
        yield place(config, f"candidates/{block:05d}.parquet"), place(config, f"influence/{block:05d}.npy")


def make_influence(config: SelectConfig, rank: int, tasks: int) -> None:
    mine = [pair for number, pair in enumerate(blocks(config)) if number % tasks == rank and not pair[1].is_file()]
    if mine:
        measure = Measure(config, place(config, "warm-up"), pad_id_of(config), device_of(rank))
        directions = np.load(place(config, "directions.npy"))
        for candidates, out in mine:
            measure_candidates(measure, candidates, directions, out)


def blocks_done(config: SelectConfig) -> tuple[int, int]:
    pairs = list(blocks(config))
    return sum(out.is_file() for _, out in pairs), len(pairs)


def choose(config: SelectConfig, made_from: dict[str, Any], rank: int, tasks: int) -> None:
    """Rank the candidates, take the most similar or of these the most varied, and write all that the folder holds."""
    out = config.output_dir
    pairs = list(blocks(config))
    rows = pa.concat_tables([pq.read_table(path, columns=["source", "number"]) for path, _ in pairs])
    influence = np.concatenate([np.load(path) for _, path in pairs])
    scores, best = influence.max(axis=1), influence.argmax(axis=1)
    order = np.argsort(-scores, kind="stable")
    count = config.select.of(len(order))
    taken, tags = order[:count].tolist(), None
    sources, numbers = rows["source"].to_pylist(), rows["number"].to_pylist()
    if config.diversity is not None:
        pool = order[: max(count, min(len(order), round(config.diversity.pool * count)))].tolist()
        lines = lines_at(config, [(sources[one], numbers[one]) for one in pool])
        tags = frequent_tags(tags_of(config, lines), config.diversity.min_count)
        taken = [pool[one] for one in varied(tags, count, complex_first=config.diversity.first == "complexity")]
    names = list(config.targets)
    with (out / f".{SELECTED}.partial").open("wb") as file:
        lines = lines_at(config, [(sources[one], numbers[one]) for one in taken])
        for one, line in zip(taken, lines, strict=True):
            chosen = {
                "messages": dialogue_messages(line),
                "source": sources[one],
                "score": float(scores[one]),
                "target": names[best[one]],
            }
            file.write(json.dumps(chosen, ensure_ascii=False).encode() + b"\n")
    Path(file.name).replace(out / SELECTED)
    is_taken = np.zeros(len(order), dtype=bool)
    is_taken[taken] = True
    columns = {f"influence {name}": influence[:, number] for number, name in enumerate(names)}
    table = pa.table({"source": rows["source"], "number": rows["number"], **columns, "selected": is_taken})
    pq.write_table(table, out / SCORES, compression="zstd")
    summary = summary_of(config, sources, scores, is_taken, names, best)
    if tags is not None:
        summary |= {"tags": len(frozenset().union(*tags)), "untagged": sum(not one for one in tags)}
    write_whole(out / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False))
    write_manifest(
        out,
        kind=KIND,
        inputs=made_from["inputs"],
        config=made_from["config"],
        counts={"candidates": len(order), "selected": len(taken)},
        seed=config.seed,
        leave_out=(CLAIM_NAME, "work"),
    )


def lines_at(config: SelectConfig, places: list[tuple[str, int]]) -> list[Any]:
    """What the lines of candidates hold, in the order of `places`."""
    wanted: dict[str, set[int]] = {}
    for source, number in places:
        wanted.setdefault(source, set()).add(number)
    found = {(source, number): line for source, number, line in chosen_lines(config.candidates, wanted)}
    return [found[one] for one in places]


def tags_of(config: SelectConfig, lines: list[Any]) -> list[list[str]]:
    settings = config.diversity
    assert settings is not None
    if settings.tagger is not None:
        return ask_for_tags([dialogue_messages(line) for line in lines], settings.tagger, place(config, "tags.jsonl"))
    column = settings.column
    for line in lines:
        tags = line.get(column) if isinstance(line, dict) else None
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise TrainError(
                f"diversity.column: a candidate has {tags!r:.60} under '{column}', expected a list of texts. Its keys: "
                f"{', '.join(line)}."
            )
    return [line[column] for line in lines]


def summary_of(
    config: SelectConfig, sources: list[str], scores: np.ndarray, taken: np.ndarray, names: list[str], best: np.ndarray
) -> dict[str, Any]:
    """Counts and mean scores by source and by the target that a candidate serves best."""
    by_source = []
    for source in config.candidates:
        own = np.array([one == source for one in sources])
        by_source.append(
            {
                "source": source,
                "candidates": int(own.sum()),
                "selected": int(taken[own].sum()),
                "mean_score": float(scores[own].mean()) if own.any() else None,
            }
        )
    return {
        "candidates": len(sources),
        "selected": int(taken.sum()),
        "least_score": float(scores[taken].min()),
        "sources": by_source,
        "targets": [
            {"target": name, "selected": int((best[taken] == number).sum())} for number, name in enumerate(names)
        ],
    }
