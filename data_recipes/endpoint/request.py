"""What is asked of a model and what it answers; a request is known by its content, wherever its server is."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import xxhash

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "unknown"]


@dataclass(frozen=True)
class Request:
    """One chat completion. `settings`: the protocol's other fields (temperature, max_tokens, stop, seed, ...).

    `draw` tells several answers to the same question apart: it is part of the content, and sent as the seed where
    `settings` has none.
    """

    model: str
    messages: tuple[Mapping[str, str], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    draw: int = 0

    @property
    def key(self) -> str:
        """32 hexadecimal digits, equal for equal content; a changed prompt or setting gives another."""
        content = [self.model, [dict(message) for message in self.messages], dict(self.settings), self.draw]
        try:
            return xxhash.xxh3_128_hexdigest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
        except TypeError as error:  # half a pair of surrogates, from a careless reader of JSON
            raise NoAnswer(f"the request cannot be written as JSON ({error})") from error

    @property
    def body(self) -> dict[str, Any]:
        """What is sent to /v1/chat/completions."""
        return {"model": self.model, "messages": self.messages, "seed": self.draw, **self.settings}


@dataclass(frozen=True)
class Answer:
    """What came back. Token counts are the server's own, None where it gives none.

    `reasoning`: what a server that takes thoughts apart from the answer (vLLM's `--reasoning-parser`) gives as such.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning: str = ""


class NoAnswer(Exception):
    """A request that has failed for good, in a sentence; others may go on."""


Ask = Callable[[Request], Awaitable[Answer]]
"""Gives the answer to a request, from what is kept or from the server; `NoAnswer` where there will be none."""
