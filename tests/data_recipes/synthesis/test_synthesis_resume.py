"""`kill -9`, two processes, changed seeds and settings, damaged files: each seed once, no answer asked for twice."""

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

import orjson
import pytest
from endpoint_server import AnswerServer, serve_answers
from synthesis_runs import PATHS, made, outputs, prepared, right, rows, write_seeds

from data_recipes.endpoint.request import Request
from data_recipes.errors import DataError, error_line
from data_recipes.synthesis import run as run_module
from data_recipes.synthesis import seeds as seeds_module
from data_recipes.synthesis.synthesize import plan

SEEDS = 23
SCRIPT = """
import sys
from pathlib import Path
from synthesis_runs import made
from data_recipes.synthesis import seeds

if __name__ == "__main__":
    place, out, url, tasks = sys.argv[1:]
    seeds.SHARD_SEEDS = 4
    try:
        made(Path(place), Path(out), url, tasks=int(tasks), kind="test-unchecked-sums", concurrency=4)
    except ValueError as error:
        sys.exit(str(error))
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(seeds_module, "SHARD_SEEDS", 4)


def make(seeds: Path, out: Path, url: str, **options):
    return made(seeds, out, url, **{"kind": "test-unchecked-sums", "concurrency": 4, **options})


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    """Two files, so that there are several units and shards."""
    folder = tmp_path_factory.mktemp("seeds") / "seeds"
    write_seeds(folder / "a.jsonl", SEEDS - 6)
    write_seeds(folder / "b.jsonl", 6, first=40)
    return folder


@pytest.fixture(scope="module")
def undisturbed(seeds, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with pytest.MonkeyPatch.context() as patch, serve_answers(right) as server:
        patch.setattr(seeds_module, "SHARD_SEEDS", 4)
        make(seeds, out, server.url)
        assert server.asked_twice() == []
    assert len(rows(out)) == SEEDS
    assert len(outputs(out)) == 6 + 2
    return outputs(out)


def keys_on_disk(out: Path) -> set[str]:
    """Of the requests whose answers were kept."""
    lines = [line for path in out.glob("work/answers/*.jsonl") for line in path.read_bytes().split(b"\n")[:-1]]
    return {orjson.loads(line)["key"] for line in lines}


def key_of(body: dict) -> str:
    settings = {name: value for name, value in body.items() if name not in ("model", "messages", "seed")}
    return Request(body["model"], tuple(body["messages"]), settings, body["seed"]).key


def finish_and_compare(server: AnswerServer, seeds: Path, out: Path, undisturbed: dict[str, bytes]) -> None:
    kept, asked = keys_on_disk(out), len(server.asked)
    make(seeds, out, server.url)
    assert not kept & {key_of(body) for body in server.asked[asked:]}, "an answer on disk was asked for again"
    assert outputs(out) == undisturbed
    assert not list(out.rglob("*.partial"))


def in_a_fork(work) -> int:
    """Carry out `work` in a copy of this process; its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # nothing of the test's own may go on here
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at_write(number: int) -> None:
    """End this process at its nth change of a file: at once, of an answer with half of it written."""
    left = number
    write = os.write

    def count() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def torn_write(file: int, data: bytes) -> int:
        if len(data) > 64 and count():  # an answer; asyncio's own are shorter
            write(file, data[: len(data) // 2])
            os._exit(9)
        return write(file, data)

    def look(event: str, arguments: tuple) -> None:
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.link")
        if event == "open" and isinstance(arguments[1], str):
            changes = any(letter in arguments[1] for letter in "wxa+")
        if changes and count():
            os._exit(9)

    os.write = torn_write
    sys.addaudithook(look)


def killed_at_write(number: int, seeds: Path, out: Path, url: str) -> bool:
    """Whether a run was ended there, before it was done."""

    def work() -> None:
        die_at_write(number)
        make(seeds, out, url)

    code = in_a_fork(work)
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("number", [1, 17, 45, 90])
def test_killed_between_two_writes_each_seed_comes_once_and_no_answer_is_asked_twice(
    undisturbed, seeds, tmp_path, number
):
    with serve_answers(right) as server:
        assert killed_at_write(number, seeds, tmp_path / "out", server.url)
        finish_and_compare(server, seeds, tmp_path / "out", undisturbed)


def test_a_full_disk_is_named_and_the_next_run_goes_on(undisturbed, seeds, tmp_path):
    out = tmp_path / "out"
    with serve_answers(right) as server:

        def work() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            try:
                make(seeds, out, server.url)
            except OSError as error:
                (tmp_path / "said").write_text(error_line(error)[:800])

        assert in_a_fork(work) == 0
        assert "no space left on the disk" in (tmp_path / "said").read_text()
        finish_and_compare(server, seeds, out, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_between_any_two_writes(undisturbed, seeds, tmp_path):
    number = 1
    with serve_answers(right) as server:
        while killed_at_write(number, seeds, tmp_path / "out", server.url):
            finish_and_compare(server, seeds, tmp_path / "out", undisturbed)
            shutil.rmtree(tmp_path / "out")
            number += 1
    assert number > 100


def start(seeds: Path, out: Path, url: str, tasks: int = 1) -> subprocess.Popen:
    script = out.parent / "run.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(seeds), str(out), url, str(tasks)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PATHS})


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_two_tasks_killed_end_with_the_same_bytes(undisturbed, seeds, tmp_path):
    out = tmp_path / "out"
    with serve_answers(right, delay=0.05) as server:
        process = start(seeds, out, server.url, tasks=2)
        until = random.Random(1).randint(5, 15)
        wait_for(lambda: len(server.asked) >= until or process.poll() is not None)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        wait_for(lambda: server.under_way == 0)
        time.sleep(0.5)  # tasks end with their parent
        finish_and_compare(server, seeds, out, undisturbed)


def test_a_second_process_is_refused(seeds, tmp_path):
    with serve_answers(right, delay=0.2) as server:
        first = start(seeds, tmp_path / "out", server.url)
        wait_for(lambda: len(server.asked) > 0)
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(DataError, match="another process is working on it"):
            make(seeds, tmp_path / "out", server.url)
        first.send_signal(signal.SIGCONT)
        assert first.communicate()[1] == ""
        assert first.returncode == 0
        assert server.asked_twice() == []


def test_changed_seeds_and_another_kind_are_refused_and_nothing_is_touched(undisturbed, seeds, tmp_path):
    own = tmp_path / "seeds"
    shutil.copytree(seeds, own)
    out = tmp_path / "out"
    with serve_answers(right) as server:
        make(own, out, server.url)
        write_seeds(own / "b.jsonl", 7, first=40)
        for refused in (lambda: make(own, out, server.url), lambda: plan(prepared(own, out, server.url))):
            with pytest.raises(DataError, match=r"begun from other inputs .*contents changed|made from something else"):
                refused()
        with pytest.raises(DataError, match="synthesis: was 'test-unchecked-sums', is 'test-sums'"):
            made(seeds, out, server.url)
        assert outputs(out) == undisturbed


def test_a_changed_setting_model_or_prompt_asks_anew_and_the_old_answers_stay(seeds, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with serve_answers(right, models={"served": 4096, "other": 4096}) as server:

        def asked(**options) -> int:
            before = len(server.asked)
            make(seeds, out, server.url, **options)
            return len(server.asked) - before

        once = asked()
        first = outputs(out)
        assert asked(settings={"temperature": 0.9}) == once
        assert json.loads(outputs(out)["summary.json"])["config"]["settings"]["temperature"] == 0.9
        assert asked(model="other") == once
        assert asked(concurrency=2, timeout=5.0, prices=(1.0, 1.0)) == 0, "the first model's are kept"
        assert asked() == 0
        assert outputs(out) == first
        monkeypatch.setattr(run_module, "code_of", lambda kind: {"kind.py": "a newer one"})
        assert asked() == 0, "a changed parser reads the answers kept"


def test_first_a_few_then_all_asks_only_for_the_others(undisturbed, seeds, tmp_path):
    out = tmp_path / "out"
    with serve_answers(right) as server:
        make(seeds, out, server.url, limit=6)
        assert len(rows(out)) == 6
        make(seeds, out, server.url)
        assert server.asked_twice() == []
        assert outputs(out) == undisturbed
        make(seeds, out, server.url, limit=18)
        assert len(rows(out)) == 18
        make(seeds, out, server.url)
        assert server.asked_twice() == []
    assert outputs(out) == undisturbed


@pytest.fixture(scope="module")
def finished(seeds, undisturbed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch, serve_answers(right) as server:
        patch.setattr(seeds_module, "SHARD_SEEDS", 4)
        make(seeds, out, server.url)
    return out


@pytest.mark.parametrize(
    "name",
    ["samples/00002.parquet", "summary.json", "work/seeds.json", "work/units.json", "work/samples/00001.json"],
)
def test_a_flipped_byte_is_found_and_made_again(finished, undisturbed, seeds, tmp_path, name):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    content = bytearray((out / name).read_bytes())
    content[len(content) // 2] ^= 0x10
    (out / name).write_bytes(content)
    with serve_answers(right) as server:
        make(seeds, out, server.url)
        assert server.asked == []
    assert outputs(out) == undisturbed


@pytest.mark.parametrize("name", ["made/00001.parquet", "texts/00001.parquet", "answers/00001.jsonl"])
def test_a_flipped_byte_in_what_is_kept_is_found_when_it_is_needed(finished, undisturbed, seeds, tmp_path, name):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "work" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    shutil.rmtree(out / "samples")
    shutil.rmtree(out / "work" / "cleaning")
    (out / "work" / "made" / "00001.json").unlink() if name.startswith("answers") else None
    with serve_answers(right) as server:
        if name.startswith("answers"):
            make(seeds, out, server.url)
        else:
            with pytest.raises(DataError, match="same command again"):
                make(seeds, out, server.url)
            make(seeds, out, server.url)
        assert len(server.asked) == (1 if name.startswith("answers") else 0)
    assert outputs(out) == undisturbed


@pytest.mark.parametrize("name", ["work", "samples", "manifest.json", "work/made", "work/cleaning"])
def test_what_was_deleted_is_made_again(finished, undisturbed, seeds, tmp_path, name):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with serve_answers(right) as server:
        make(seeds, out, server.url)
        assert (server.asked != []) == (name == "work") or name == "work"
    assert outputs(out) == undisturbed
