"""A planted case: among dialogues of four tasks, those of the target's are ranked first and help it in training."""

import importlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sft_miniature import write_llama, write_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.errors import DataError
from train.config_file import load_config
from train.errors import TrainError
from train.selection.config import SelectConfig
from train.selection.rows import encoded, padded
from train.selection.run import choose, select

ANSWERS = {
    "upper": lambda word: word.upper(),
    "reverse": lambda word: word[::-1],
    "digits": lambda word: "".join(str(ord(letter) % 10) for letter in word),
    "next": lambda word: "".join(chr((ord(letter) - 96) % 26 + 97) for letter in word),
}
SHARES = {"upper": 0.1, "reverse": 0.3, "digits": 0.3, "next": 0.3}


def made(task: str, seed: int) -> dict[str, Any]:
    word = "".join(random.Random(f"{task}{seed}").choices("abcdefghijklmnopqrstuvwxyz", k=6))
    # Nothing in the question tells the tasks apart: only what is answered does.
    return {
        "messages": [{"role": "user", "content": word}, {"role": "assistant", "content": ANSWERS[task](word)}],
        "task": task,
        "tags": [task, f"Starts with {word[0]}"],
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    write_llama(folder / "model")
    write_tokenizer(folder / "model")
    draw = random.Random(0)
    tasks = draw.choices(list(SHARES), SHARES.values(), k=400)
    lines = {
        "candidates": [made(task, number) for number, task in enumerate(tasks)],
        "target": [made("upper", number) for number in range(1000, 1008)],
        "held-out": [made("upper", number) for number in range(2000, 2064)],
    }
    for name, dialogues in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in dialogues))
    (folder / "select.yaml").write_text(
        """
model: model
candidates: {mixed: candidates.jsonl}
targets: {upper: target.jsonl}
output_dir: out
max_length: 64
micro_batch_size: 32
warm_up: {share: 0.25, epochs: 2, batch_size: 10, lr: 0.01}
adapters: {rank: 4, alpha: 16, dropout: 0.0, target_modules: all-linear}
dimension: 1024
select: {count: 30}
"""
    )
    return folder


def config_of(place: Path, *changes: str) -> SelectConfig:
    return load_config(SelectConfig, place / "select.yaml", changes)


@pytest.fixture(scope="module")
def selected(place: Path) -> list[dict[str, Any]]:
    select(config_of(place))
    return [json.loads(line) for line in (place / "out" / "selected.jsonl").read_text().splitlines()]


def tasks_of(place: Path) -> list[str]:
    return [json.loads(line)["task"] for line in (place / "candidates.jsonl").read_text().splitlines()]


def test_dialogues_of_the_targets_task_are_ranked_first(place: Path, selected: list[dict[str, Any]]) -> None:
    scores = pq.read_table(place / "out" / "scores.parquet")
    tasks = np.array(tasks_of(place))[scores["number"].to_numpy()]
    influence = scores["influence upper"].to_numpy()
    own, other = influence[tasks == "upper"], influence[tasks != "upper"]
    assert (own[:, None] > other[None, :]).mean() > 0.98  # the area under the curve; 0.5 by chance
    chosen = tasks[scores["selected"].to_numpy()]
    assert (chosen == "upper").mean() > 0.9  # of 30 selected; 0.1 of the candidates
    assert len(selected) == 30
    assert selected[0]["score"] == pytest.approx(influence.max())


