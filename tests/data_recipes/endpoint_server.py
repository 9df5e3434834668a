"""A server on this machine that speaks the OpenAI protocol: answers by a function, faults by plan, every request
counted.

    with serve_answers(lambda body: "4" if "2+2" in last(body) else "no idea") as server:
        server.breaks("500", times=2)          # then the next two requests get a 500
        ...                                    # ask server.url for the model "served"
        assert server.asked_twice() == []
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson
from aiohttp import web

MODEL = "served"
CONTEXT = 4096
STATUSES = ("400", "403", "404", "429", "500", "503")
FAULTS = (*STATUSES, "quota", "redirect", "garbage", "not json", "half", "cut", "reset", "slow", "error in 200")


@dataclass(frozen=True)
class Reply:
    """An answer in full; a function may return a plain str instead. `text` longer than max_tokens words is cut there,
    with the finish reason "length"; so is one with `endless`, whatever its length."""

    text: str
    finish_reason: str = "stop"
    endless: bool = False
    reasoning: str = ""
    tokens: Sequence[tuple[int, float]] = ()
    """Ids with log-probabilities, for a completion that asks for them as vLLM's does."""


@dataclass
class Fault:
    kind: str
    times: int
    after: int
    where: Callable[[dict[str, Any]], bool]
    retry_after: float | str | None
    seconds: float


def last(body: Mapping[str, Any]) -> str:
    """The text of the last message of a chat, or the prompt of a completion."""
    return body["messages"][-1]["content"] if "messages" in body else str(body["prompt"])


