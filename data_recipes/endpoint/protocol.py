"""The OpenAI protocol as servers speak it: whole answers, streamed ones, and what is wrong where there is none."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Literal, get_args

import orjson

from data_recipes.endpoint.address import without_key
from data_recipes.endpoint.request import Answer, FinishReason

MOST_BYTES = 64 << 20  # of one answer; more is garbage
NOT_ENDED = ("abort", "error")  # the server's own word (vLLM, SGLang) for an answer that it has broken off
KEY_REFUSED, REFUSED = (401, 402, 407), 403
NOT_THERE = (404, 405, 410)
AGAIN = (408, 409, 425)  # and 429 and 500 to 599
BUSY = (429, 502, 503, 504)

Outlook = Literal["again", "busy", "never", "refused", "wrong server"]
"""What a fault says of the next try. `again`: it may go well, but this request may be to blame; `busy`: the server is
to blame, which passes; `never`: this request is hopeless; `refused`: the request, or this client; `wrong server`:
nothing that is asked here will be answered."""


@dataclass(eq=False)
class Fault(Exception):
    """A try without an answer: `reason` is what reports count by, `detail` a phrase for a message, `wait` the seconds
    that the server asks for."""

    outlook: Outlook
    reason: str
    detail: str
    wait: float = 0.0


def fault_of(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """What an answer with a status other than 200 means."""
    said = without_key(_words(body))
    detail = f"answers {status}" + (f" ({said})" if said else "")
    if status in KEY_REFUSED or (status == 429 and "insufficient_quota" in said):
        return Fault("wrong server", str(status), detail)
    if status == REFUSED:
        return Fault("refused", str(status), detail)
    if status in NOT_THERE or 300 <= status < 400:
        moved = f" and points to {without_key(headers['Location'])}" if "Location" in headers else ""
        return Fault("wrong server", str(status), detail + moved)
    wait = retry_after(headers.get("Retry-After", ""))
    if status in BUSY:
        return Fault("busy", str(status), detail, wait)
    if status in AGAIN or status >= 500:
        return Fault("again", str(status), detail, wait)
    return Fault("never", str(status), detail)


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header, in either of its forms; 0 where it says nothing."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, TypeError, IndexError):
        return 0.0


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object that an answer is; `Fault` for anything else, and for an error under a status of 200."""
    try:
        value = orjson.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Fault("again", "garbage", f"answers what is no JSON object ({without_key(_words(body[:1000]))})")
    if error := value.get("error"):
        code = error.get("code") if isinstance(error, dict) else None
        raise fault_of(code if isinstance(code, int) and 400 <= code < 600 else 500, {}, body)
    return value


def answer_of(value: Mapping[str, Any]) -> Answer:
    """The answer in a chat completion."""
    try:
        choice = value["choices"][0]
        return _answer(choice["message"], choice.get("finish_reason"), value.get("usage"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Fault("again", "garbage", "answers without a message") from error


async def streamed_answer(chunks: AsyncIterator[bytes]) -> Answer:
    """The answer in a stream of events; `Fault` where it ends before its end."""
    texts: list[str] = []
    thoughts: list[str] = []
    reason = usage = None
    done = False
    async for line in _lines(chunks):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True
            continue
        event = parsed(data)
        usage = event.get("usage") or usage
        try:
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                texts.append(delta.get("content") or "")
                thoughts.append(_thoughts(delta))
                reason = choice.get("finish_reason") or reason
        except (AttributeError, TypeError) as error:
            raise Fault("again", "garbage", "streams events without a message") from error
    if not done and reason is None:
        raise Fault("again", "half an answer", "ends its stream before the answer's end")
    try:
        return _answer({"content": "".join(texts), "reasoning": "".join(thoughts)}, reason, usage)
    except TypeError as error:
        raise Fault("again", "garbage", "streams what is no text") from error


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest, size = b"", 0
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        size += len(chunk)
        if size > MOST_BYTES:
            raise Fault("again", "endless", f"streams more than {MOST_BYTES >> 20} MiB")
    yield rest


async def whole_body(chunks: AsyncIterator[bytes]) -> bytes:
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > MOST_BYTES:
            raise Fault("again", "endless", f"answers more than {MOST_BYTES >> 20} MiB")
    return b"".join(parts)


def _answer(message: Mapping[str, Any], reason: Any, usage: Any) -> Answer:
    if reason in NOT_ENDED:
        raise Fault("again", "half an answer", f"has broken the answer off ({reason})")
    text = message.get("content") or ""
    if not isinstance(text, str):
        raise TypeError
    known: FinishReason = reason if reason in get_args(FinishReason) else "unknown"
    counts = usage if isinstance(usage, dict) else {}
    return Answer(text, known, _count(counts, "prompt_tokens"), _count(counts, "completion_tokens"), _thoughts(message))


def _thoughts(message: Mapping[str, Any]) -> str:
    found = message.get("reasoning_content") or message.get("reasoning") or ""
    return found if isinstance(found, str) else ""


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    value = counts.get(name)
    return value if type(value) is int and 0 <= value < 2**53 else None


def _words(body: bytes) -> str:
    """What a server says is wrong: the message in its JSON, else the text itself."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        words = [str(error[name]) for name in ("code", "message", "detail") if error.get(name)]
        return " ".join(words) or str(error)
    return str(error)
