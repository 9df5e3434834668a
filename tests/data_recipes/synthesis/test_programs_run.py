"""`synthesize programs`: the folder is a function of the request, whatever stops it or is done to it."""

import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from data_recipes.errors import DataError
from data_recipes.manifest import read_manifest, verify_files
from data_recipes.synthesis.programs import run as programs_run
from data_recipes.synthesis.programs.draw import all_kinds
from data_recipes.synthesis.programs.problem import is_heldout
from data_recipes.synthesis.programs.run import (
    ProgramsRequest,
    ProgramsRun,
    make_units,
    plan_programs,
    problems_of_unit,
    synthesize_programs,
)

REQUEST = ProgramsRequest(count=1_030, seed=3)


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr(programs_run, "UNIT_PROBLEMS", 100)


def files(folder):
    return {name: entry["sha256"] for name, entry in read_manifest(folder)["files"].items()}


def rows(folder):
    return [row for path in sorted((folder / "samples").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_folder_of_samples_with_their_steps_and_answers(tmp_path):
    manifest = synthesize_programs(REQUEST, tmp_path / "out")
    samples = rows(tmp_path / "out")
    assert manifest["counts"]["samples"] == len(samples) == 1_030
    assert verify_files(tmp_path / "out") == []
    assert [row["seed_row"] for row in samples] == list(range(1_030))
    assert {row["level"] for row in samples} == {kind.level for kind in all_kinds().values()}
    assert {row["language"] for row in samples} == {"en", "zh"}
    for row in samples:
        assert (row["kind"], row["verdict"], row["checked"], row["finish_reason"]) == (
            "programs", "accepted", True, "stop"
        )  # fmt: skip
        assert row["response"].endswith(row["answer"])
        assert row["response"].startswith(row["solution"])
        assert row["text"] == f"{row['prompt']}\n\n{row['response']}"


def test_two_tasks_give_the_bytes_of_one(tmp_path):
    request = ProgramsRequest(count=10_040)
    one = synthesize_programs(request, tmp_path / "one")
    two = synthesize_programs(request, tmp_path / "two", tasks=2)
    assert one["fingerprint"] == two["fingerprint"]


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path):
    request = ProgramsRequest(count=20_010, levels=(1, 2))
    code = (
        "from data_recipes.synthesis.programs.run import *\n"
        f"synthesize_programs(ProgramsRequest(count=20_010, levels=(1, 2)), Path({str(tmp_path / 'out')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    while process.poll() is None and not list((tmp_path / "out").glob("work/samples/*.json")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "work" / "samples").glob("*.json")}
    assert kept
    resumed = synthesize_programs(request, tmp_path / "out")
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert resumed["fingerprint"] == synthesize_programs(request, tmp_path / "whole")["fingerprint"]


def test_what_is_damaged_is_made_again_and_what_is_whole_is_left(tmp_path, small_units):
    first = synthesize_programs(REQUEST, tmp_path / "out")
    before = files(tmp_path / "out")
    damaged, missing, whole = (tmp_path / "out" / "samples" / f"0000{unit}.parquet" for unit in (2, 4, 5))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    missing.unlink()
    made = whole.stat().st_mtime_ns
    assert synthesize_programs(REQUEST, tmp_path / "out")["fingerprint"] == first["fingerprint"]
    assert verify_files(tmp_path / "out") == []
    assert files(tmp_path / "out") == before
    assert whole.stat().st_mtime_ns == made


def test_a_finished_folder_is_left_as_it_is(tmp_path, small_units):
    synthesize_programs(REQUEST, tmp_path / "out")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    synthesize_programs(REQUEST, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_another_request_or_process_or_kind_of_folder_is_refused(tmp_path, small_units):
    synthesize_programs(REQUEST, tmp_path / "out")
    with pytest.raises(DataError, match=r"made from something else:\nconfig\.seed: was 3, is 4"):
        synthesize_programs(ProgramsRequest(count=1_030, seed=4), tmp_path / "out")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match=r"mine\.txt"):
        synthesize_programs(REQUEST, tmp_path / "notes")
    busy = DataError("held")
    with (
        programs_run.only_process(tmp_path / "out" / programs_run.LOCK_NAME, busy),
        pytest.raises(DataError, match="another process is writing"),
    ):
        synthesize_programs(REQUEST, tmp_path / "out")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ProgramsRequest(count=0), "--count 0: expected at least 1"),
        (ProgramsRequest(count=5, levels=(9,)), "--level 9: there are levels 1, 2, 3"),
        (ProgramsRequest(count=5, levels=(2, 2)), "--level 2, 2: named twice"),
        (ProgramsRequest(count=5, languages=("fr",)), "--language fr: there are problems in en and zh"),
        (ProgramsRequest(count=5, languages=()), "no language"),
        (ProgramsRequest(count=5, side="test"), "--side test"),
        (ProgramsRequest(count=5, kinds=("gdc",)), "Did you mean 'gcd'"),
        (ProgramsRequest(count=5, kinds=("gcd",), levels=(1,)), "no kind of problem has one of the levels"),
        (ProgramsRequest(count=5_000, kinds=("parity", "shopping"), side="heldout"), "these kinds have about 1,0"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_is_written(tmp_path, request_, message):
    for refuse in (synthesize_programs, plan_programs):
        with pytest.raises(DataError, match=message):
            refuse(request_, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_problem_twice_over_all_units_and_sides(small_units):
    seen = set()
    for side in ("train", "heldout"):
        request = ProgramsRequest(count=3_000, side=side, kinds=("parity", "add", "sort", "clock", "count"))
        found = [problem for unit in range(request.units) for problem in problems_of_unit(request, unit)]
        assert {is_heldout(problem.asked, problem.operands) for problem in found} == {side == "heldout"}
        identities = {(problem.kind, problem.asked.identity(problem.operands)) for problem in found}
        assert len(identities) == len(found) == 3_000
        assert not identities & seen
        seen |= identities


def test_a_small_kind_is_asked_to_its_end_and_leaves_its_share_to_others(small_units):
    request = ProgramsRequest(count=4_000, kinds=("travel", "divide"))
    found = [problem for unit in range(request.units) for problem in problems_of_unit(request, unit)]
    travels = {problem.operands[2:] for problem in found if problem.kind == "travel"}
    kind = all_kinds()["travel"]
    assert travels == {(v, h) for v in range(12, 121) for h in range(2, 10) if not is_heldout(kind, (0, 0, v, h))}


def test_tasks_share_the_units_between_them(tmp_path, small_units):
    run = ProgramsRun(REQUEST, tmp_path / "out")
    for rank in (1, 0):
        make_units(run, rank, 2)
    shared = {path.name: path.read_bytes() for path in (tmp_path / "out" / "samples").iterdir()}
    synthesize_programs(REQUEST, tmp_path / "alone")
    assert shared == {path.name: path.read_bytes() for path in (tmp_path / "alone" / "samples").iterdir()}
