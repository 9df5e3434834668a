"""`yulanmini eval fetch` from a Hub on this machine: local folders that are read without it, whole, resumed, shared."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from hub_clients import point_at
from test_eval_command import call

from data_recipes.errors import DataError
from data_recipes.manifest import verify_files
from eval.errors import EvalError
from eval.harness.benchmark import Benchmark, DataSource, all_benchmarks
from eval.harness.fetch import fetch, is_here, wanted
from eval.suites import run_suite
from hub_cards.loopback.hub import LoopbackHub

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
NAMES = ("arc-easy", "gsm8k-7shot-cot")
SPLITS = [
    (source.repo, split) for source in wanted([all_benchmarks()[name] for name in NAMES]) for split in source.splits
]
ARC = sum(repo == "allenai/ai2_arc" for repo, _ in SPLITS)


# The data sets of the fixtures, as the Hub has them.
DATASETS = {
    repo: {
        path.relative_to(FIXTURES / repo).as_posix(): path.read_bytes()
        for path in (FIXTURES / repo).rglob("*")
        if path.is_file()
    }
    for repo in ("allenai/ai2_arc", "openai/gsm8k")
}


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        for name, files in DATASETS.items():
            hub.put("dataset", name, files)
        yield hub


@pytest.fixture
def online(hub, monkeypatch, tmp_path):
    """This process takes a server for the Hub, and has nothing cached; undone by its `undo`."""
    from huggingface_hub import constants

    with monkeypatch.context() as patch:
        point_at(patch, hub.url, tmp_path)
        patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 5)
        yield patch


def entries(*names):
    return [all_benchmarks()[name] for name in names]


def test_what_was_fetched_is_read_without_the_hub_and_scores_the_same(
    hub, online, roomy_model, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "data"
    assert call(monkeypatch, "fetch", *NAMES, "--out", out, "--dry-run", "--json") == 0
    assert not out.exists()
    assert {step["repo"] for step in json.loads(capsys.readouterr().out)} == set(DATASETS)
    assert call(monkeypatch, "fetch", *NAMES, "--out", out, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["fetched"] == len(SPLITS)
    assert result["datasets"]["openai/gsm8k"]["main"]["test"]["revision"] == hub.head("dataset", "openai/gsm8k")
    assert verify_files(out) == []
    from_hub = run_suite(roomy_model, suite="arc-easy")
    online.undo()
    from_folder, from_fixture = (run_suite(roomy_model, suite="arc-easy", data=data) for data in (out, FIXTURES))
    assert from_hub["rows"] == from_folder["rows"] == from_fixture["rows"]
    documents = {
        run["provenance"]["benchmarks"]["arc-easy"]["documents"] for run in (from_hub, from_folder, from_fixture)
    }
    assert len(documents) == 1


def test_the_same_command_fetches_only_what_is_not_there(hub, online, tmp_path):
    out = tmp_path / "data"
    fetch(entries("arc-easy"), out)
    hub.requests.clear()
    assert fetch(entries("arc-easy"), out)["fetched"] == 0
    assert hub.requests == []
    assert fetch(entries(*NAMES), out)["fetched"] == len(SPLITS) - ARC
    damaged = out / "openai/gsm8k/main/test.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert fetch(entries(*NAMES), out)["fetched"] == 1
    assert verify_files(out) == []


def test_a_data_set_that_cannot_be_had_does_not_keep_the_others_away(hub, online, tmp_path, monkeypatch, capsys):
    out = tmp_path / "data"
    hub.breaks("404 RepoNotFound", where="ai2_arc")
    assert call(monkeypatch, "fetch", *NAMES, "--out", out) == 2
    error = capsys.readouterr().err
    assert f"{ARC} of {len(SPLITS)} splits are missing" in error
    assert "allenai/ai2_arc, ARC-Easy, train: cannot be fetched" in error
    assert "Traceback" not in error
    hub.heals()
    assert fetch(entries(*NAMES), out)["fetched"] == ARC


def test_a_kill_leaves_nothing_half_and_two_at_once_are_refused(online, tmp_path):
    out = tmp_path / "data"
    child = os.fork()
    if child == 0:
        import datasets

        real = datasets.Dataset.to_parquet

        def slow(self, path, **settings):
            Path(path).write_bytes(b"half")
            if "openai" in path:
                time.sleep(60)
            return real(self, path, **settings)

        datasets.Dataset.to_parquet = slow
        fetch(entries(*NAMES), out)
        os._exit(0)
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(out.glob("openai/gsm8k/main/.*")):
        time.sleep(0.05)
    with pytest.raises(DataError, match="another process is fetching"):
        fetch(entries(*NAMES), out)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_here(DataSource(repo="openai/gsm8k", config="main", splits=["train"]), "train", out)
    assert fetch(entries(*NAMES), out)["fetched"] == len(SPLITS) - ARC
    assert verify_files(out) == []


def test_a_folder_of_something_else_is_refused(tmp_path, corpus, monkeypatch, capsys):
    for more in ([], ["--dry-run"]):
        assert call(monkeypatch, "fetch", "arc-easy", "--out", corpus, *more) == 2
        assert "holds a folder of kind 'corpus'" in capsys.readouterr().err
    assert call(monkeypatch, "fetch", "quick", "--out", tmp_path / "x") == 2
    assert "only tasks of our own" in capsys.readouterr().err
    assert call(monkeypatch, "fetch", "bse", "--out", tmp_path / "x") == 2
    assert "Did you mean 'base'?" in capsys.readouterr().err


def test_the_splits_of_a_data_set_are_those_of_all_benchmarks(monkeypatch):
    """So that a folder serves every suite whichever it was fetched for."""
    entry = all_benchmarks()["arc-easy"]
    source = DataSource(repo="allenai/ai2_arc", config="ARC-Easy", splits=["extra"])
    monkeypatch.setitem(all_benchmarks(), "other", Benchmark.model_copy(entry, update={"data": [source]}))
    assert [set(source.splits) for source in wanted([entry])] == [{*entry.data[0].splits, "extra"}]


def test_every_subject_of_an_examination_is_a_configuration_to_fetch():
    sources = wanted([all_benchmarks()["ceval-letter"]])
    assert len(sources) == 52
    assert all(source.splits == ["dev", "val"] for source in sources)
    assert "high_school_biology" in {source.config for source in sources}


def test_data_that_comes_by_hand_is_named_and_not_asked_for(tmp_path):
    with pytest.raises(EvalError, match=r"LSDSem/story_cloze: not on the Hub\. Its authors send it after a form"):
        fetch([all_benchmarks()["storycloze"]], tmp_path / "data")
    (tmp_path / "data" / "LSDSem" / "story_cloze").mkdir(parents=True)
    assert fetch([all_benchmarks()["storycloze"]], tmp_path / "data")["fetched"] == 0


def test_without_data_that_comes_by_hand_a_run_says_where_it_is_from(roomy_model, tmp_path):
    (tmp_path / "data").mkdir()
    for data in (tmp_path / "data", None):
        with pytest.raises(EvalError, match="Its authors send it after a form"):
            run_suite(roomy_model, data=data, suite="storycloze", settings={"start": "eos"})
