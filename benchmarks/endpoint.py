"""Requests a second of the endpoint client against a trivial server, and memory over many; the openai client beside it.

    python benchmarks/endpoint.py [--requests 100000] [--peer-requests 2000] [--json FILE]

The server is a process of its own that answers every request with the same bytes, on the machine's other core. Both
clients ask the same chats, 64 under way at a time, and take turns, so that they meet the same load. Ours does what a
run does: parses the answer, counts it, and appends it to the file of kept answers before anyone sees it. Beside the
time on the clock, which other work on the machine makes longer, stands the client's own processor time.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time

import openai
import psutil

from data_recipes.endpoint.client import Endpoint, each
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import NoAnswer, Request
from data_recipes.machine import this_machine

CONCURRENCY = 64
PROMPT = "Write a problem and its solution about this text. " + "A few words of a document. " * 40
SERVER = '''
import asyncio
BODY = b"""{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",
"message":{"role":"assistant","content":"%s"}}],
"usage":{"prompt_tokens":250,"completion_tokens":200,"total_tokens":450}}
""" % (b"An answer of some length. " * 40)
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
ANSWER = HEAD % len(BODY) + BODY

class Trivial(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.waiting = transport, b""
    def data_received(self, data):
        self.waiting += data
        while (end := self.waiting.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.waiting[:end].lower()
            size = int(head.split(b"content-length:")[1].split(b"\\r\\n")[0])
            if len(self.waiting) < end + 4 + size:
                return
            self.waiting = self.waiting[end + 4 + size:]
            self.transport.write(ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="of the run that memory is measured over")
    parser.add_argument("--peer-requests", type=int, default=2_000, help="of each turn of the comparison")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    server = subprocess.Popen([sys.executable, "-S", "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    try:
        result = measure(url, options)
    finally:
        server.kill()
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(url: str, options: argparse.Namespace) -> dict[str, object]:
    turns: dict[str, list[float]] = {"ours": [], "ours_without_keeping": [], "openai": []}
    processor: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(options.turns):
        for name in turns:
            began, used = perf_counter(), process_time()
            if name == "openai":
                asyncio.run(ask_openai(url, options.peer_requests))
            else:
                asyncio.run(ask_ours(url, options.peer_requests, keep=name == "ours"))
            turns[name].append(options.peer_requests / (perf_counter() - began))
            processor[name].append(options.peer_requests / (process_time() - used))
    ratios = [ours / peer for ours, peer in zip(turns["ours"], turns["openai"], strict=True)]
    memory: list[float] = []
    began, used = perf_counter(), process_time()
    asyncio.run(ask_ours(url, options.requests, keep=True, memory=memory))
    ended = perf_counter()
    return {
        "machine": this_machine(),
        "load": os.getloadavg()[0],
        "openai": openai.__version__,
        "concurrency": CONCURRENCY,
        "requests_a_second": {name: round(statistics.median(values)) for name, values in turns.items()},
        "requests_a_processor_second": {name: round(statistics.median(values)) for name, values in processor.items()},
        "all": {name: [round(value) for value in values] for name, values in turns.items()},
        "times_openai": round(statistics.median(ratios), 2),
        "long_run": {
            "requests": options.requests,
            "requests_a_second": round(options.requests / (ended - began)),
            "requests_a_processor_second": round(options.requests / (process_time() - used)),
            "mib_at_tenths": [round(value, 1) for value in memory],
        },
    }


async def ask_ours(url: str, count: int, *, keep: bool, memory: list[float] | None = None) -> None:
    """`memory`: filled with the MiB of this process after each tenth."""
    process = psutil.Process()

    def requests() -> Iterator[Request]:
        for index in range(count):
            yield Request("m", ({"role": "user", "content": f"{index}. {PROMPT}"},), {"temperature": 0.7})

    done = 0
    with tempfile.TemporaryDirectory() as folder, KeptAnswers(Path(folder) / "answers.jsonl") as kept:
        async with Endpoint(url, concurrency=CONCURRENCY) as endpoint:
            ask = kept.wrap(endpoint.ask) if keep else endpoint.ask
            async for _, answer in each(requests(), ask, CONCURRENCY):
                assert not isinstance(answer, NoAnswer), answer
                done += 1
                if memory is not None and done % (count // 10) == 0:
                    memory.append(process.memory_info().rss / 2**20)
        assert len(kept) == (count if keep else 0)
    assert done == count
    assert endpoint.usage.completion_tokens == 200 * count


async def ask_openai(url: str, count: int) -> None:
    """The usual way: a semaphore around the client, without keeping."""
    free = asyncio.Semaphore(CONCURRENCY)
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

        async def ask(index: int) -> None:
            async with free:
                message = {"role": "user", "content": f"{index}. {PROMPT}"}
                answer = await client.chat.completions.create(model="m", messages=[message], temperature=0.7, seed=0)  # type: ignore[list-item]
                assert answer.choices[0].message.content

        await asyncio.gather(*(ask(index) for index in range(count)))


if __name__ == "__main__":
    main()
