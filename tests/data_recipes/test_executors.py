"""Stages in one process and in several: who does what, and what becomes of a task that fails or is killed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from data_recipes.errors import DataError
from data_recipes.executors.run import run_stages
from data_recipes.executors.stage import Stage


def leave_file(folder: Path, stage: str, rank: int, tasks: int) -> None:
    (folder / f"{stage}-{rank}-{tasks}-{os.getpid()}").touch()


def fail(error: type[Exception], arguments: tuple, rank: int, tasks: int) -> None:
    if rank == tasks - 1:
        raise error(*arguments)
    time.sleep(60)


def die(rank: int, tasks: int) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Own(DataError):
    def __init__(self, one: int, two: int) -> None:  # cannot be pickled
        super().__init__(f"{one} is not {two}")


def test_each_task_does_its_share_and_alone_means_one(tmp_path):
    stages = [Stage(name, partial(leave_file, tmp_path, name), alone=name == "b") for name in "abc"]
    run_stages(stages, tasks=2)
    found = sorted(path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir())
    assert found == ["a-0-2", "a-1-2", "b-0-1", "c-0-2", "c-1-2"]
    by_rank = {path.name.split("-")[1]: path.name.split("-")[3] for path in tmp_path.glob("[ac]-*")}
    assert len(set(by_rank.values())) == 2, "a process a task, kept from stage to stage"


@pytest.mark.parametrize("tasks", [1, 2])
def test_bad_input_in_a_task_is_the_same_error_as_in_one_process(tasks):
    with pytest.raises(DataError, match="1 is not 2"):
        run_stages([Stage("check", partial(fail, Own, (1, 2)))], tasks=tasks)


def test_a_bug_in_a_task_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"in fail(.|\n)*KeyError: 'gone'"):
        run_stages([Stage("look", partial(fail, KeyError, ("gone",)))], tasks=2)


def test_a_killed_task_is_one_sentence_and_ends_the_others():
    began = time.monotonic()
    with pytest.raises(DataError, match=r"stage 'work', task 2 of 2: was killed \(signal 9\).*same command again"):
        run_stages([Stage("work", die)], tasks=2)
    assert time.monotonic() - began < 30


ORPHANS = """
import sys
from functools import partial
from pathlib import Path
from test_executors import leave_file, sleep
from data_recipes.executors.run import run_stages
from data_recipes.executors.stage import Stage

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run_stages([Stage("a", partial(leave_file, folder, "a")), Stage("b", sleep)], tasks=2)
"""


def sleep(rank: int, tasks: int) -> None:
    time.sleep(120)


def test_tasks_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    place = tmp_path / "files"
    place.mkdir()
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    parent = subprocess.Popen([sys.executable, str(script), str(place)], env=os.environ | {"PYTHONPATH": paths})
    wait_for(lambda: len(list(place.iterdir())) == 2)
    tasks = [int(path.name.rsplit("-", 1)[1]) for path in place.iterdir()]
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(is_running(task) for task in tasks))


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("options", "named"), [({"tasks": 0}, "at least 1"), ({"executor": "locl"}, "'local'")])
def test_wrong_options_are_refused(options, named):
    with pytest.raises(DataError, match=named):
        run_stages([], **options)
