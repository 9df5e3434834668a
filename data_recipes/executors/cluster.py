"""Stages on Slurm or Ray, through datatrove's executors (extra `cluster`).

datatrove cuts a stage into tasks, starts them, and keeps a file for each that is done; what a task does is the same
function as on one machine. Slurm gets one array job a stage, each waiting for the one before; Ray's stages are waited
for here. The folder of the work must be on a disk that all machines share.
"""

import inspect
import logging
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError, listed, nearest
from data_recipes.executors.stage import Stage
from data_recipes.files import write_whole
from data_recipes.recipes.yaml_schema import read_yaml

# What is decided here, not by the user's file.
OURS = ("self", "pipeline", "tasks", "depends", "depends_job_id", "logging_dir", "skip_completed", "job_id_retriever")
SLURM_NEEDS = ("time", "partition")
JOBS_FILE = "jobs.txt"


class StageStep:
    """A stage as a step of a datatrove pipeline: (documents, rank, world size), of which it takes the last two.

    `apart`: in a process of its own. Ray's tasks are in a pool that waits for ever for one that is killed.
    """

    def __init__(self, stage: Stage, *, apart: bool = False) -> None:
        self.stage = stage
        self.apart = apart

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        if self.apart:
            run_apart(partial(self.stage.run, rank, world_size))
        else:
            self.stage.run(rank, world_size)

    def __repr__(self) -> str:
        return self.stage.name


def run_apart(work: Callable[[], object]) -> None:
    """Do some work in a process of its own; `RuntimeError` with what it has raised, or the signal that ended it."""
    ours, theirs = os.pipe()
    process = os.fork()  # a pool's process may have no children of multiprocessing's
    if process == 0:
        try:
            work()
        except BaseException:
            os.write(theirs, traceback.format_exc()[-60_000:].encode())  # less than a pipe holds
            os._exit(1)
        os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        raised = pipe.read().decode(errors="replace")
    ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if ended < 0:
        raise RuntimeError(f"Error: the task was killed (signal {-ended}), perhaps for want of memory")
    if ended:
        raise RuntimeError(f"in a task:\n{raised.rstrip()}")


def run_on_cluster(stages: Sequence[Stage], *, executor: str, tasks: int, config: Path | None, folder: Path) -> bool:
    """Run the stages on Ray and return True, or hand them to Slurm and return False (or True once all are done).

    `config`: a YAML file with settings of datatrove's executor, and for Ray `address`. `folder` holds logs and marks of
    finished tasks, so it must be another where the work is another; given again, only what is not done runs.
    `DataError` for wrong settings, a stage that failed, or jobs that are still in Slurm's queue.
    """
    kind, settings = check_settings(executor, config)
    folder = folder.resolve()
    if executor == "slurm":
        return _hand_to_slurm(kind, stages, tasks, settings, folder)
    with _ray(settings):
        for stage in stages:
            job = _job(kind, stage, tasks, settings, folder)
            job.run()
            _check_done(job, stage, folder)
    return True


def _job(kind: Any, stage: Stage, tasks: int, settings: dict[str, Any], folder: Path, **more: Any) -> Any:
    count = 1 if stage.alone else tasks
    # The marks of finished tasks say nothing for another number of tasks.
    logs = folder / f"{stage.name.replace(' ', '-')}-{count}"
    step = StageStep(stage, apart=kind.__name__.startswith("Ray"))
    return kind([step], tasks=count, logging_dir=str(logs), skip_completed=True, **settings, **more)


def _hand_to_slurm(kind: Any, stages: Sequence[Stage], tasks: int, settings: dict[str, Any], folder: Path) -> bool:
    if shutil.which("sbatch") is None:
        raise DataError("--executor slurm: there is no 'sbatch' here. Give the command on a machine of the cluster.")
    jobs_file = folder / JOBS_FILE
    if jobs_file.is_file():
        _refuse_waiting(jobs_file)
    settings.setdefault("env_command", _environment())
    previous, submitted = None, list[str]()
    for stage in stages:
        name = f"yulanmini-{stage.name.replace(' ', '-')}"
        job = _job(kind, stage, tasks, {"job_name": name, **settings}, folder, depends=previous)
        if submitted or job.get_incomplete_ranks():
            # A stage whose tasks are marked as done runs again after one that was not: its work may be new.
            job.skip_completed = not submitted
            try:
                job.run()
            except subprocess.CalledProcessError as error:
                raise DataError(
                    f"sbatch refused the job of stage '{stage.name}': exit code {error.returncode}."
                ) from error
            submitted.append(str(job.job_id))
            previous = job
            write_whole(jobs_file, "\n".join(submitted))
    return not submitted


