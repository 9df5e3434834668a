"""Run the stages in order, each once: a finished stage is a folder with a manifest, and is not run again."""

import shutil
from collections.abc import Sequence

from data_recipes.files import only_process
from data_recipes.manifest import MANIFEST_NAME, claim_folder, folder_state, verify_files
from yulanmini.console import say
from yulanmini.errors import RunError
from yulanmini.reproduce.clock import stage_clock
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


def reproduce(run: Run, *, stages: Sequence[Stage] = STAGES, dry_run: bool = False) -> None:
    """Bring `run.out` to completion; whatever is finished stays, whatever was interrupted is resumed.

    Raises DataError for a folder of another run or of anything else, RunError for a damaged stage or a folder that
    another process holds.
    """
    if dry_run:
        folder_state(run.out, kind=KIND, made_from=run.identity())
        for stage in stages:
            done = (run.out / stage.folder / MANIFEST_NAME).is_file()
            say(f"{stage.name:<12} {'done' if done else 'to do':<6} {stage.summary}")
        return
    claim_folder(run.out, kind=KIND, made_from=run.identity())
    busy = RunError(f"{run.out}: another run is at work there. Wait for it, or stop it first.")
    with only_process(run.out / LOCK_FILE, busy):
        for number, stage in enumerate(stages, start=1):
            heading = f"[{number}/{len(stages)}] {stage.name}: {stage.summary}"
            if is_finished(stage, run):
                say(f"{heading} (done before)")
                continue
            needed = run.settings.free_bytes
            if shutil.disk_usage(run.out).free < needed:
                raise RunError(f"{run.out}: less than {needed / 2**20:.0f} MiB free on the disk. Make room first.")
            say(heading)
            with stage_clock(stage.name, run.out / TIMINGS_FILE):
                stage.run(run)
