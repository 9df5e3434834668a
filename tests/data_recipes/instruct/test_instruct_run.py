"""Dialogues from open sets to what tuning reads: every planted one is dropped for its own reason, and nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from endpoint_server import serve_answers
from markupsafe import escape
from real_dialogues import LIGHT, chinese, docs, documented, grade, pair, planted, sums, write_lines, write_mixture

from data_recipes.cleaning.topics import train_topic
from data_recipes.errors import DataError
from data_recipes.files import only_process
from data_recipes.instruct.config import load_instruct_config
from data_recipes.instruct.run import LOCK_NAME, instruct
from data_recipes.instruct.steps import complexity
from data_recipes.reading.opening import open_supply
from data_recipes.recipes.source import Source
from train.tuning.dialogues import lines_of, parse_dialogue
from yulanmini.report.instruct import instruct_page


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


def test_the_summary_counts_every_dialogue_and_the_page_shows_it(finished):
    folder, server = finished
    summary = json.loads((folder / "out/summary.json").read_text())
    counts = summary["counts"]
    rows = {row["category"]: row for row in summary["of_categories"]}
    assert counts["read"] == counts["dialogues"] + len(planted())
    assert rows["math"]["dialogues"] == len(sums())
    assert sum(row["tokens"] for row in rows.values()) == counts["tokens"]
    said = (message["content"] for line in lines(folder / "out/train.jsonl") for message in line["messages"])
    assert counts["tokens"] == sum(len(text.encode()) for text in said)  # a token a byte
    assert summary["judge"]["answers"] == len(server.answered)
    assert summary["columns"]["complexity"]["limits"] == [7.5]
    page = instruct_page(summary)
    assert all(escape(reason) in page for _, _, (_, reason) in planted().values())


def test_what_comes_out_is_what_tuning_and_recipes_read(finished):
    folder, _ = finished
    path = folder / "out/train.jsonl"
    dialogues = [parse_dialogue(line, where=place) for group in lines_of(path) for place, line in group]
    assert dialogues == [line["messages"] for line in lines(path)]
    supply = open_supply(Source(path=str(path), template="messages"))
    texts = [text for batch in supply.read_unit(0, Counter()) for text in batch.texts]
    assert len(texts) == len(dialogues)
    assert dialogues[0][1]["content"] in texts[0]


def test_given_again_nothing_is_asked_and_a_flipped_byte_is_made_good(finished):
    folder, server = finished
    path = folder / "out/train.jsonl"
    before, asked = path.read_bytes(), len(server.asked)
    stat = path.stat()
    instruct(load_instruct_config(folder / "mixture.yaml"), folder / "out")
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    path.write_bytes(before[:100] + b"#" + before[101:])
    gathered = folder / "out/work/gathered/docs/00000.jsonl"
    gathered.write_bytes(gathered.read_bytes().replace(b"function", b"fUnction", 1))
    instruct(load_instruct_config(folder / "mixture.yaml"), folder / "out")
    assert path.read_bytes() == before
    assert b"fUnction" not in gathered.read_bytes()
    assert len(server.asked) == asked


def test_other_thresholds_and_weights_ask_no_model_again(finished, monkeypatch):
    folder, server = finished
    asked = len(server.asked)
    config = yaml.safe_load((folder / "mixture.yaml").read_text())
    config["steps"][6] |= {"at_least": 1, "ungraded": "keep"}
    config["steps"][7] |= {"length_weight": 0.0}
    (folder / "other.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    monkeypatch.setattr(complexity, "BaseModelLoss", None)
    monkeypatch.setattr(complexity.Complexity, "_model", property(lambda step: Known()))
    instruct(load_instruct_config(folder / "other.yaml"), folder / "out")
    kept = {line["messages"][0]["content"] for line in lines(folder / "out/train.jsonl")}
    spared = {planted()[name][1]["messages"][0]["content"] for name in ("useless", "mute", "too complex")}
    assert spared <= kept
    assert len(server.asked) == asked
    assert Known.asked == 2  # the two that the judge had dropped before


class Known:
    """In place of the model: only what it was never asked."""

    asked = 0

    def losses(self, dialogues):
        Known.asked += len(dialogues)
        return [(10, 1.0)] * len(dialogues)


def test_two_tasks_write_what_one_does(tmp_path):
    with serve_answers(grade) as server:
        config = load_instruct_config(write_mixture(tmp_path, server.url, steps=LIGHT, shares=SHARES, seed=3))
        instruct(config, tmp_path / "one")
        instruct(config, tmp_path / "two", tasks=2)
    one, two = (tmp_path / name / "train.jsonl" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    counts = Counter(line["category"] for line in lines(one))
    assert counts == {"code": 8, "math": 8, "general-zh": 4}  # four Chinese ones are there, and they are a fifth


SHARES = {"code": 0.4, "math": 0.4, "general-zh": 0.2}


def test_a_killed_run_goes_on_without_asking_anything_again(tmp_path):
    with serve_answers(grade, delay=0.02) as server:
        config = write_mixture(tmp_path, None, steps=[LIGHT[0], {**LIGHT[1], "concurrency": 1}])
        command = [sys.executable, "-m", "yulanmini.cli", "data", "instruct", str(config), "--endpoint", server.url]
        process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stderr=subprocess.DEVNULL)
        for _ in range(1200):
            if len(server.answered) >= 20:
                break
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        answered = len(server.answered)
        assert 20 <= answered < 80
        server.delay = 0.0
        checked = load_instruct_config(config, endpoint=server.url)
        instruct(checked, tmp_path / "out")
        assert len(server.asked_twice()) <= 1  # the one that was under way
        instruct(checked, tmp_path / "undisturbed")
    done, undisturbed = (tmp_path / name / "train.jsonl" for name in ("out", "undisturbed"))
    assert done.read_bytes() == undisturbed.read_bytes()


def test_a_server_that_goes_away_stops_the_run_with_its_answers_kept(tmp_path):
    with serve_answers(grade) as server:
        config = load_instruct_config(write_mixture(tmp_path, server.url, steps=LIGHT))
        server.breaks("503", after=30)
        with pytest.raises(DataError, match="Answers so far are kept"):
            instruct(config, tmp_path / "out")
        assert not (tmp_path / "out/train.jsonl").exists()
        files = (tmp_path / "out/filtered/work/answers/judge").glob("*.jsonl")
        kept = sum(len(path.read_bytes().splitlines()) for path in files)
        assert 10 <= kept <= 30
        server.faults.clear()
        server.answered.clear()
        instruct(config, tmp_path / "out")
        # Each question once, however many of the first run's were still under way when it ended.
        asked = len(set(map(json.dumps, server.answered)))
        assert asked == len(docs()) + len(sums()) + len(chinese()) + len(planted()) - 1 - kept
        assert len(lines(tmp_path / "out/train.jsonl")) > 60


def test_a_judge_that_talks_nonsense_drops_all_and_says_so(tmp_path):
    with serve_answers(lambda body: "{{{ five stars") as server:
        config = load_instruct_config(write_mixture(tmp_path, server.url, steps=LIGHT))
        with pytest.raises(DataError, match="left no dialogue"):
            instruct(config, tmp_path / "out")
    dropped = pq.read_table(tmp_path / "out/filtered/dropped").to_pylist()
    assert {row["reason"] for row in dropped} == {"no grades in the judge's answers", "content is not text"}


def test_a_second_process_is_refused(tmp_path):
    config = load_instruct_config(write_mixture(tmp_path, None, steps=[]))
    instruct(config, tmp_path / "out")
    with (
        only_process(tmp_path / "out" / LOCK_NAME, AssertionError()),
        pytest.raises(DataError, match="another process"),
    ):
        instruct(config, tmp_path / "out")


def test_other_sources_than_the_folder_was_begun_from_are_refused(tmp_path):
    path = write_mixture(tmp_path, None, steps=[])
    instruct(load_instruct_config(path), tmp_path / "out")
    with (tmp_path / "sums.jsonl").open("a") as file:
        file.write(json.dumps(sums(40)[-1]) + "\n")
    with pytest.raises(DataError, match="begun from other inputs"):
        instruct(load_instruct_config(path), tmp_path / "out")


@pytest.mark.slow
def test_topic_classes_of_trained_models_are_a_filter_too(tmp_path):
    prose = [text for _, text in documented()] * 3
    foreign = [f"{one['instruction']}{one['output']}" * 4 for one in chinese()] * 40
    for name, texts in (("library", prose), ("other", foreign)):
        write_lines(tmp_path / f"{name}.jsonl", [{"text": f"{text} {number}"} for number, text in enumerate(texts)])
    train_topic([tmp_path / "library.jsonl"], [tmp_path / "other.jsonl"], tmp_path / "topic", topic="library")
    steps = [{"step": "topic", "models": {"library": "topic"}, "only": {"category": "code"}}]
    config = write_mixture(tmp_path, None, plants=False, steps=[{"step": "dialogue"}, *steps])
    stray = "水开以后放入鸡蛋，中火煮六分钟，再放进冷水里。"
    write_lines(tmp_path / "docs.jsonl", [*docs(), pair("怎样把鸡蛋煮得嫩一些？", stray * 4)])
    instruct(load_instruct_config(config), tmp_path / "out")
    (dropped,) = pq.read_table(tmp_path / "out/filtered/dropped").to_pylist()
    assert (dropped["source"], dropped["reason"]) == ("docs", "on none of the topics")
    assert stray in dropped["text"]


@pytest.mark.slow
def test_filters_on_slurm_give_the_same_and_the_same_command_writes_the_dialogues(tmp_path, slurm):
    pytest.importorskip("datatrove")
    (tmp_path / "slurm.yaml").write_text("time: '1:00:00'\npartition: cpu\n")
    options = {"tasks": 2, "executor": "slurm", "executor_config": tmp_path / "slurm.yaml"}
    with serve_answers(grade) as server:
        config = load_instruct_config(write_mixture(tmp_path, server.url, steps=LIGHT))
        instruct(config, tmp_path / "here")
        assert instruct(config, tmp_path / "out", **options) is None
        assert instruct(config, tmp_path / "out", **options) is not None
    here, out = (tmp_path / name / "train.jsonl" for name in ("here", "out"))
    assert here.read_bytes() == out.read_bytes()


class Killed(BaseException):
    """In place of a kill: nothing catches it."""


def test_stopped_before_any_of_its_renames_a_run_ends_the_same(tmp_path, monkeypatch):
    steps = [{"step": "dialogue-rules"}, {"step": "drop-share", "column": "answer_characters", "lowest": 0.2}]
    rows = [
        {"q": f"{n}+{n}?", "gold": str(2 * n), "responses": [f"The answer is {2 * n}.", "The answer is 1."]}
        for n in range(3, 9)
    ]
    write_lines(tmp_path / "asked.jsonl", rows)
    columns = {"prompt": "q", "answer": "gold", "responses": "responses"}
    pairs = {"sources": {"asked": {"path": "asked.jsonl", "columns": columns}}}
    config = load_instruct_config(write_mixture(tmp_path, None, steps=steps, pairs=pairs))
    renames = []
    replace = Path.replace

    def counted(path, target):
        renames.append(target)
        if len(renames) == stop:
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", counted)
    stop = 0
    instruct(config, tmp_path / "undisturbed")
    total = len(renames)
    assert total > 20
    for stop in range(1, total + 1, total // 6):
        renames.clear()
        out = tmp_path / f"stopped-{stop}"
        with pytest.raises(Killed):
            instruct(config, out)
        assert not (out / "manifest.json").exists()
        renames.extend([None] * total)
        instruct(config, out)
        for name in ("train.jsonl", "pairs.jsonl", "prompts.jsonl", "summary.json", "manifest.json"):
            assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), (stop, name)


def test_a_source_inside_the_result_is_refused(tmp_path):
    path = write_mixture(tmp_path, None, steps=[])
    instruct(load_instruct_config(path), tmp_path / "out")
    config = yaml.safe_load(path.read_text())
    config["sources"] = {"again": {"path": "out/train.jsonl"}}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="is inside"):
        instruct(load_instruct_config(path), tmp_path / "out")
    instruct(load_instruct_config(path), tmp_path / "other")
    assert len(lines(tmp_path / "other/train.jsonl")) == len(lines(tmp_path / "out/train.jsonl"))
