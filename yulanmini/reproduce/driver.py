"""Run the stages in order, each once: a finished stage is a folder with a manifest, and is not run again."""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from data_recipes.files import write_whole
from data_recipes.manifest import MANIFEST_NAME, verify_files
from yulanmini.console import say
from yulanmini.errors import RunError
from yulanmini.reproduce.clock import stage_clock
from yulanmini.reproduce.stages import STAGES, Run, Stage
from yulanmini.run_layout import RUN_FILE, TIMINGS_FILE

LOCK_FILE = ".lock"


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def claim_folder(out: Path, identity: dict[str, Any]) -> None:
    """Make `out` this run's folder, or check that it already is; another run's folder is left alone."""
    run_file = out / RUN_FILE
    if run_file.is_file():
        found = yaml.safe_load(run_file.read_text())
        theirs, ours = flatten(found), flatten(identity)
        different = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        if different:
            listed = "; ".join(f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} asked" for key in different)
            raise RunError(f"{out} holds another run's results ({listed}). Choose another --out, or delete it.")
        return
    strangers = [path.name for path in out.iterdir() if path.name != LOCK_FILE] if out.exists() else []
    if strangers:
        raise RunError(
            f"{out} is not empty and holds no run ({', '.join(sorted(strangers)[:5])}). Choose another --out."
        )
    write_whole(run_file, yaml.safe_dump(identity, sort_keys=False, allow_unicode=True))


@contextmanager
def only_one_run(out: Path) -> Iterator[None]:
    """Hold the folder's lock; a second run on the same folder is refused at once."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{out}: another run is at work there. Wait for it, or stop it first.") from error
        yield


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

    Raises RunError for a folder of another run, a damaged stage or one that another process holds.
    """
    if dry_run:
        for stage in stages:
            done = (run.out / stage.folder / MANIFEST_NAME).is_file()
            say(f"{stage.name:<12} {'done' if done else 'to do':<6} {stage.summary}")
        return
    with only_one_run(run.out):
        claim_folder(run.out, run.identity())
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