def check_not_in_queue(folder: Path) -> None:
    """`DataError` where jobs that any command has submitted with a `folder` inside this one are yet to end."""
    for jobs_file in sorted(folder.glob(f"*/{JOBS_FILE}")):
        _refuse_waiting(jobs_file)


def _refuse_waiting(jobs_file: Path) -> None:
    waiting = _in_queue(jobs_file.read_text().split())
    if waiting:
        raise DataError(
            f"{jobs_file.parent}: jobs {', '.join(waiting)} of this work are still in Slurm's queue. Wait for them "
            "(squeue --me) or cancel them (scancel), then give the command again."
        )


def _in_queue(jobs: list[str]) -> list[str]:
    """Those of the jobs that Slurm has not finished."""
    if not jobs or shutil.which("squeue") is None:
        return []
    answer = subprocess.run(
        ["squeue", "--noheader", "--format=%A", f"--jobs={','.join(jobs)}"], capture_output=True, text=True
    )
    # squeue fails where it knows none of them any more.
    found = set(answer.stdout.split()) if answer.returncode == 0 else set()
    return [job for job in jobs if job in found]


def _environment() -> str:
    """A line for the job's script by which it finds this Python, its packages, and datatrove's commands."""
    return f'export PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="{os.environ.get("PYTHONPATH", "")}"'


def _check_done(job: Any, stage: Stage, folder: Path) -> None:
    undone = job.get_incomplete_ranks()
    if undone:
        logs = Path(job.logging_dir.path) / "logs"
        raise DataError(
            f"stage '{stage.name}': {len(undone)} of {job.world_size} tasks failed, the first is {undone[0]} "
            f"({_last_error(logs / f'task_{undone[0]:05d}.log')}). Logs are in {logs}; the same command continues."
        )


def _last_error(log: Path) -> str:
    """The last line of a task's log that names an error, else where there is none."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    named = [line.strip() for line in lines if "Error" in line]
    return named[-1][:300] if named else "it was killed before it wrote why"


@contextmanager
def _ray(settings: dict[str, Any]) -> Iterator[None]:
    """A connection to the cluster at `address`, else a cluster of this machine's own for as long as it is needed."""
    import ray

    address = settings.pop("address", None)
    settings.setdefault("mem_per_cpu_gb", 1)
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DataError(f"--executor ray: no cluster at address {address} ({str(error).splitlines()[0]}).") from error
    try:
        yield
    finally:
        ray.shutdown()


def _executor_class(executor: str) -> Any:
    try:
        if executor == "ray":
            import ray  # noqa: F401
            from datatrove.executor.ray import RayPipelineExecutor as Kind
        else:
            from datatrove.executor.slurm import SlurmPipelineExecutor as Kind
    except ImportError as error:
        raise DataError(
            f"--executor {executor} needs {error.name}: pip install 'yulanmini[cluster]', or use --executor local."
        ) from error
    return Kind


def check_settings(executor: str, config: Path | None) -> tuple[Any, dict[str, Any]]:
    """datatrove's executor class and the user's settings of it; `DataError` for one that it does not know or needs."""
    kind = _executor_class(executor)
    settings = read_yaml(config) if config is not None else {}
    where = config or "--executor-config"
    if not isinstance(settings, dict):
        raise DataError(f"{where}: expected settings of datatrove's executor, one a line, such as `partition: cpu`.")
    known = [name for name in inspect.signature(kind.__init__).parameters if name not in OURS]
    known += ["address"] if executor == "ray" else []
    unknown = [f"unknown setting '{name}'.{nearest(name, known)}" for name in settings if name not in known]
    missing = [name for name in SLURM_NEEDS if executor == "slurm" and name not in settings]
    if missing:
        unknown.append(f"--executor slurm needs {' and '.join(missing)}, such as `time: '12:00:00'`, `partition: cpu`.")
    if unknown:
        raise DataError(f"{where}:\n{listed(unknown)}" if len(unknown) > 1 else f"{where}: {unknown[0]}")
    return kind, settings
