"""The client against a server with every fault: what is tried again, what is given up, what stops the run."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest
from endpoint_server import MODEL, Reply, serve_answers

from data_recipes.endpoint.address import base_url
from data_recipes.endpoint.client import EndpointDown, ask_all, check_endpoint
from data_recipes.endpoint.pace import Pace
from data_recipes.endpoint.request import Answer, NoAnswer, Request
from data_recipes.endpoint.usage import Usage
from data_recipes.errors import DataError

QUICK = {"first_wait": 0.01, "timeout": 30.0}


def asking(text, model=MODEL, **settings):
    return Request(model, ({"role": "user", "content": text},), settings)


def ask_one(server, text="hello there", *, settings=None, **options):
    usage = Usage()
    (answer,) = ask_all([asking(text, **(settings or {}))], server.url, usage=usage, **QUICK | options)
    return answer, usage


def test_an_answer_comes_with_its_end_and_its_tokens():
    with serve_answers() as server:
        answer, usage = ask_one(server, settings={"temperature": 0.5, "max_tokens": 9})
    assert answer == Answer("hello there", "stop", 2, 2)
    assert server.asked == [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hello there"}],
            "seed": 0,
            "temperature": 0.5,
            "max_tokens": 9,
        }
    ]
    assert (usage.asked, usage.answered, usage.prompt_tokens, usage.completion_tokens) == (1, 1, 2, 2)


def test_many_answers_come_in_the_order_of_their_requests_and_few_are_under_way():
    with serve_answers(delay=0.005) as server:
        answers = ask_all([asking(f"number {index}") for index in range(100)], server.url, concurrency=8, **QUICK)
    assert [answer.text for answer in answers] == [f"number {index}" for index in range(100)]
    assert 1 < server.most_under_way <= 8


def test_a_model_that_never_stops_is_told_by_its_end():
    with serve_answers(lambda body: Reply("on and on", endless=True)) as server:
        answer, usage = ask_one(server, settings={"max_tokens": 7})
    assert (answer.finish_reason, answer.completion_tokens, usage.unfinished) == ("length", 7, 1)


def test_thoughts_that_a_server_takes_apart_come_apart():
    with serve_answers(lambda body: Reply("four", reasoning="two and two")) as server:
        assert ask_one(server)[0] == Answer("four", "stop", 2, 1, "two and two")


@pytest.mark.parametrize("kind", ["429", "500", "503", "garbage", "not json", "half", "cut", "reset", "error in 200"])
@pytest.mark.parametrize("streams", [False, True])
def test_a_passing_fault_is_tried_again(kind, streams):
    with serve_answers(streams_only=streams) as server:
        server.breaks(kind, times=2)
        answer, usage = ask_one(server)
    assert answer == Answer("hello there", "stop", 2, 2)
    assert usage.retried.total() == 2
    assert not usage.failed
    assert len(server.asked) == 3 + streams  # one more to learn that it only streams


def test_a_server_that_answers_too_late_is_asked_again():
    with serve_answers() as server:
        server.breaks("slow", times=1, seconds=3)
        answer, usage = ask_one(server, timeout=1.0)
    assert (answer.text, usage.retried) == ("hello there", {"timeout": 1})


def test_retry_after_is_waited_for_by_all():
    with serve_answers() as server:
        server.breaks("429", times=1, where="0", retry_after=0.5)
        server.breaks("slow", times=1, where="1", seconds=0.2)  # so that the next to leave is after the 429
        began = monotonic()
        ask_all([asking(f"{index}") for index in range(6)], server.url, concurrency=2, **QUICK)
    assert monotonic() - began >= 0.5
    assert min(at for at in server.at[2:]) - server.at[0] >= 0.5


def test_a_request_that_fails_for_good_leaves_the_others_alone():
    with serve_answers() as server:
        server.breaks("500", where="bad")
        server.breaks("400", where="long")
        usage = Usage()
        given = [asking(text) for text in ("good", "bad one", "too long", "fine")]
        answers = ask_all(given, server.url, usage=usage, tries=3, **QUICK)
    assert [getattr(answer, "text", None) for answer in answers] == ["good", None, None, "fine"]
    assert "answers 500 (planned fault 500) in 3 tries" in str(answers[1])
    assert "answers 400 (planned fault 400)" in str(answers[2])
    assert (usage.failed, usage.retried) == ({"500": 1, "400": 1}, {"500": 2})
    assert len(server.asked) == 1 + 3 + 1 + 1


@pytest.mark.parametrize(
    ("model", "key", "words"),
    [
        (MODEL, "another-secret", "401.*Is OPENAI_API_KEY set to a key of this server"),
        ("other", "the-planted-secret", "404.*`other` does not exist.*under this name"),
    ],
)
def test_a_refused_key_and_an_absent_model_stop_the_run_and_no_key_is_shown(monkeypatch, model, key, words):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serve_answers(key="the-planted-secret") as server, pytest.raises(EndpointDown, match=words) as caught:
        ask_all([asking(f"{index}", model) for index in range(20)], server.url, concurrency=2, **QUICK)
    assert key not in str(caught.value)
    assert server.keys == {f"Bearer {key}"}
    assert len(server.asked) <= 2


def test_a_server_that_is_gone_for_long_stops_the_run():
    with serve_answers() as server:
        url = server.url
    began = monotonic()
    with pytest.raises(EndpointDown, match=r"accepts no connection.*not answered for 0.*give the same command again"):
        ask_all([asking("hello")], url, patience=0.3, **QUICK)
    assert 0.3 < monotonic() - began < 20


def test_a_server_that_is_restarted_is_waited_for():
    with serve_answers() as server:
        url = server.url
    port = int(url.split(":")[2].split("/")[0])

    def answer():
        return ask_all([asking("hello")], url, tries=1, **QUICK)[0]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(answer)
        sleep(0.2)
        with serve_answers(port=port):
            assert waiting.result().text == "hello"


def test_all_failing_one_after_the_other_is_the_server_not_the_requests():
    with serve_answers() as server:
        server.breaks("500")
        with pytest.raises(EndpointDown, match="the last 50 requests have all failed"):
            ask_all([asking(f"{index}") for index in range(200)], server.url, concurrency=4, tries=2, **QUICK)
    assert len(server.asked) <= 2 * 54


def test_settings_that_are_always_refused_stop_the_run_at_its_begin():
    with serve_answers() as server:
        server.breaks("400")
        with pytest.raises(EndpointDown, match=r"answers 400 .* to 20 requests, and to none with an answer"):
            ask_all([asking(f"{index}") for index in range(200)], server.url, concurrency=4, **QUICK)


@pytest.mark.parametrize(
    ("kind", "retry_after", "words"),
    [
        ("429", 9999, "and asks to wait 9999 s"),
        ("429", "Wed, 21 Oct 2099 07:28:00 GMT", "and asks to wait [0-9]{9,} s"),
        ("quota", None, "insufficient_quota You exceeded"),
        ("redirect", None, "answers 307 and points to http://127.0.0.1:1/v1"),
    ],
)
def test_what_will_not_pass_stops_the_run_at_once(kind, retry_after, words):
    with serve_answers() as server:
        server.breaks(kind, after=1, retry_after=retry_after)
        with pytest.raises(EndpointDown, match=words):
            ask_all([asking(f"{index}") for index in range(5)], server.url, concurrency=1, **QUICK)
    assert len(server.asked) == 2


def test_one_request_for_which_the_server_is_always_busy_fails_alone(monkeypatch):
    monkeypatch.setattr("data_recipes.endpoint.client.BUSY_PATIENCES", 0.02)  # of 30 s
    with serve_answers(delay=0.02) as server:
        server.breaks("503", where="too much")
        given = [asking("too much"), *(asking(f"{index}") for index in range(60))]
        answers = ask_all(given, server.url, concurrency=2, patience=30, **QUICK)
    assert "answers 503 (planned fault 503) for 1 s, while others were answered" in str(answers[0])
    assert [answer.text for answer in answers[1:]] == [f"{index}" for index in range(60)]


def test_a_request_is_not_lost_where_the_server_is_busy_for_it_longer_than_patience_lasts():
    with serve_answers(delay=0.05) as server:
        server.breaks("429", where="unlucky", times=4)  # waits of 1.5 to 3 s in all
        given = [asking("unlucky"), *(asking(f"{index}") for index in range(60))]
        answers = ask_all(given, server.url, concurrency=2, patience=1.0, **QUICK | {"first_wait": 0.2})
    assert [answer.text for answer in answers] == ["unlucky", *(f"{index}" for index in range(60))]


KEY = "sk-planted-secret-0123456789"
RUN = """
import sys
from pathlib import Path
from data_recipes.endpoint.client import ask_all
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import Request
with KeptAnswers(Path(sys.argv[1])) as kept:
    given = [Request(model, ({"role": "user", "content": "hello"},)) for model in ("served", "other")]
    print(ask_all(given, sys.argv[2], kept=kept, concurrency=1))
