"""Topics, evaluation sets and scores in a cleaning run: what was planted is found, in the same bytes every time."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_topic import MATH, WEB, documents, write
from tiny_encoder import make_encoder

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.summary import read_summary
from data_recipes.cleaning.topics import train_topic
from data_recipes.errors import DataError
from data_recipes.recipes.source import Source


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, an evaluation set, and a corpus of 200 documents on the topic and 200 others; 30 hold an item."""
    place = tmp_path_factory.mktemp("models")
    positives = write(place / "math.jsonl", documents(MATH, 300, 1))
    negatives = write(place / "web.jsonl", documents(WEB, 300, 2))
    train_topic([positives], [negatives], place / "topics" / "math", topic="math")
    questions = [text[: 60 + 10 * number] for number, text in enumerate(documents(MATH, 30, 3))]
    (place / "benchmarks" / "items").mkdir(parents=True)
    write(place / "benchmarks/items/exam.jsonl", []).write_text(
        "".join(json.dumps({"id": f"q{number}", "question": text}) + "\n" for number, text in enumerate(questions))
    )
    corpus = documents(MATH, 200, 4)
    forms = (str, str.upper, lambda text: "\n".join(text.split()), lambda text: text.replace(" ", ", "))
    for number, question in enumerate(questions):
        corpus[number] = f"{corpus[number]}\n\n{forms[number % 4](question)}\n\n{corpus[number + 100]}"
    corpus += documents(WEB, 200, 5)
    rows = list(enumerate(corpus))
    random.Random(6).shuffle(rows)
    (place / "corpus").mkdir()
    for part in range(2):
        lines = [json.dumps({"text": text, "number": number}) for number, text in rows[part::2]]
        (place / "corpus" / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    return place


def config(place: Path, *more: dict[str, Any], probability: float = 0.5) -> Any:
    steps = [
        {"step": "topic", "models": {"math": str(place / "topics/math")}, "probability": probability},
        {"step": "decontamination", "sets": ["exam"], "data": str(place / "benchmarks")},
    ]
    return checked_config({"steps": [*steps, *more]})


def rows_of(out: Path, name: str) -> list[dict[str, Any]]:
    return [row for path in sorted((out / name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def files_of(out: Path) -> dict[str, bytes]:
    names = ("kept", "dropped")
    files = {f"{name}/{path.name}": path.read_bytes() for name in names for path in (out / name).iterdir()}
    return files | {"summary.json": (out / "summary.json").read_bytes()}


def numbers_of(place: Path) -> dict[tuple[str, int], int]:
    return {
        (path.name, row): json.loads(line)["number"]
        for path in (place / "corpus").iterdir()
        for row, line in enumerate(path.read_text().splitlines())
    }


def test_planted_items_and_topics_are_found_whatever_the_number_of_tasks(place: Path, tmp_path: Path) -> None:
    inputs = parse_inputs([f"mine={place / 'corpus'}"])
    for tasks in (1, 2):
        clean(config(place), inputs, tmp_path / str(tasks), tasks=tasks)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    numbers = numbers_of(place)
    kept, dropped = rows_of(tmp_path / "1", "kept"), rows_of(tmp_path / "1", "dropped")
    contaminated = {numbers[row["file"], row["row"]] for row in dropped if row["step"] == "decontamination"}
    assert contaminated == set(range(30)), "every planted item, and nothing else"
    off_topic = {numbers[row["file"], row["row"]] for row in dropped if row["step"] == "topic"}
    assert len(off_topic & set(range(200, 400))) >= 196
    assert len(off_topic & set(range(200))) <= 4
    assert len(kept) + len(dropped) == 400
    [of_one] = {row["reason"] for row in dropped if row["step"] == "decontamination"}
    assert of_one == "holds an item of exam"
    for row in dropped:
        if row["step"] == "decontamination":
            span = row["contamination_spans"][0]
            assert span["share"] == 1
            assert span["item"] == f"q{numbers[row['file'], row['row']]}"
    details = read_summary(tmp_path / "1")["details"]
    assert details["decontamination"] == {"exam": {"items": 30, "too_short": 0, "found": 30, "documents": 30}}
    assert details["topic"]["math"]["by_threshold"][4]["recall"] > 0.95


@pytest.mark.slow
def test_scores_of_a_softer_threshold_are_those_of_a_fresh_run_and_recipes_choose_by_them(
    place: Path, tmp_path: Path
) -> None:
    words = " ".join(documents(MATH, 20, 8) + documents(WEB, 20, 9)).split()
    scorer = make_encoder(tmp_path / "scorer", words, num_labels=1)
    inputs = parse_inputs([f"mine={place / 'corpus'}"])
    quality = {"step": "quality", "scorer": str(scorer), "column": "edu"}
    again, fresh = tmp_path / "again", tmp_path / "fresh"
    clean(config(place, quality, probability=0.9), inputs, again)
    few = len(rows_of(again, "kept"))
    assert all(row["edu"] is None for row in rows_of(again, "dropped"))
    clean(config(place, quality, probability=0.01), inputs, again)
    clean(config(place, quality, probability=0.01), inputs, fresh)
    kept = rows_of(fresh, "kept")
    assert len(kept) > few
    assert files_of(again) == files_of(fresh)
    scores = sorted(row["edu"] for row in kept)
    low, high = scores[len(scores) // 3], scores[2 * len(scores) // 3]
    middle = Source(path=str(fresh / "kept"), filters=[{"field": "edu", "min": low, "max": high}])  # type: ignore[list-item]
    assert sum(middle.keeps(row) for row in kept) == sum(low <= score <= high for score in scores) > 10


def test_models_are_found_beside_the_config(place: Path, tmp_path: Path) -> None:
    make_encoder(tmp_path / "models" / "edu", ["a", "b"], num_labels=1)
    train = {"step": "quality", "scorer": "models/edu"}
    found = checked_config({"steps": [train]}, folder=tmp_path)
    assert found.steps[0].settings.scorer == str(tmp_path / "models/edu")
    with pytest.raises(DataError, match="models/edu"):
        checked_config({"steps": [train]}, folder=place)


def test_a_set_that_was_not_fetched_is_refused_before_a_folder_is_made(place: Path, tmp_path: Path) -> None:
    steps = [{"step": "decontamination", "sets": ["gsm8k"], "data": str(tmp_path / "benchmarks")}]
    with pytest.raises(DataError, match="yulanmini eval fetch"):
        checked_config({"steps": steps})
