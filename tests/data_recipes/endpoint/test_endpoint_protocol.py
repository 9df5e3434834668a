"""Whatever a server sends is an answer or a fault, and counts add up."""

import asyncio
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.endpoint.protocol import Fault, answer_of, fault_of, parsed, retry_after, streamed_answer
from data_recipes.endpoint.request import Answer
from data_recipes.endpoint.usage import Usage

NAMES = st.sampled_from(
    ["choices", "message", "delta", "content", "finish_reason", "usage", "prompt_tokens", "error", "code"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
ANSWERS = st.builds(
    lambda choice, usage: {"choices": [choice], "usage": usage},
    st.dictionaries(st.sampled_from(["message", "delta", "finish_reason", "index"]), JSON) | JSON,
    JSON,
)


async def in_pieces(content: bytes, size: int):
    for start in range(0, len(content), size):
        yield content[start : start + size]


def read(content: bytes) -> Answer:
    return answer_of(parsed(content))


def read_stream(content: bytes, size: int = 7) -> Answer:
    return asyncio.run(streamed_answer(in_pieces(content, size)))


@given(JSON | ANSWERS, st.binary(max_size=20))
def test_any_body_is_an_answer_or_a_fault(value, noise):
    for content in (json.dumps(value).encode(), noise):
        for reader, body in ((read, content), (read_stream, b"data: " + content + b"\n\ndata: [DONE]\n\n")):
            with suppress(Fault):
                assert isinstance(reader(body), Answer)
        assert fault_of(400, {}, content).outlook == "never"


@given(st.lists(st.text(), max_size=5), st.integers(1, 50), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_stream_in_any_pieces_is_the_same_text(texts, size, line_end, ends_with_line):
    events = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": len(texts)}})
    lines = [": a comment", *(f"data: {json.dumps(event)}{line_end}" for event in events)]
    content = line_end.join(lines).encode()
    if not ends_with_line:
        content = content.rstrip()
    assert read_stream(content, size) == Answer("".join(texts), "stop", None, len(texts))


def test_an_answer_that_the_server_has_broken_off_is_none():
    for reason in ("abort", "error"):
        with pytest.raises(Fault, match="broken"):
            answer_of({"choices": [{"message": {"content": "half"}, "finish_reason": reason}]})


def test_retry_after_in_both_forms_and_in_none():
    assert retry_after("2.5") == 2.5
    assert retry_after("-3") == retry_after("soon") == retry_after("") == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 10**9


def test_counts_of_several_processes_add_up_and_survive_a_file():
    parts = [Usage(asked=3), Usage(asked=1, kept=2)]
    parts[0].count(Answer("a", "stop", 10, 20))
    parts[0].count(Answer("b", "length", 1, None))
    parts[0].retried["429"] += 2
    parts[1].retried["429"] += 1
    parts[1].failed["400"] += 1
    total = Usage()
    for part in parts:
        total.add(Usage.from_json(json.loads(json.dumps(part.to_json()))))
    assert (total.asked, total.answered, total.kept, total.unfinished, total.uncounted) == (4, 2, 2, 1, 1)
    assert (total.prompt_tokens, total.completion_tokens) == (11, 20)
    assert (total.retried, total.failed) == ({"429": 3}, {"400": 1})
    assert total.cost(price_in=1.0, price_out=10.0) == pytest.approx((11 + 200) / 1e6)
    assert total.line().endswith("tokens/s, 2 from cache, 3 retried, 1 failed")


def test_speed_and_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("data_recipes.endpoint.usage.monotonic", lambda: now[0])
    usage = Usage(began=100.0)
    assert usage.seconds_left(0, 10) is None
    now[0] = 110.0
    usage.count(Answer("a", "stop", 5, 200))
    assert usage.tokens_per_second == 20
    assert usage.seconds_left(done=2, total=10) == 40