def loss_after(place: Path, rows: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> float:
    model = AutoModelForCausalLM.from_pretrained(place / "model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        model(**padded(rows, 3, torch.device("cpu"))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return float(model(**padded(held_out, 3, torch.device("cpu"))).loss)


def test_training_on_the_selection_helps_the_target_more_than_training_on_as_many_at_random(
    place: Path, selected: list[dict[str, Any]]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    files = {
        "selected": place / "out" / "selected.jsonl",
        "candidates": place / "candidates.jsonl",
        "held-out": place / "held-out.jsonl",
    }
    rows = {name: list(encoded({name: file}, tokenizer=tokenizer, max_length=64)) for name, file in files.items()}
    chosen = loss_after(place, rows["selected"], rows["held-out"])
    by_chance = [
        loss_after(place, random.Random(seed).sample(rows["candidates"], 30), rows["held-out"]) for seed in range(2)
    ]
    assert chosen < min(by_chance) - 0.2, (chosen, by_chance)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != "claim.json"
    }


def test_a_selection_stopped_anywhere_goes_on_to_the_same_bytes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after every file that it makes, as by a kill between any two, and without a stop."""
    for module in ("rows", "run", "warm_up"):
        monkeypatch.setattr(f"train.selection.{module}.BLOCK", 150)
    whole = config_of(place, f"output_dir={tmp_path / 'whole'}", "warm_up.share=0.05")
    select(whole)
    made: list[Any] = []
    for name in ("rows", "warm_up", "influence", "run"):
        module = importlib.import_module(f"train.selection.{name}")
        for function in ("write_whole", "whole_folder", "write_manifest"):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, stopping(getattr(module, function), made))
    stops = 0
    while True:
        # The last stage writes two files, and both again after a stop.
        made[:] = [None] * (stops < 8)
        try:
            select(config_of(place, f"output_dir={tmp_path / 'stopped'}", "warm_up.share=0.05"))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == 8  # after rows, two epochs, targets, three blocks and the summary
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def stopping(function: Any, made: list[Any]) -> Any:
    def stop_after(*args: Any, **kwargs: Any) -> Any:
        if len(made) > 1:
            raise KeyboardInterrupt
        made.append(function)
        return function(*args, **kwargs)

    return stop_after


def test_of_a_pool_of_similar_dialogues_those_that_add_tags_are_taken(
    place: Path, selected: list[dict[str, Any]], tmp_path: Path
) -> None:
    copied = tmp_path / "varied"
    shutil.copytree(place / "out" / "work", copied / "work")  # what the choice is made from, without a claim
    config = config_of(place, f"output_dir={copied}", "select.count=12", "diversity={column: tags, pool: 3}")
    choose(config, {"inputs": {}, "config": {}}, 0, 1)
    scores = pq.read_table(copied / "scores.parquet").sort_by([("influence upper", "descending")])
    lines = [json.loads(line) for line in (place / "candidates.jsonl").read_text().splitlines()]
    letters = [lines[number]["messages"][0]["content"][0] for number in scores["number"].to_pylist()]
    pool, chosen = letters[:36], [letters[place] for place in np.flatnonzero(scores["selected"].to_numpy())]
    common = {letter for letter in pool if pool.count(letter) >= 2}
    assert len(chosen) == 12
    assert not np.any(scores["selected"].to_numpy()[36:])
    assert len(set(chosen) & common) == min(12, len(common))
    assert len(set(letters[:12]) & common) < min(12, len(common))  # the most similar alone repeat themselves


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["targets.upper=nowhere.jsonl"], "targets.upper"),
        (["candidates.mixed=nowhere.jsonl"], "candidates.mixed"),
        (["model=."], "no config.json"),
        (["adapters.target_modules=[no_such]"], "target_modules"),
        (["max_length=5"], "target 'upper'|no dialogue"),
        (["diversity={column: labels}"], "'labels'"),
    ],
)
def test_what_a_selection_cannot_work_with_is_named(
    place: Path, tmp_path: Path, changes: list[str], message: str
) -> None:
    config = config_of(place, f"output_dir={tmp_path / 'out'}", "warm_up.epochs=1", "warm_up.share=0.02", *changes)
    with pytest.raises((TrainError, DataError), match=message):
        select(config)


def test_another_selections_folder_is_refused(place: Path, selected: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match=r"select\.count: was 30, is 31"):
        select(config_of(place, "select.count=31"))
    before = (place / "out" / "selected.jsonl").stat().st_mtime_ns
    assert select(config_of(place))["selected"] == 30
    assert (place / "out" / "selected.jsonl").stat().st_mtime_ns == before
