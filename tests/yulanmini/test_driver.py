"""The driver: stages run once, in order, whole or not at all; another run's folder and damage are refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_recipes.errors import DataError
from data_recipes.manifest import whole_folder, write_manifest
from yulanmini.errors import RunError
from yulanmini.report import collect
from yulanmini.reproduce.driver import plan, reproduce
from yulanmini.reproduce.settings import load_settings, parse_phases
from yulanmini.reproduce.stages import STAGES, Run, Stage


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = load_settings("smoke")
    return Run(out=tmp_path / "run", scale="smoke", settings=settings, corpus=None, phases=[1, 2], seed=0, threads=1)


def recording_stage(name: str, ran: list[str], *, fails: bool = False) -> Stage:
    def work(run: Run) -> None:
        ran.append(name)
        with whole_folder(run.folder(name)) as partial:
            (partial / "result.txt").write_text(f"{name} of seed {run.seed}")
            if fails:
                raise KeyboardInterrupt
            write_manifest(partial, kind="test", inputs={}, config={}, counts={})

    return Stage(name, name, "a stage of the test", work)


def test_a_finished_stage_is_not_run_again(run: Run) -> None:
    ran: list[str] = []
    stages = [recording_stage("one", ran), recording_stage("two", ran)]
    reproduce(run, stages=stages)
    reproduce(run, stages=stages)
    assert ran == ["one", "two"]


def test_an_interrupted_stage_leaves_nothing_and_is_run_again(run: Run) -> None:
    ran: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        reproduce(run, stages=[recording_stage("one", ran), recording_stage("two", ran, fails=True)])
    assert (run.out / "one" / "result.txt").is_file()
    assert not (run.out / "two").exists()
    reproduce(run, stages=[recording_stage("one", ran), recording_stage("two", ran)])
    assert ran == ["one", "two", "two"]


def test_timings_record_interrupted_and_finished_attempts(run: Run) -> None:
    ran: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        reproduce(run, stages=[recording_stage("one", ran, fails=True)])
    reproduce(run, stages=[recording_stage("one", ran)])
    lines = [json.loads(line) for line in (run.out / "timings.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["finished"]) for line in lines] == [("one", False), ("one", True)]
    assert all(line["peak_rss_bytes"] > 2**20 for line in lines)


def test_another_runs_folder_is_refused_with_what_differs(run: Run) -> None:
    ran: list[str] = []
    reproduce(run, stages=[recording_stage("one", ran)])
    for act in (reproduce, plan):
        with pytest.raises(DataError, match=r"seed: was 0, is 1"):
            act(replace(run, seed=1), stages=[])


def test_a_folder_of_other_files_is_refused_and_left_alone(run: Run) -> None:
    run.out.mkdir()
    (run.out / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"thesis\.txt"):
        reproduce(run, stages=[])
    assert [(path.name, path.read_text()) for path in run.out.iterdir()] == [("thesis.txt", "mine")]


def test_a_truncated_file_of_a_finished_stage_is_named(run: Run) -> None:
    ran: list[str] = []
    stages = [recording_stage("one", ran)]
    reproduce(run, stages=stages)
    (run.out / "one" / "result.txt").write_text("")
    with pytest.raises(RunError, match=r"result\.txt: 0 bytes"):
        reproduce(run, stages=stages)


def test_too_little_disk_space_is_said_before_a_stage_starts(run: Run) -> None:
    ran: list[str] = []
    settings = run.settings.model_copy(update={"free_bytes": 2**60})
    with pytest.raises(RunError, match="free on the disk"):
        reproduce(replace(run, settings=settings), stages=[recording_stage("one", ran)])
    assert ran == []


def test_two_runs_at_once_on_one_folder_are_refused(run: Run) -> None:
    def second(first: Run) -> None:
        with pytest.raises(RunError, match="another run is at work"):
            reproduce(first, stages=[])

    reproduce(run, stages=[Stage("outer", "outer", "tries to start a second run", second)])


def write_corpus(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 0}, "--threads 0: expected 1 or more"),
        ({"seed": -1}, "--seed -1: expected 0"),
        ({"corpus": "absent"}, "absent: no such folder"),
        ({"corpus": "small"}, "small: 18 bytes of text in 2 files, the scale 'smoke' needs 500"),
        ({"corpus": "around"}, "around/run: lies in the corpus"),
        ({"corpus": "small/text.txt"}, "a file, expected a folder"),
    ],
)
def test_what_could_not_come_to_an_end_is_said_before_anything_is_made(
    run: Run, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_corpus(tmp_path / "small", "eighteen bytes, so")
    (tmp_path / "small" / "picture.png").write_bytes(bytes(range(256)) * 8)
    write_corpus(tmp_path / "around", "long enough a text " * 40)
    if "corpus" in changes:
        changes = {"corpus": tmp_path / changes["corpus"], "out": tmp_path / "around" / "run"}
    ran: list[str] = []
    before = sorted(tmp_path.rglob("*"))
    for act in (reproduce, plan):
        with pytest.raises((RunError, DataError), match=message):
            act(replace(run, **changes), stages=[recording_stage("one", ran)])
    assert ran == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_came_to_nothing_does_not_lock_its_folder(run: Run, tmp_path: Path) -> None:
    first = replace(run, corpus=write_corpus(tmp_path / "first", "long enough a text " * 40))
    second = replace(run, corpus=write_corpus(tmp_path / "second", "quite another text " * 40))
    ran: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        reproduce(first, stages=[recording_stage("one", ran, fails=True)])
    (run.out / ".one.partial").mkdir()  # what a kill leaves
    assert [stage["status"] for stage in plan(second, stages=[recording_stage("one", ran)])] == ["to do"]
    assert json.loads((run.out / "claim.json").read_text())["made_from"]["corpus"].endswith("first")
    reproduce(second, stages=[recording_stage("one", ran)])
    assert json.loads((run.out / "claim.json").read_text())["made_from"]["corpus"].endswith("second")
    assert [json.loads(line)["finished"] for line in (run.out / "timings.jsonl").read_text().splitlines()] == [True]
    with pytest.raises(DataError, match="corpus: was"):
        reproduce(first, stages=[recording_stage("one", ran)])


def test_a_run_at_work_does_not_lose_its_folder_to_another_corpus(run: Run, tmp_path: Path) -> None:
    other = replace(run, corpus=write_corpus(tmp_path / "other", "long enough a text " * 40))

    def second(first: Run) -> None:
        with pytest.raises(RunError, match="another run is at work"):
            reproduce(other, stages=[])
        assert json.loads((run.out / "claim.json").read_text())["made_from"]["corpus"] is None

    reproduce(run, stages=[Stage("outer", "outer", "tries to start a second run", second)])


def test_skipped_files_are_named_in_the_terminal_and_given_to_the_report(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path / "corpus", "\n".join(f"line {number} of a text" for number in range(200)))
    for number in range(7):
        (corpus / f"picture-{number}.png").write_bytes(bytes(range(256)) * 8)
    [stage] = [stage for stage in STAGES if stage.name == "corpus"]
    reproduce(replace(run, corpus=corpus), stages=[stage])
    said = capsys.readouterr().err
    assert "7 files were skipped" in said
    assert len(re.findall(r"picture-\d.png: binary", said)) == 5
    assert "and 2 more" in said
    assert len(collect(run.out)["corpus"]["skipped"]) == 7


@pytest.mark.parametrize("text", ["2-5", "0", "1-28", "all", "1-x", "5-1"])
def test_phase_ranges_that_are_no_curriculum_are_refused(text: str) -> None:
    with pytest.raises(RunError):
        parse_phases(text)


def test_the_first_phases_alone_can_be_chosen() -> None:
    assert parse_phases("1-3") == [1, 2, 3]


def test_an_unknown_scale_names_the_known_ones() -> None:
    with pytest.raises(RunError, match="tiny"):
        load_settings("huge")


def test_every_stage_has_its_own_folder() -> None:
    assert len({stage.folder for stage in STAGES}) == len(STAGES)
