"""Dialogues from open sets to what tuning reads: every planted one is dropped for its own reason, and nothing else."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from endpoint_server import serve_answers
from real_dialogues import chinese, docs, grade, planted, sums, write_mixture

from data_recipes.instruct.config import load_instruct_config
from data_recipes.instruct.run import instruct


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, its folder and its server."""
    folder = tmp_path_factory.mktemp("mixture")
    with serve_answers(grade) as server:
        config = write_mixture(folder, server.url)
        instruct(load_instruct_config(config), folder / "out")
        yield folder, server


def test_each_planted_dialogue_is_dropped_for_its_own_reason_and_no_other_is(finished):
    folder, _ = finished
    dropped = pq.read_table(folder / "out/filtered/dropped").to_pylist()
    assert Counter((row["step"], row["reason"]) for row in dropped) == Counter(why for _, _, why in planted().values())
    kept = lines(folder / "out/train.jsonl")
    assert [line["messages"] for line in kept if line["source"] == "docs"] == [one["messages"] for one in docs()]
    assert [line["answer"] for line in kept if line["source"] == "sums"] == [one["gold"] for one in sums()]
    assert [line["messages"][0]["content"] for line in kept if line["source"] == "chinese"] == [
        one["instruction"] for one in chinese()
    ]
