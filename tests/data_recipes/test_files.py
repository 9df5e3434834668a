"""Small files appear whole: a process killed or failing while it writes leaves the old content and no second file."""

import multiprocessing
from pathlib import Path

import pytest

from data_recipes.errors import DataError
from data_recipes.files import write_whole
from data_recipes.manifest import whole_folder, write_manifest


def write_often(path: Path, content: str) -> None:
    for _ in range(200):
        write_whole(path, content)


def test_two_processes_that_write_one_file_never_mix_their_bytes(tmp_path):
    path = tmp_path / "record.json"
    contents = ["a" * 100_000, "b" * 50_000]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(path, content)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not path.exists() or path.read_text() in contents
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_failing_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_whole(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("record.json", "old")]


def test_what_a_killed_write_left_is_no_part_of_a_finished_folder(tmp_path):
    (tmp_path / "rows.arrow").write_bytes(b"rows")
    (tmp_path / ".scores.json.4711.partial").write_text('{"half": ')
    manifest = write_manifest(tmp_path, kind="test", inputs={}, config={}, counts={})
    assert list(manifest["files"]) == ["rows.arrow"]


def make_folder(destination: Path, name: str, started, finish) -> None:
    with whole_folder(destination) as partial:
        (partial / name).write_text(name)
        started.set()
        finish.wait(30)


def test_two_processes_never_make_one_folder_together(tmp_path):
    context = multiprocessing.get_context("fork")
    started, finish = context.Event(), context.Event()
    first = context.Process(target=make_folder, args=(tmp_path / "out", "first", started, finish))
    first.start()
    assert started.wait(30)
    with pytest.raises(DataError, match="another process is making it"), whole_folder(tmp_path / "out"):
        pass
    finish.set()
    first.join()
    assert first.exitcode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]


def test_what_a_killed_process_left_of_a_folder_is_emptied(tmp_path):
    context = multiprocessing.get_context("fork")
    started, finish = context.Event(), context.Event()
    first = context.Process(target=make_folder, args=(tmp_path / "out", "first", started, finish))
    first.start()
    assert started.wait(30)
    first.kill()
    first.join()
    with whole_folder(tmp_path / "out") as partial:
        (partial / "second").write_text("second")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/second"]
