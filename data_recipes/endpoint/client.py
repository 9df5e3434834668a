"""Asking a server that speaks the OpenAI protocol: many requests at a time, tried again where that can help.

What can go wrong is of three kinds. A request may be hopeless (it is too long): `NoAnswer`, and others go on. The
server may be busy, restarting or faulty: tried again, later and later, as long as `patience` lasts. Or nothing will be
answered (the key is refused, the model is not there, the server is gone): `EndpointDown`, and the run stops with one
message, its answers kept.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import orjson

from data_recipes.endpoint.address import KEY_VARIABLE, base_url, key_headers, proxy_for, without_key
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.pace import Pace
from data_recipes.endpoint.protocol import Fault, answer_of, fault_of, parsed, streamed_answer, whole_body
from data_recipes.endpoint.request import Answer, NoAnswer, Request
from data_recipes.endpoint.usage import Usage
from data_recipes.errors import DataError, first_line, nearest

LONGEST_WAIT = 60.0  # seconds between two tries
CONNECT_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 4.0  # uvicorn closes idle connections after 5, and one closed just as it is used fails
BYTES_A_TOKEN = 4
TOKENS_UNKNOWN = 512  # of an answer, where neither the request nor earlier answers say
BUSY_PATIENCES = 12  # so long may a server that answers others be too busy for one request
ALL_FAILED = 50  # requests failed one after the other, with no answer between: it is the server
ALL_REFUSED = 20  # the first requests, in the same words: it is the settings

Item = TypeVar("Item")
Result = TypeVar("Result")


class EndpointDown(DataError):
    """The server as a whole gives no answers; what it has answered so far is kept."""


class Endpoint:
    """`async with Endpoint(url) as endpoint: answer = await endpoint.ask(request)`.

    concurrency: requests under way at a time. timeout: seconds that one answer may take. tries: of one request, where
    the fault may be its own. first_wait: seconds before the second try, doubled for each one after, half of it by
    chance. patience: seconds for which a server may be busy or away. usage: counted there.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = 64,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout: float = 600.0,
        tries: int = 5,
        first_wait: float = 0.5,
        patience: float = 300.0,
        usage: Usage | None = None,
    ) -> None:
        if min(concurrency, tries) < 1:
            raise DataError(f"endpoint: concurrency {concurrency} and tries {tries}, expected at least 1 of each.")
        self.url = base_url(url)
        self.concurrency, self.timeout, self.tries = concurrency, timeout, tries
        self.first_wait, self.patience = first_wait, patience
        self.usage = Usage() if usage is None else usage
        self._pace = Pace(requests_per_minute, tokens_per_minute)
        self._free = asyncio.Semaphore(concurrency)
        self._down: EndpointDown | None = None
        self._last_answer = 0.0
        self._failed_since = 0
        self._refusal, self._refused_alike = "", 0
        self._streams = False  # the server answers in streams only

    async def __aenter__(self) -> "Endpoint":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/json", **key_headers()},
            proxy=proxy_for(self.url),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, request: Request) -> Answer:
        """The answer to a request. `NoAnswer` where it has none; `EndpointDown` where nothing has any."""
        try:
            body = request.body
            data = orjson.dumps(body)
        except TypeError as error:
            raise NoAnswer(f"the request cannot be written as JSON ({error})") from error
        tokens = len(data) // BYTES_A_TOKEN + self._answer_tokens(body)
        self.usage.asked += 1

        async def once() -> Answer:
            if not self._streams:
                try:
                    return await self._send("/chat/completions", data, _read_answer)
                except Fault as fault:
                    if fault.reason != "400" or "stream" not in fault.detail:
                        raise
                    self._streams = True
            streaming = {"stream": True, "stream_options": {"include_usage": True}}
            return await self._send("/chat/completions", orjson.dumps(body | streaming), _read_answer)

        answer = await self._insist(once, tokens)
        if answer.completion_tokens is not None:
            self._pace.correct(tokens, (answer.prompt_tokens or 0) + answer.completion_tokens)
        self.usage.count(answer)
        return answer

    async def fetch(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object at a path below /v1, by GET, or by POST of a body."""
        data = None if body is None else orjson.dumps(body)
        return await self._insist(lambda: self._send(path, data, _read_object), 0)

    async def tell(self, path: str, body: Mapping[str, Any]) -> None:
        """POST a body to a path below /v1 that answers in words or not at all: that it answers is what counts."""
        await self._insist(lambda: self._send(path, orjson.dumps(body), _read_nothing), 0)

    def _answer_tokens(self, body: Mapping[str, Any]) -> int:
        given = body.get("max_completion_tokens") or body.get("max_tokens")
        if isinstance(given, int):
            return given
        return self.usage.completion_tokens // self.usage.answered if self.usage.answered else TOKENS_UNKNOWN

    async def _insist(self, once: Callable[[], Awaitable[Result]], tokens: int) -> Result:
        """Try as often as it can help."""
        async with self._free:
            tries, faults, busy_since = 1, 0, 0.0
            while True:
                self._refuse_if_down()
                await self._pace.turn(tokens)
                self._refuse_if_down()
                try:
                    result = await once()
                except Fault as fault:
                    if fault.outlook == "busy":
                        busy_since = busy_since or monotonic()
                        if fault.wait:
                            self._pace.pause(fault.wait)
                    else:
                        tries, busy_since = tries + 1, 0.0
                    self._judge(fault, tries, busy_since)
                    self.usage.retried[fault.reason] += 1
                    asked_for = min(fault.wait, self.patience)
                else:
                    self._last_answer, self._failed_since = monotonic(), 0
                    return result
                faults += 1
                wait = min(LONGEST_WAIT, self.first_wait * 2 ** min(faults - 1, 16))
                await asyncio.sleep(asked_for + wait * random.uniform(0.5, 1.0))

    def _refuse_if_down(self) -> None:
        if self._down:
            raise self._down.with_traceback(None)  # else that of all who have raised it

    def _judge(self, fault: Fault, tries: int, busy_since: float) -> None:
        """Raise where there is no sense in another try."""
        answered = self._last_answer > 0
        if fault.outlook == "wrong server" or (fault.outlook == "refused" and not answered):
            self._stop(fault)
        if fault.outlook in ("never", "refused"):
            self._refused_alike = self._refused_alike + 1 if fault.detail == self._refusal else 1
            self._refusal = fault.detail
            if self._refused_alike >= ALL_REFUSED and not answered:
                self._stop(fault, f"to {ALL_REFUSED} requests, and to none with an answer")
            self._fail(fault)
        if fault.outlook == "busy":
            if fault.wait > self.patience:
                self._stop(fault, f"and asks to wait {fault.wait:.0f} s")
            now = monotonic()
            if now - max(busy_since, self._last_answer) > self.patience:
                self._stop(fault, f"and has not answered for {self.patience:.0f} s")
            if now - busy_since > BUSY_PATIENCES * self.patience:
                self._fail(fault, f" for {now - busy_since:.0f} s, while others were answered")
        elif tries > self.tries:
            self._failed_since += 1
            if self._failed_since >= ALL_FAILED:
                self._stop(fault, f"and the last {ALL_FAILED} requests have all failed")
            self._fail(fault, f" in {self.tries} tries")

    def _fail(self, fault: Fault, how_long: str = "") -> None:
        self.usage.failed[fault.reason] += 1
        raise NoAnswer(f"{self.url} {fault.detail}{how_long}") from fault

    def _stop(self, fault: Fault, more: str = "") -> None:
        self.usage.failed[fault.reason] += 1
        advice = "Is the server running, with the OpenAI protocol?"
        if fault.reason in ("401", "403"):
            advice = f"Is {KEY_VARIABLE} set to a key of this server?"
        elif fault.reason == "404":
            advice = "Does the server hold this model, under this name?"
        said = f"{self.url}: {fault.detail}{' ' if more else ''}{more}"
        self._down = EndpointDown(f"{said}. {advice} Answers so far are kept: give the same command again.")
        raise self._down from None

    async def _send(
        self, path: str, data: bytes | None, read: Callable[[aiohttp.ClientResponse], Awaitable[Result]]
    ) -> Result:
        """One try; `Fault` where it gives nothing."""
        try:
            async with self._session.request(
                "GET" if data is None else "POST", self.url + path, data=data, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise fault_of(response.status, response.headers, await whole_body(response.content.iter_any()))
                return await read(response)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise Fault("busy", "no connection", f"accepts no connection in {CONNECT_SECONDS:.0f} s") from error
            raise Fault("again", "timeout", f"gives no answer in {self.timeout:g} s") from error
        except aiohttp.ClientSSLError as error:
            raise Fault("wrong server", "certificate", f"cannot be trusted ({first_line(error)})") from error
        except aiohttp.ClientConnectorError as error:
            raise Fault("busy", "no connection", f"accepts no connection ({error.strerror})") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Fault("again", "cut", f"breaks off its answers ({without_key(first_line(error))})") from error


async def _read_answer(response: aiohttp.ClientResponse) -> Answer:
    if response.content_type == "text/event-stream":
        return await streamed_answer(response.content.iter_any())
    return answer_of(await _read_object(response))


async def _read_nothing(response: aiohttp.ClientResponse) -> None:
    await whole_body(response.content.iter_any())


async def _read_object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    return parsed(await whole_body(response.content.iter_any()))


async def each(
    items: Iterable[Item], do: Callable[[Item], Awaitable[Result]], workers: int
) -> AsyncIterator[tuple[int, Result | NoAnswer]]:
    """Do it for `workers` items at a time, taken as they are needed: (place of the item, what came), as they come."""

    async def one(index: int, item: Item) -> tuple[int, Result | NoAnswer]:
        try:
            return index, await do(item)
        except NoAnswer as error:
            return index, error

    numbered = enumerate(items)
    under_way: set[asyncio.Task[tuple[int, Result | NoAnswer]]] = set()
    done: set[asyncio.Task[tuple[int, Result | NoAnswer]]] = set()
    try:
        while True:
            wanted = islice(numbered, workers - len(under_way))
            under_way |= {asyncio.create_task(one(index, item)) for index, item in wanted}
            if not under_way:
                return
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, *done, return_exceptions=True)


def in_order(
    url: str, items: Iterable[Item], using: Callable[["Endpoint"], Callable[[Item], Awaitable[Result]]], **options: Any
) -> Iterator[Result | NoAnswer]:
    """For callers without an event loop: what came for each item, in their order, while later ones are under way.

    `using` says what is done with an endpoint, such as `lambda endpoint: endpoint.ask`; `options` are those of
    `Endpoint`.
    """
    endpoint = Endpoint(url, **options)

    async def following() -> tuple[int, Result | NoAnswer] | None:
        return await anext(results, None)

    with asyncio.Runner() as runner:
        runner.run(endpoint.__aenter__())
        results = each(items, using(endpoint), endpoint.concurrency)
        early: dict[int, Result | NoAnswer] = {}
        due = 0
        try:
            while (came := runner.run(following())) is not None:
                early[came[0]] = came[1]
                while due in early:
                    yield early.pop(due)
                    due += 1
        finally:
            runner.run(results.aclose())  # type: ignore[attr-defined]
            runner.run(endpoint.__aexit__(None, None, None))


def ask_all(
    requests: Iterable[Request], url: str, *, kept: KeptAnswers | None = None, **options: Any
) -> list[Answer | NoAnswer]:
    """For callers without an event loop: an answer for each request, in their order. `options`: those of `Endpoint`."""
    return list(in_order(url, requests, lambda at: at.ask if kept is None else kept.wrap(at.ask), **options))


def check_endpoint(url: str, model: str, *, patience: float = 5.0) -> int | None:
    """Ask a server whether it has a model; its context length in tokens where it says so.

    `DataError` where there is no server, or none that has this model. A model that is not listed is asked for one
    token: `transformers serve` lists what is in the Hub's cache, not the folder that it was started with.
    """

    async def look() -> dict[str, Any]:
        async with Endpoint(url, tries=2, patience=patience) as endpoint:
            try:
                listed = {one["id"]: one for one in (await endpoint.fetch("/models"))["data"]}
            except (NoAnswer, KeyError, TypeError):  # without a cache it cannot list even that
                listed = {}
            if model not in listed:
                try:
                    await endpoint.ask(Request(model, ({"role": "user", "content": "1"},), {"max_tokens": 1}))
                except (NoAnswer, EndpointDown) as error:
                    raise DataError(f"{error} It serves no model '{model}'.{nearest(model, listed)}") from error
            return listed.get(model, {})

    found = asyncio.run(look())
    context = found.get("max_model_len") or found.get("context_length")
    return context if isinstance(context, int) else None
