"""What a run says of itself: the time that it will take, its progress on a terminal and in a log, and how it ended."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from yulanmini.report import collect
from yulanmini.reproduce import estimate as estimates
from yulanmini.reproduce.estimate import Estimate, reference_seconds, rough
from yulanmini.reproduce.settings import SCALES_FILE, load_settings
from yulanmini.reproduce.stages import STAGES
from yulanmini.reproduce.summary import closing

EXPECTED = {"corpus": 10.0, "pretrain": 200.0, "sft": 60.0}

# A stage that draws a bar as tqdm does, says something in between, and starts a process that does the same.
PROGRAM = """
import os, subprocess, sys, time
from yulanmini.reproduce.screen import Screen
with Screen("work", lambda bar: "about 9 s left in all"):
    sys.stderr.write("\\rwork: 10%\\rwork: 20%"); sys.stderr.flush(); time.sleep(1.2)
    sys.stderr.write("\\r         \\rsomething to know\\n"); sys.stderr.flush()
    subprocess.run(["printf", "\\\\rinner 50%%\\\\rinner 100%%\\\\nfrom a child\\\\n"], stdout=2)
    if len(sys.argv) > 1:
        raise SystemExit(3)
print("after", file=sys.stderr)
"""


def test_every_scale_has_reference_times_of_every_stage() -> None:
    import yaml

    for scale in yaml.safe_load(SCALES_FILE.read_text()):
        assert list(reference_seconds(scale, phases=27, threads=2)) == [stage.name for stage in STAGES]
        load_settings(scale)
    whole = reference_seconds("tiny", phases=27, threads=2)
    assert reference_seconds("tiny", phases=3, threads=2)["pretrain"] == pytest.approx(whole["pretrain"] / 9)
    assert reference_seconds("tiny", phases=27, threads=1)["sft"] > whole["sft"]
    assert reference_seconds("unknown", phases=27, threads=2) == {}


def test_the_first_estimate_is_by_a_test_of_the_machine_and_later_ones_by_its_stages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimates, "tested_factor", lambda: 2.0)
    estimate = Estimate.of(EXPECTED, [])
    assert estimate.left() == pytest.approx(540)
    assert estimate.range() is not None
    assert "7 min to 15 min" in str(estimate.range())
    assert "short test of this machine" in str(estimate.range())
    estimate.learn("corpus", 10.0)
    assert (
        260 < (estimate.left() or 0) < 520
    )  # the stage was as fast as the reference, the test is not believed as much
    resumed = Estimate.of(EXPECTED, [{"stage": "corpus", "seconds": 30.0, "finished": True}])
    assert resumed.left() == pytest.approx(3 * 260)
    assert "stages that are done" in str(resumed.range())
    unfinished = Estimate.of(EXPECTED, [{"stage": "corpus", "seconds": 900.0, "finished": False}])
    assert unfinished.tested == 2.0


def test_the_time_left_follows_the_bar_of_a_long_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "tested_factor", lambda: 1.0)
    estimate = Estimate.of(EXPECTED, [])
    estimate.learn("corpus", 10.0)
    assert estimate.left("pretrain", 50.0) == pytest.approx(150 + 60)
    # The bar says 600 s for the whole stage: three times what was expected, which the next stage will take as well.
    late = estimate.left("pretrain", 120.0, "pretrain:  20%|## | 200/1000 [02:00<08:00,  1.66step/s, loss=3.1]")
    assert 480 + 2 * 60 < (late or 0) < 480 + 3 * 60
    assert estimate.left("pretrain", 0.0, "pretrain: 0%| | 0/9 [00:00<?, ?step/s]") == pytest.approx(260)
    assert estimate.left("pretrain", 500.0) == pytest.approx(60)
    hours = estimate.left("pretrain", 3600.0, "pretrain: 50%|# | 1/2 [1:00:00<1:00:00, 1s/step]")
    assert (hours or 0) > 3600
    assert Estimate.of({}, []).left("one") is None or not Estimate.of({}, []).left("one")


@pytest.mark.parametrize(("seconds", "text"), [(2, "5 s"), (42, "40 s"), (100, "2 min"), (4800, "1 h 20 min")])
def test_times_that_are_guessed_are_round(seconds: float, text: str) -> None:
    assert rough(seconds) == text


def test_the_speed_test_takes_little_time_and_leaves_threads_as_they_were() -> None:
    import torch

    threads = torch.get_num_threads()
    assert 0 < estimates.speed_test(repeats=3) < 10
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("code", [0, 3])
def test_a_log_gets_whole_lines_and_no_carriage_returns(code: int) -> None:
    arguments = ["fail"] if code else []
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, timeout=60)
    assert done.returncode == code
    lines = done.stderr.decode().splitlines()
    assert b"\r" not in done.stderr
    assert lines == ["something to know", "inner 100%", "from a child", *([] if code else ["after"])]


def test_a_stage_goes_on_when_nobody_reads_what_it_writes() -> None:
    program = """
import sys
from yulanmini.reproduce.screen import Screen
with Screen("work", lambda bar: ""):
    for number in range(30_000):
        sys.stderr.write(f"line {number}\\n")
print("came to its end")
"""
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", program], stderr=writing, stdout=subprocess.PIPE, text=True)
    os.close(writing)
    os.close(reading)
    assert process.communicate(timeout=60)[0] == "came to its end\n"


def test_the_message_of_a_sudden_end_comes_through() -> None:
    program = """
import os
from train.launch import interrupt
from yulanmini.reproduce.screen import Screen
with Screen("work", lambda bar: ""):
    interrupt.leave()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert "Interrupted." in done.stderr


def test_a_terminal_shows_the_bar_with_the_time_left_and_keeps_lines() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        elif process.poll() is not None:
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "work: 20%  about 9 s left in all" in text
    # What stays on the screen: the last thing written to each line.
    kept = [re.split(r"\r", line.rstrip("\r"))[-1].replace("\x1b[K", "") for line in text.split("\n")]
    assert [line for line in kept if line] == ["something to know", "inner 100%", "from a child", "after"]


def test_a_finished_run_ends_with_what_came_out_and_what_to_type_next(smoke_run: Path) -> None:
    report = collect(smoke_run)
    text = closing(report, smoke_run)
    assert all(f"{stage.name} " in text for stage in STAGES)
    assert re.search(r"Held-out text: \d\.\d+ bits per byte", text)
    assert re.search(r"level 1 +\d+% +\d+% +\d+% +\d+", text)
    assert f"yulanmini chat {smoke_run}/08-on-policy" in text
    instruct = report["scores"]["on-policy"]
    sample = next(sample for sample in instruct["samples"] if sample.get("kind") == "last-digit")
    sample |= {"correct": True, "output": "1"}
    row = next(row for row in instruct["rows"] if row["group"] == "level 1 / last digit")
    row |= {"value": 1.0, "correct": row["count"]}
    text = closing(report, smoke_run)
    assert f"{row['count']} of {row['count']} right" in text
    assert f"you> {sample['prompt'].splitlines()[0]}" in text
    assert "it>  1" in text
