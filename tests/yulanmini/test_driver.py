"""The driver: stages run once, in order, whole or not at all; another run's folder and damage are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_recipes.errors import DataError
from data_recipes.manifest import whole_folder, write_manifest
from yulanmini.errors import RunError
from yulanmini.reproduce.driver import reproduce
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
    reproduce(run, stages=[])
    with pytest.raises(DataError, match=r"seed: was 0, is 1"):
        reproduce(replace(run, seed=1), stages=[])


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
