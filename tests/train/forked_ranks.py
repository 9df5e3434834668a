"""Ranks over gloo as forks of the test's process, which has the libraries loaded: a second instead of eight."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

from accelerate.state import AcceleratorState


def on_ranks(
    count: int, function: Callable[..., Any], *arguments: Any, nodes: int = 1, **environment: str
) -> list[Any]:
    """What `function(*arguments)` returns on each of `count` ranks, in order; `nodes` share them in equal parts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    local = count // nodes
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": local, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"ACCELERATE_USE_CPU": "true", **environment}
    own = [shared | {"RANK": rank, "LOCAL_RANK": rank % local} for rank in range(count)]
    ranks = [context.Process(target=_one_rank, args=(function, arguments, each, results)) for each in own]
    for process in ranks:
        process.start()
    try:
        found = dict(results.get(timeout=100) for _ in ranks)
    finally:
        for process in ranks:
            process.join(10)
            process.kill()
    failed = [result for result in found.values() if isinstance(result, _Failure)]
    assert not failed, failed[0].text
    return [found[rank] for rank in range(count)]


class _Failure:
    def __init__(self, text: str) -> None:
        self.text = text


def _one_rank(function: Callable[..., Any], arguments: Any, environment: dict[str, Any], results: Any) -> None:
    os.environ |= {name: str(value) for name, value in environment.items()}
    AcceleratorState._reset_state(reset_partial_state=True)  # what the fork took over
    try:
        found = function(*arguments)
    except Exception:
        found = _Failure(traceback.format_exc())
    results.put((environment["RANK"], found))
    results.close()
    results.join_thread()
    os._exit(0)
