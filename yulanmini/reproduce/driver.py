"""Run the stages in order, each once: a finished stage is a folder with a manifest, and is not run again."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.errors import DataError
from data_recipes.files import only_process, write_whole
from data_recipes.manifest import CLAIM_NAME, MANIFEST_NAME, claim_folder, folder_state, verify_files
from yulanmini.console import say
from yulanmini.errors import RunError
from yulanmini.reproduce.clock import stage_clock
from yulanmini.reproduce.estimate import Estimate, reference_seconds, rough
from yulanmini.reproduce.preflight import check_disk, check_request
from yulanmini.reproduce.screen import Screen
from yulanmini.reproduce.stages import STAGES, Run, Stage
from yulanmini.run_layout import TIMINGS_FILE

KIND = "reproduction"
LOCK_FILE = ".lock"


def is_finished(stage: Stage, run: Run) -> bool:
    """Whether the stage's folder is there and whole; a damaged one is an error that names the file."""
    folder = run.out / stage.folder
    if not (folder / MANIFEST_NAME).is_file():
        return False
    problems = verify_files(folder, content=False)
    if problems:
        raise RunError(f"{problems[0]}. Delete {folder} to have the stage '{stage.name}' run again.")
    return True


def plan(run: Run, *, stages: Sequence[Stage] = STAGES) -> list[dict[str, Any]]:
    """What a run would do, after the same checks: `stage`, `summary` and `status` of each. Touches nothing."""
    check_request(run)
    if not _may_give_way(run):
        folder_state(run.out, kind=KIND, made_from=run.identity())
    return [
        {
            "stage": stage.name,
            "summary": stage.summary,
            "status": "done" if (run.out / stage.folder / MANIFEST_NAME).is_file() else "to do",
        }
        for stage in stages
    ]


def reproduce(run: Run, *, stages: Sequence[Stage] = STAGES) -> None:
    """Bring `run.out` to completion; whatever is finished stays, whatever was interrupted is resumed.

    Raises DataError for a folder of another run or of anything else; RunError for a request that could not be carried
    out, a damaged stage or a folder that another process holds.
    """
    check_request(run)
    busy = RunError(f"{run.out}: another run is at work there. Wait for it, or stop it first.")
    _claim(run, busy)
    with only_process(run.out / LOCK_FILE, busy):
        done = {stage.name: is_finished(stage, run) for stage in stages}
        known = reference_seconds(run.scale, phases=len(run.phases), threads=run.threads)
        expected = {stage.name: known[stage.name] for stage in stages if stage.name in known}
        estimate = Estimate.of(expected, _timings(run))
        estimate.finished |= {name for name, is_done in done.items() if is_done}
        if expected and not all(done.values()):
            say(f"{estimate.range()}")
        for number, stage in enumerate(stages, start=1):
            heading = f"[{number}/{len(stages)}] {stage.name}: {stage.summary}"
            if done[stage.name]:
                say(f"{heading} (done before)")
                continue
            check_disk(run)
            say(heading)
            seconds = _carry_out(stage, run, estimate)
            estimate.learn(stage.name, seconds)
            say(f"      done in {seconds:.1f} s{_left(estimate.left())}")
            note = stage.note(run)
            if note:
                say(note)


def _carry_out(stage: Stage, run: Run, estimate: Estimate) -> float:
    """Run one stage, with its time and memory noted and the time left shown; returns its seconds."""
    began = time.monotonic()

    def time_left(bar: str) -> str:
        elapsed = time.monotonic() - began
        return _left(estimate.left(stage.name, elapsed, bar)).removeprefix("; ")

    with stage_clock(stage.name, run.out / TIMINGS_FILE), Screen(stage.name, time_left):
        stage.run(run)
    return time.monotonic() - began


def _left(seconds: float | None) -> str:
    return f"; about {rough(seconds)} left in all" if seconds else ""


def _timings(run: Run) -> list[Mapping[str, Any]]:
    """The attempts at stages so far; a last line that a kill has cut short is no attempt."""
    lines = []
    path = run.out / TIMINGS_FILE
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _claim(run: Run, busy: RunError) -> None:
    """Make the folder this run's. The claim of a run that came to nothing, as with a wrong corpus, gives way."""
    if _may_give_way(run):
        with only_process(run.out / LOCK_FILE, busy):
            if _may_give_way(run):
                (run.out / TIMINGS_FILE).unlink(missing_ok=True)
                claim = {"kind": KIND, "made_from": run.identity()}
                write_whole(run.out / CLAIM_NAME, json.dumps(claim, indent=2, ensure_ascii=False) + "\n")
    claim_folder(run.out, kind=KIND, made_from=run.identity())


def _may_give_way(run: Run) -> bool:
    """Whether the folder holds another run's claim and nothing that it has made."""
    try:
        found = json.loads((run.out / CLAIM_NAME).read_text())
    except (OSError, ValueError):
        return False
    if not isinstance(found, dict) or found.get("kind") != KIND:
        return False
    try:
        folder_state(run.out, kind=KIND, made_from=run.identity())
    except DataError:
        # Hidden are the lock, and what a kill has left of the first stage.
        visible = {path.name for path in run.out.iterdir() if not path.name.startswith(".")}
        return visible <= {CLAIM_NAME, TIMINGS_FILE}
    return False
