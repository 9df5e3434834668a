"""Configs: what is refused and with which words, which documents `only` names, and the alarm of a source's loss."""

import json
from collections import Counter
from pathlib import Path

import planted_steps  # noqa: F401 (its steps are found by name)
import pyarrow.parquet as pq
import pytest

from data_recipes.cleaning.clean import clean, plan
from data_recipes.cleaning.config import checked_config, shipped_configs, step_kinds
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.summary import read_summary, reasons_of
from data_recipes.errors import DataError

COUNT = {"step": "planted-count"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([], "expected a mapping"),
        ({"steps": []}, "steps"),
        ({"step": [COUNT]}, "Did you mean 'steps'"),
        ({"steps": [{"fewest": 3}]}, r"steps\[0\]: step is missing"),
        ({"steps": [{"step": "planted-cuont"}]}, "Did you mean 'planted-count'"),
        ({"steps": [COUNT | {"fewset": 3}]}, r"steps\[0\] \(planted-count\): fewset: .*Did you mean 'fewest'"),
        ({"steps": [COUNT | {"fewest": "many"}]}, "fewest"),
        ({"steps": [COUNT | {"only": {"langauge": ["en"]}}]}, "no step before it has the column 'langauge'"),
        ({"steps": [COUNT, COUNT | {"only": {"planted_cuont": 3}}]}, "Did you mean 'planted_count'"),
        ({"steps": [COUNT, COUNT | {"only": {"planted_count": "three"}}]}, "expected values of the type int64"),
        ({"steps": [COUNT, COUNT | {"unit": "characters"}]}, "only thresholds may differ"),
        ({"steps": [COUNT, {"step": "planted-rewrite"}]}, r"steps\[1\] \(planted-rewrite\).*before 'planted-count'"),
        ({"steps": [COUNT], "max_document_bytes": 0}, "max_document_bytes"),
        ({"steps": [COUNT], "most_lost_of_a_source": 2}, "most_lost_of_a_source"),
    ],
)
def test_a_wrong_config_is_refused_by_name(values, named):
    with pytest.raises(DataError, match=named):
        checked_config(values)


def test_the_guide_names_every_step_and_config():
    guide = (Path(__file__).resolve().parents[3] / "docs" / "cleaning.md").read_text()
    own = {name for name, kind in step_kinds().items() if kind.__module__.startswith("data_recipes.cleaning.")}
    assert not [name for name in own if f"`{name}`" not in guide]
    assert not [name for name in shipped_configs() if f"`{name}`" not in guide]


def written(folder: Path, **texts: list[str]) -> list[str]:
    """A file of rows for each source; what `--in` gets."""
    for name, rows in texts.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in rows))
    return [f"{name}={folder / f'{name}.jsonl'}" for name in texts]


def test_only_names_the_documents_that_a_step_judges(tmp_path):
    inputs = parse_inputs(written(tmp_path, a=["one", "one two", "one two three"], b=["one", "eins zwei"]))
    steps = [
        COUNT | {"fewest": 2, "only": {"source": "b"}},
        COUNT | {"fewest": 5, "only": {"planted_count": [2, 7], "source": ["a"]}},
    ]
    clean(checked_config({"steps": steps}), inputs, tmp_path / "out")
    assert reasons_of(read_summary(tmp_path / "out")) == {
        ("planted-count (1)", "fewer than 2 words"): 1,
        ("planted-count (2)", "fewer than 5 words"): 1,
    }
    kept = [
        row["text"] for path in sorted((tmp_path / "out/kept").iterdir()) for row in pq.read_table(path).to_pylist()
    ]
    assert kept == ["one", "one two three", "eins zwei"]


def test_only_of_a_source_that_is_not_given_is_refused(tmp_path):
    config = checked_config({"steps": [COUNT | {"only": {"source": "bokks"}}]})
    with pytest.raises(DataError, match="no source 'bokks' is given; there are books"):
        plan(config, parse_inputs(written(tmp_path, books=["one"])), tmp_path / "out")


def test_the_first_source_keeps_its_copy_and_the_loss_of_the_other_stops_the_run(tmp_path):
    texts = [f"text number {number}" for number in range(20)]
    inputs = parse_inputs(written(tmp_path, crawl=texts, wiki=[*texts[:15], "another"]))
    out = tmp_path / "out"
    steps = [{"step": "planted-twins"}]
    with pytest.raises(DataError, match=r"source 'wiki': 'planted-twins' would drop 15 of its 16 documents \(93.8%\)"):
        clean(checked_config({"steps": steps, "most_lost_of_a_source": 0.9}), inputs, out)
    assert not (out / "kept").exists()
    clean(checked_config({"steps": steps, "most_lost_of_a_source": 0.95}), inputs, out)
    lost = Counter({row["source"]: row["documents_dropped"] for row in read_summary(out)["funnel"]})
    assert lost == {"crawl": 0, "wiki": 15}


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ([], "nothing to read"),
        (["a.jsonl", "x/a.jsonl"], "two sources are called 'a'"),
        (["a="], "expected PATH or NAME=PATH"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["a.jsnol"], "no such file"),
        (["sub/*.txt"], "no file matches"),
        (["content.jsonl"], r"no column 'text' in content.jsonl. Did you mean .content.. Name the column"),
        (["out"], "Choose another --out"),
        (["."], "Choose another --out"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_is_written(tmp_path, monkeypatch, typed, named):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, a=["one"])
    for folder in ("x", "sub"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, a=["one"])
    (tmp_path / "content.jsonl").write_text('{"content": "one"}')
    with pytest.raises(DataError, match=named):
        clean(checked_config({"steps": [COUNT]}), parse_inputs(typed), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inputs_are_named_by_their_file_and_may_be_patterns(tmp_path):
    found = parse_inputs(["wiki=x/y.parquet", "crawl/2024/**/*.jsonl.zst", "/data/b.jsonl.gz"])
    assert [(one.name, one.path, one.glob) for one in found] == [
        ("wiki", "x/y.parquet", None),
        ("2024", "crawl/2024", "**/*.jsonl.zst"),
        ("b", "/data/b.jsonl.gz", None),
    ]
