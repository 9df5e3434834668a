"""`kill -9`, other numbers of tasks, two processes at once, a full disk, damaged files: always the same bytes."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import planted_steps  # noqa: F401 (its steps are found by name)
import pytest
from made_text import make_documents

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.errors import DataError, error_line
from data_recipes.reading import files

# Small units, so that a small run has many moments to die at.
SCRIPT = """
import sys
from pathlib import Path
from test_clean_resume import run_here

if __name__ == "__main__":
    place, out, tasks, fewest = sys.argv[1:]
    sys.exit(run_here(Path(place), Path(out), tasks=int(tasks), fewest=int(fewest)) or 0)
"""
UNIT_BYTES = 12_000
PATHS = os.pathsep.join([str(Path(__file__).parent), *sys.path])


def run_here(corpus: Path, out: Path, *, tasks: int = 1, fewest: int = 10) -> str:
    """A run in this process; the message where it failed."""
    steps = [
        {"step": "planted-rewrite"},
        {"step": "planted-count", "fewest": fewest},
        {"step": "planted-twins"},
        {"step": "planted-costly", "fewest": 30},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "UNIT_BYTES", UNIT_BYTES)
        try:
            clean(checked_config({"steps": steps}), parse_inputs([str(corpus)]), out, tasks=tasks)
        except (DataError, OSError) as error:
            return error_line(error)
    return ""


def start(corpus: Path, out: Path, *, tasks: int = 1, fewest: int = 10, **options) -> subprocess.Popen:
    script = corpus.parent / "run.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(corpus), str(out), str(tasks), str(fewest)]
    environment = os.environ | {"PYTHONPATH": PATHS}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def finish(*arguments, **options) -> str:
    """Run to the end; the message where it failed."""
    process = start(*arguments, **options)
    _, message = process.communicate()
    assert process.returncode in (0, 1)
    assert "Traceback" not in message
    return message


def hashes(out: Path, *, outputs_only: bool = False) -> dict[str, str]:
    found = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
    return {name: digest for name, digest in found.items() if not outputs_only or not name.startswith("work/")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two files of texts, a tenth of them twice."""
    folder = tmp_path_factory.mktemp("corpus") / "texts"
    folder.mkdir()
    for domain in ("web-en", "code"):
        texts = make_documents(domain, 150)
        lines = [json.dumps({"text": text}) for text in [*texts, *texts[::10]]]
        (folder / f"{domain}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run_here(corpus, out) == ""
    found = hashes(out)
    assert not [name for name in found if "partial" in name]
    assert sum(name.startswith("kept/") for name in found) > 8
    summary = json.loads((out / "summary.json").read_text())
    assert all(row["documents_dropped"] for row in summary["funnel"][2:]), "every step has something to drop"
    return found


def files_below(out: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(out))


def kill_at(moment: int, corpus: Path, out: Path, tasks: int) -> bool:
    """Kill a run when so many files are there; whether it was still running."""
    process = start(corpus, out, tasks=tasks)
    while process.poll() is None and files_below(out) < moment:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_killed_and_given_again_it_ends_with_the_same_bytes(undisturbed, corpus, tmp_path):
    out = tmp_path / "out"
    kills = [kill_at(len(undisturbed) // 3, corpus, out, 1), kill_at(len(undisturbed) * 2 // 3, corpus, out, 2)]
    assert any(kills)
    assert finish(corpus, out, tasks=2) == ""
    assert hashes(out) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(900)  # thirteen starts of Python, on a machine that may be busy
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_it_ends_with_the_same_bytes(undisturbed, corpus, tmp_path, seed):
    chance = random.Random(seed)
    out = tmp_path / "out"
    kills = 0
    for _ in range(40):
        process = start(corpus, out, tasks=chance.choice((1, 2)))
        # By files, not by time: on a fast machine a run is over in the time that a slow one takes for its first file.
        until = files_below(out) + chance.randint(1, len(undisturbed) // 3)
        while process.poll() is None and files_below(out) < until:
            time.sleep(0.001)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
        else:
            shutil.rmtree(out)  # it was done: from the beginning
        if kills == 6:
            break
    assert kills == 6
    assert finish(corpus, out, tasks=2) == ""
    assert hashes(out) == undisturbed


@pytest.mark.slow
def test_a_changed_threshold_on_the_way_leaves_nothing_of_the_old_one(undisturbed, corpus, tmp_path):
    out = tmp_path / "out"
    assert finish(corpus, out, fewest=90) == ""
    finished = files_below(out)
    process = start(corpus, out)
    while process.poll() is None and files_below(out) <= finished + 3:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert finish(corpus, out) == ""
    assert hashes(out, outputs_only=True) == {n: h for n, h in undisturbed.items() if not n.startswith("work/")}


def test_a_second_process_is_refused(corpus, tmp_path):
    out = tmp_path / "out"
    first = start(corpus, out)
    while first.poll() is None and not list(out.glob("work/texts/*.json")):
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)
    assert "another process is cleaning into it" in finish(corpus, out)
    first.send_signal(signal.SIGCONT)
    assert first.communicate()[1] == ""


def test_a_full_disk_is_named_and_the_next_run_goes_on(undisturbed, corpus, tmp_path):
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))}
    message = finish(corpus, tmp_path / "out", **limit)
    assert "no space left on the disk" in message
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert finish(corpus, tmp_path / "out") == ""
    assert hashes(tmp_path / "out") == undisturbed


@pytest.fixture(scope="module")
def finished(corpus, undisturbed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert run_here(corpus, out) == ""
    return out


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.5, 1 - 1e-9])
@pytest.mark.parametrize("name", ["texts", "signals/planted-count-*", "signals/planted-costly-*", "verdicts/*"])
def test_a_flipped_byte_in_work_is_found_and_made_again(finished, undisturbed, corpus, tmp_path, name, place):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "kept")  # so that there is something to write
    flip(next(out.glob(f"work/{name}/00003.parquet")), place)
    message = run_here(corpus, out)
    assert "00003.parquet: not what was written there" in message
    assert "same command again" in message
    assert run_here(corpus, out) == ""
    assert hashes(out) == undisturbed


@pytest.mark.parametrize(
    "name", ["kept/00003.parquet", "dropped/00000.parquet", "work/units.json", "work/files.parquet", "summary.json"]
)
def test_a_flipped_byte_elsewhere_is_found_and_made_again(finished, undisturbed, corpus, tmp_path, name):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    flip(out / name, 0.5)
    assert run_here(corpus, out) == ""
    assert hashes(out) == undisturbed


@pytest.mark.parametrize("name", ["work", "kept", "manifest.json"])
def test_what_was_deleted_is_made_again(finished, undisturbed, corpus, tmp_path, name):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run_here(corpus, out) == ""
    outputs = {n: h for n, h in undisturbed.items() if not n.startswith("work/")}
    assert hashes(out, outputs_only=True) == outputs


def test_other_inputs_and_folders_of_something_else_are_refused(finished, corpus, tmp_path):
    other = tmp_path / "texts"
    shutil.copytree(corpus, other)
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    assert run_here(other, out) == "", "the same contents elsewhere are the same inputs"
    with (other / "code.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    before = hashes(out)
    assert "begun from other inputs (texts: its contents changed)" in run_here(other, out)
    assert hashes(out) == before
    shutil.rmtree(out / "work")
    assert "begun from other inputs" in run_here(other, out), "the manifest knows them too"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "thesis.txt" in run_here(corpus, tmp_path / "mine")
    assert "Choose another --out" in run_here(corpus, corpus / "out")
