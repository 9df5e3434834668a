"""Every evaluation set: its templates fit its data, its splits are those that are fetched, and its items are found."""

import json
import shutil
from pathlib import Path

import pytest

from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.decontamination import Decontamination, DecontaminationSettings
from eval.harness.benchmark import all_benchmarks
from eval.harness.fetch import wanted
from eval.harness.items import evaluation_sets, is_here, items_of, write_items

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
WITHOUT_ANSWER = {"winogrande", "lambada", "boolq"}


def test_every_set_reads_what_fetch_lays_out():
    fetched = {(one.repo, one.config): set(one.splits) for one in wanted(list(all_benchmarks().values()))}
    for name, entry in evaluation_sets().items():
        for source in (one for data in entry.data for one in data.each()):
            assert set(source.splits) <= fetched[source.repo, source.config], name


@pytest.mark.parametrize("name", evaluation_sets())
def test_the_templates_fit_the_data(name):
    assert is_here(evaluation_sets()[name], FIXTURES)
    items = list(items_of(name, FIXTURES))
    assert items
    assert all(item["question"].strip() and "{{" not in item["question"] for item in items)
    assert len({item["id"] for item in items}) == len(items)
    assert all(bool(item["answer"].strip()) == (name not in WITHOUT_ANSWER) for item in items)


@pytest.mark.slow
def test_fetched_items_are_kept_out_of_training_text(tmp_path):
    data = tmp_path / "benchmarks"
    shutil.copytree(FIXTURES, data)
    counts = write_items(data)
    assert counts["gsm8k"] > 0
    step = Decontamination(DecontaminationSettings(step="decontamination", sets=tuple(counts), data=data))
    assert step.inputs().keys() == counts.keys()
    lines = {name: (data / "items" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in counts}
    assert {name: len(found) for name, found in lines.items()} == counts
    missed = []
    for name, found in lines.items():
        items = [json.loads(line) for line in found]
        texts = [f"A page about something.\n\n{item['question']}\n{item['answer']}\n\nThe end." for item in items]
        spans = step.signals(Batch("web", [""] * len(texts), texts, {}))["contamination_spans"]
        held = [
            any((one["set"], one["item"], one["share"]) == (name, item["id"], 1) for one in each)
            for item, each in zip(items, spans, strict=True)
        ]
        missed += [(name, item["question"]) for item, is_found in zip(items, held, strict=True) if not is_found]
    assert missed == [], step.details([])
