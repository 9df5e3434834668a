"""Answers kept: on disk before anyone sees them, each asked for once, whatever is torn, flipped or killed."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest
from endpoint_server import MODEL, serve_answers
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.endpoint.client import ask_all
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import Answer, NoAnswer, Request
from data_recipes.errors import DataError

QUICK = {"first_wait": 0.01, "timeout": 30.0}


def asking(text, draw=0, model=MODEL, **settings):
    return Request(model, ({"role": "user", "content": text},), settings, draw)


def keep_some(path, texts=("one", "two\nlines", "three")):
    with KeptAnswers(path) as kept:
        for text in texts:
            kept.keep(asking(text).key, Answer(text.upper(), "stop", 1, 2))


def test_kept_answers_are_there_again(tmp_path):
    keep_some(tmp_path / "answers.jsonl")
    with KeptAnswers(tmp_path / "answers.jsonl") as kept:
        assert len(kept) == 3
        assert kept.get(asking("two\nlines").key) == Answer("TWO\nLINES", "stop", 1, 2)
        assert kept.get(asking("four").key) is None


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(),
        st.builds(Answer, st.text(max_size=50), st.sampled_from(["stop", "length"]), st.none() | st.integers(0, 2**53)),
    )
)
def test_any_text_comes_back_as_it_was(tmp_path_factory, answers):
    path = tmp_path_factory.mktemp("kept") / "answers.jsonl"
    with KeptAnswers(path) as kept:
        for text, answer in answers.items():
            kept.keep(asking(text).key, answer)
    with KeptAnswers(path) as kept:
        assert {text: kept.get(asking(text).key) for text in answers} == answers


def test_an_answer_of_megabytes_comes_back(tmp_path):
    long = "词 and word\n" * 300_000
    keep_some(tmp_path / "answers.jsonl", [long, "short"])
    with KeptAnswers(tmp_path / "answers.jsonl") as kept:
        assert kept.get(asking(long).key).text == long.upper()
        assert kept.get(asking("short").key).text == "SHORT"


@pytest.mark.parametrize(
    "changed",
    [asking("Hello"), asking("hello", model="other"), asking("hello", temperature=0.2), asking("hello", draw=1)],
)
def test_another_prompt_model_setting_or_draw_is_a_miss(tmp_path, changed):
    keep_some(tmp_path / "answers.jsonl", ["hello"])
    with KeptAnswers(tmp_path / "answers.jsonl") as kept:
        assert kept.get(asking("hello").key) is not None
        assert kept.get(changed.key) is None


def test_a_line_torn_at_any_byte_is_cut_and_the_rest_is_kept(tmp_path):
    path = tmp_path / "answers.jsonl"
    keep_some(path)
    whole = path.read_bytes()
    second_ends = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for size in range(second_ends, len(whole)):
        path.write_bytes(whole[:size])
        with KeptAnswers(path) as kept:
            assert len(kept) == 2
            assert kept.get(asking("three").key) is None
            kept.keep(asking("three").key, Answer("THREE", "stop", 1, 2))
        assert path.read_bytes() == whole


def test_a_flipped_byte_loses_its_own_line_only_and_never_gives_a_wrong_answer(tmp_path):
    path = tmp_path / "answers.jsonl"
    keep_some(path)
    whole = path.read_bytes()
    texts = ("one", "two\nlines", "three")
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        with KeptAnswers(path) as kept:
            found = [kept.get(asking(text).key) for text in texts]
        assert all(
            answer in (None, Answer(text.upper(), "stop", 1, 2)) for text, answer in zip(texts, found, strict=True)
        )
        assert found.count(None) == (2 if whole[place] == ord("\n") and place < len(whole) - 1 else 1)


def test_a_byte_flipped_while_the_file_is_in_use_is_found(tmp_path):
    path = tmp_path / "answers.jsonl"
    keep_some(path)
    with KeptAnswers(path) as kept:
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.write(content.replace(b"TWO", b"TOO"))
        with pytest.raises(DataError, match="has changed while it was in use"):
            kept.get(asking("two\nlines").key)


def test_two_processes_on_one_file_are_refused(tmp_path):
    path = tmp_path / "answers.jsonl"
    with KeptAnswers(path):
        program = (
            "import sys; from pathlib import Path; from data_recipes.endpoint.kept import KeptAnswers\n"
            "KeptAnswers(Path(sys.argv[1])).__enter__()"
        )
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
        assert "another process is asking for these answers" in done.stderr
    keep_some(path)


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "answers.jsonl"
    write = os.write

    def half(file, data):
        if len(data) > 40:
            return write(file, data[:40])
        raise OSError(28, "No space left on device")

    with KeptAnswers(path) as kept:
        kept.keep(asking("one").key, Answer("ONE", "stop"))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("data_recipes.endpoint.kept.os.write", half)
            with pytest.raises(OSError, match="No space"):
                kept.keep(asking("two").key, Answer("TWO", "stop"))
        assert path.read_bytes() == before
        assert kept.get(asking("two").key) is None
        kept.keep(asking("two").key, Answer("TWO", "stop"))
    with KeptAnswers(path) as kept:
        assert (len(kept), kept.damaged) == (2, 0)


def test_equal_requests_at_the_same_time_are_asked_once(tmp_path):
    with serve_answers(delay=0.02) as server, KeptAnswers(tmp_path / "answers.jsonl") as kept:
        answers = ask_all([asking("hello")] * 20 + [asking("other")], server.url, kept=kept, **QUICK)
    assert {answer.text for answer in answers} == {"hello", "other"}
    assert len(server.asked) == 2


def test_those_who_wait_for_a_request_that_fails_ask_themselves(tmp_path):
    with serve_answers() as server, KeptAnswers(tmp_path / "answers.jsonl") as kept:
        server.breaks("400", times=1)
        answers = ask_all([asking("hello")] * 3, server.url, kept=kept, **QUICK)
    assert sorted(type(answer).__name__ for answer in answers) == ["Answer", "Answer", "NoAnswer"]
    assert len(server.asked) == 2
    assert isinstance(answers[0], NoAnswer)


def test_an_answer_is_on_disk_before_its_asker_sees_it(tmp_path):
    path = tmp_path / "answers.jsonl"

    async def ask(request):
        return Answer("HELLO", "stop")

    async def run():
        with KeptAnswers(path) as kept:
            await kept.wrap(ask)(asking("hello"))
            assert b"HELLO" in path.read_bytes()

    asyncio.run(run())


RUN = """
import sys
from pathlib import Path
from data_recipes.endpoint.client import ask_all
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import Request
with KeptAnswers(Path(sys.argv[1])) as kept:
    requests = [Request("served", ({"role": "user", "content": f"number {n}"},)) for n in range(300)]
    answers = ask_all(requests, sys.argv[2], kept=kept, concurrency=8)
    print(*(answer.text for answer in answers), sep=",")
"""


def test_killed_again_and_again_no_answer_that_arrived_is_asked_for_twice(tmp_path):
    path = tmp_path / "answers.jsonl"
    kills = 0
    with serve_answers() as server:
        while True:
            done_before = len(server.answered)
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(path), server.url], stdout=subprocess.PIPE, text=True
            )
            while process.poll() is None and (kills == 2 or len(server.answered) < done_before + 90):
                sleep(0.002)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                process.wait()
                process.stdout.close()
                continue
            break
        output = process.stdout.read()
        process.stdout.close()
    assert process.returncode == 0
    assert output.strip().split(",") == [f"number {index}" for index in range(300)]
    assert kills == 2
    assert len(server.asked_twice()) <= 2 * 8  # those that were under way
    lines = Path(path).read_bytes().splitlines()
    assert len(lines) == 300