@dataclass
class AnswerServer:
    """What a test holds of a running server. `asked`: the bodies of all requests, those that met a fault included;
    `answered`: those whose answer was sent whole; `at`: when each of `asked` came; `keys`: Authorization headers."""

    answer: Callable[[dict[str, Any]], str | Reply]
    models: Mapping[str, int]
    key: str | None = None
    streams_only: bool = False
    delay: float = 0.0
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)
    """Names and folders of the adapters that are loaded; models to ask for."""
    under_way: int = 0
    most_under_way: int = 0

    def breaks(
        self,
        kind: str,
        *,
        times: int = 10**9,
        after: int = 0,
        where: str | Callable[[dict[str, Any]], bool] = "",
        retry_after: float | str | None = None,
        seconds: float = 5.0,
    ) -> None:
        """The next `times` requests whose last message contains `where` meet a fault, once `after` such are served.

        `seconds`: how long "slow" waits before it answers.
        """
        assert kind in FAULTS, kind
        matches = (lambda body: where in last(body)) if isinstance(where, str) else where
        self.faults.append(Fault(kind, times, after, matches, retry_after, seconds))

    def asked_twice(self) -> list[str]:
        """The last messages of requests that were answered more than once."""
        counts = Counter(orjson.dumps(body, option=orjson.OPT_SORT_KEYS) for body in self.answered)
        return [last(orjson.loads(body)) for body, count in counts.items() if count > 1]

    def fault_for(self, body: dict[str, Any]) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.where(body):
                if fault.after > 0:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        if refused := self.refuse_key(request):
            return refused
        sizes = self.models | dict.fromkeys(self.adapters, None)
        listed = [{"id": name, "object": "model", "max_model_len": size} for name, size in sizes.items()]
        return web.json_response({"object": "list", "data": listed})

    async def load_adapter(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        if body["lora_name"] in self.adapters:
            return said(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text=f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def unload_adapter(self, request: web.Request) -> web.StreamResponse:
        name = orjson.loads(await request.read())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return said(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def complete(self, request: web.Request) -> web.StreamResponse:
        if refused := self.refuse_key(request):
            return refused
        body = orjson.loads(await request.read())
        self.asked.append(body)
        self.at.append(monotonic())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if body.get("model") not in {*self.models, *self.adapters}:
                return said(404, f"The model `{body.get('model')}` does not exist.")
            if self.streams_only and not body.get("stream"):
                return said(400, "This model only supports stream mode, please set stream to true.")
            fault = self.fault_for(body)
            if self.delay:
                await asyncio.sleep(self.delay)
            if fault is not None and fault.kind not in ("half", "cut", "reset"):
                if fault.kind != "slow":
                    return plain_fault(fault)
                await asyncio.sleep(fault.seconds)
            reply = self.reply_to(body)
            if body.get("stream"):
                return await self.stream(request, body, reply, fault)
            value = whole(request.path, body, reply)
            if fault is not None and fault.kind in ("half", "cut", "reset"):
                return await broken_off(request, orjson.dumps(value), fault.kind)
            self.answered.append(body)
            return web.json_response(value, dumps=lambda value: orjson.dumps(value).decode())
        finally:
            self.under_way -= 1

    def refuse_key(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization")
        self.keys.add(given)
        if self.key is None or given == f"Bearer {self.key}":
            return None
        return said(401, f"Incorrect API key provided: {given}.")  # as careless servers do, with the key in it

    def reply_to(self, body: dict[str, Any]) -> Reply:
        reply = self.answer(body)
        if isinstance(reply, str):
            reply = Reply(reply)
        most = body.get("max_tokens") or CONTEXT
        words = reply.text.split(" ")
        if reply.endless:
            words *= most // len(words) + 1
        if len(words) > most or reply.endless:
            reply = Reply(" ".join(words[:most]), "length", reasoning=reply.reasoning)
        return reply

    async def stream(
        self, request: web.Request, body: dict[str, Any], reply: Reply, fault: Fault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chat = request.path.endswith("/chat/completions")

        async def send(value: Any) -> None:
            await response.write(b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n")

        words = reply.text.split(" ")
        pieces = [f"{word} " for word in words[:-1]] + words[-1:]
        for piece in pieces if fault is None else pieces[: len(pieces) // 2]:
            content = {"delta": {"role": "assistant", "content": piece}} if chat else {"text": piece}
            await send({"choices": [{"index": 0, "finish_reason": None, **content}]})
        if fault is not None:
            if fault.kind in ("cut", "reset") and request.transport is not None:
                request.transport.abort()
            return response  # "half": the stream ends as if all were well
        end = {"delta": {}} if chat else {"text": ""}
        await send({"choices": [{"index": 0, "finish_reason": reply.finish_reason, **end}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            await send({"choices": [], "usage": usage(body, reply)})
        await send(b"[DONE]")
        self.answered.append(body)
        return response


def usage(body: Mapping[str, Any], reply: Reply) -> dict[str, int]:
    asked = " ".join(message["content"] for message in body["messages"]) if "messages" in body else last(body)
    counts = {"prompt_tokens": len(asked.split()), "completion_tokens": len(reply.text.split(" "))}
    return counts | {"total_tokens": sum(counts.values())}


def whole(path: str, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """The answer to one request, to a chat or to a completion."""
    if path.endswith("/chat/completions"):
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        content: dict[str, Any] = {"message": message}
    else:
        content = {"text": reply.text}
        if body.get("return_token_ids"):
            content["token_ids"] = [token for token, _ in reply.tokens]
            content["logprobs"] = {"token_logprobs": [logp for _, logp in reply.tokens]}
    choice = {"index": 0, "finish_reason": reply.finish_reason, **content}
    return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage(body, reply)}


def said(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


def plain_fault(fault: Fault) -> web.Response:
    if fault.kind == "garbage":
        return web.json_response({"choices": [{"message": 5}]})
    if fault.kind == "not json":
        return web.Response(text="<html>502 Bad Gateway</html>", content_type="text/html")
    if fault.kind == "error in 200":
        return web.json_response({"error": {"message": "out of memory", "code": 500}})
    if fault.kind == "quota":
        error = {"code": "insufficient_quota", "message": "You exceeded your current quota."}
        return web.json_response({"error": error}, status=429)
    if fault.kind == "redirect":
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/v1"})
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return said(int(fault.kind), f"planned fault {fault.kind}", headers)


async def broken_off(request: web.Request, content: bytes, kind: str) -> web.StreamResponse:
    """`half`: half of the content as if it were all; `cut`: half of it, then the connection ends; `reset`: nothing."""
    if kind == "half":
        return web.Response(body=content[: len(content) // 2], content_type="application/json")
    response = web.StreamResponse(headers={"Content-Length": str(len(content)), "Content-Type": "application/json"})
    if kind == "cut":
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


@contextmanager
def serve_answers(
    answer: Callable[[dict[str, Any]], str | Reply] = last,
    *,
    models: Mapping[str, int] | Sequence[str] = (MODEL,),
    key: str | None = None,
    streams_only: bool = False,
    delay: float = 0.0,
    port: int = 0,
) -> Iterator[AnswerServer]:
    """A running server; without an `answer` it says what was said last. `delay`: seconds before each answer. `models`:
    names, with their context lengths."""
    sizes = models if isinstance(models, Mapping) else dict.fromkeys(models, CONTEXT)
    server = AnswerServer(answer, sizes, key, streams_only, delay)
    loop = asyncio.new_event_loop()
    application = web.Application(client_max_size=64 << 20)
    application.router.add_get("/v1/models", server.list_models)
    application.router.add_post("/v1/chat/completions", server.complete)
    application.router.add_post("/v1/completions", server.complete)
    application.router.add_post("/v1/load_lora_adapter", server.load_adapter)
    application.router.add_post("/v1/unload_lora_adapter", server.unload_adapter)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0, handler_cancellation=True)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