"""


@pytest.mark.parametrize("right", [True, False])
def test_the_key_is_in_no_file_and_no_message(tmp_path, right):
    environment = os.environ | {"OPENAI_API_KEY": KEY, "PYTHONASYNCIODEBUG": "1", "PYTHONUNBUFFERED": "1"}
    with serve_answers(key=KEY if right else "another") as server:
        command = [sys.executable, "-X", "dev", "-c", RUN, str(tmp_path / "answers.jsonl"), server.url]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert server.keys == {f"Bearer {KEY}"}  # it was sent
    assert "EndpointDown" in done.stderr  # with everything that a traceback shows
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert (b"hello" in b"".join(written)) == right
    assert KEY.encode() not in b"".join(written) + done.stdout.encode() + done.stderr.encode()


def test_a_forbidden_text_is_not_a_forbidden_client():
    with serve_answers() as server:
        server.breaks("403", where="attack")
        answers = ask_all([asking(text) for text in ("good", "attack", "fine")], server.url, concurrency=1, **QUICK)
        assert isinstance(answers[1], NoAnswer)
        assert answers[2].text == "fine"
        with pytest.raises(EndpointDown, match="403"):
            ask_all([asking("attack")], server.url, **QUICK)


@pytest.mark.parametrize("limit", [{"requests_per_minute": 1200}, {"tokens_per_minute": 1200 * 80}])
def test_limits_a_minute_space_the_requests(limit):
    began = monotonic()
    with serve_answers() as server:  # a prompt of more than 320 bytes is 80 tokens and more
        ask_all([asking("x" * 320, max_tokens=1)] * 11, server.url, **limit, **QUICK)
    assert server.at[-1] - began > 0.5  # ten times a twentieth of a second


def test_no_window_of_a_minute_holds_more_than_the_limits(monkeypatch):
    now = [0.0]

    async def pass_time(seconds):
        now[0] += seconds

    monkeypatch.setattr("data_recipes.endpoint.pace.monotonic", lambda: now[0])
    monkeypatch.setattr("data_recipes.endpoint.pace.asyncio.sleep", pass_time)
    tokens = [10 + index * 37 % 400 for index in range(300)]
    left = []

    async def run():
        pace = Pace(requests_per_minute=30, tokens_per_minute=5000)
        for index, count in enumerate(tokens):
            await pace.turn(count)
            left.append(now[0])
            if index % 3 == 0:
                pace.correct(count, count - 5)
            if index == 100:
                pace.pause(500)

    asyncio.run(run())
    for first in range(300):
        window = [index for index in range(first, 300) if left[index] < left[first] + 60]
        assert len(window) <= 30
        assert sum(tokens[index] for index in window[:-1]) <= 5000 + 5 * len(window)
    assert left[101] - left[100] >= 500
    assert left[-1] < 500 + max(300 * 2, 60 * sum(tokens) / 5000) + 60  # and no slower than they must be


def test_check_endpoint_knows_the_models():
    with serve_answers(models={"one": 4096, "two": 8192}) as server:
        assert check_endpoint(server.url, "two") == 8192
        with pytest.raises(DataError, match=r"serves no model 'tow'. Did you mean 'two'"):
            check_endpoint(server.url, "tow")
    with pytest.raises(EndpointDown, match="accepts no connection"):
        check_endpoint(server.url, "one", patience=0.2)


def test_addresses():
    for given in ("http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/", "http://a:1/v1/chat/completions"):
        assert base_url(given) == "http://a:1/v1"
    for wrong in ("a:1", "ftp://a/v1", "http://a:99999/v1", "http://", "http://user:key@a/v1", "http://a/v1?key=b"):
        with pytest.raises(DataError, match="endpoint") as caught:
            base_url(wrong)
        assert "key=b" not in str(caught.value)
        assert "user:key" not in str(caught.value)


def test_text_that_is_no_unicode_fails_alone():
    with serve_answers() as server:
        answers = ask_all([asking("half \ud800"), asking("whole")], server.url, **QUICK)
    assert "cannot be written as JSON" in str(answers[0])
    assert answers[1].text == "whole"
