"""Samples verified in processes of their own: a check that hangs or takes too much memory ends alone.

Each process is this module, started anew; it gets the kind and its checks, then samples, over a pipe, and ends when the
pipe does, however this process ended.
"""

import asyncio
import os
import pickle
import struct
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from data_recipes.endpoint.address import KEY_VARIABLE
from data_recipes.errors import DataError
from data_recipes.synthesis.kinds.base import Checks, Kind, Rejected, Sample

MOST_PROCESSES = 8
SECONDS = 600.0
"""For the checks of a seed's samples; they have shorter limits of their own."""
START_SECONDS = 120.0
LENGTH = struct.Struct("<Q")


def verified(kind: Kind, sample: Sample, checks: Checks) -> Sample:
    """A sample with the verdict of its kind's verifier."""
    if sample.verdict != "accepted":
        return sample
    try:
        return kind.verify(sample, checks)
    except Rejected as error:
        return replace(sample, verdict="rejected", reason=str(error))


def judged(kind: Kind, samples: Sequence[Sample], checks: Checks) -> Sample:
    """The sample that stands for all draws of a seed: the first of those whose answer most of them have.

    More than half of all draws must agree; a draw without an accepted sample agrees with none.
    """
    found = [verified(kind, sample, checks) for sample in samples]
    accepted = [sample for sample in found if sample.verdict == "accepted"]
    if len(samples) == 1 or not accepted:
        return found[0]
    assert kind.final_answer is not None
    groups: list[list[Sample]] = []
    for sample in accepted:
        answer = sample.fields[kind.final_answer]
        for group in groups:
            first = group[0].fields[kind.final_answer]
            if answer == first or checks.same_answer(first, answer):
                group.append(sample)
                break
        else:
            groups.append([sample])
    most = max(groups, key=len)
    chosen = replace(most[0], votes=len(most))
    if 2 * len(most) > len(samples):
        return chosen
    return replace(chosen, verdict="rejected", reason="no majority among the answers")


class Verifiers:
    """`async with Verifiers(...) as verifiers: sample = await verifiers.judge(samples)`, several at the same time."""

    def __init__(self, kind: Kind, checks: Checks, tasks: int) -> None:
        self._kind, self._checks = kind, checks
        self._checks_something = type(kind).verify is not Kind.verify
        self._idle: asyncio.LifoQueue[Process | None] = asyncio.LifoQueue()
        for _ in range(max(1, min(MOST_PROCESSES, os.cpu_count() or 1) // tasks)):
            self._idle.put_nowait(None)  # started when it is needed
        self._started: list[Process] = []

    async def __aenter__(self) -> "Verifiers":
        return self

    async def __aexit__(self, *error: object) -> None:
        for process in self._started:
            await process.end()

    async def judge(self, samples: Sequence[Sample]) -> Sample:
        """As `judged`; what a check cannot bear twice is rejected."""
        accepted = [sample for sample in samples if sample.verdict == "accepted"]
        if not accepted or not (self._checks_something or len(samples) > 1):
            return samples[0]
        process = await self._idle.get()
        try:
            for _ in range(2):
                try:
                    if process is None:
                        process = Process(self._kind, self._checks)
                        self._started.append(process)
                        await process.start()
                    return await process.judge(samples)
                except (TimeoutError, EOFError):
                    assert process is not None
                    self._started.remove(process)
                    await process.end()
                    process = None
        finally:
            self._idle.put_nowait(process)
        return replace(accepted[0], verdict="rejected", reason="its check had to be stopped")


class Process:
    """A process that judges samples one after the other."""

    def __init__(self, kind: Kind, checks: Checks) -> None:
        self._given = (kind, checks)

    async def start(self) -> None:
        # The key is the server's; what checks programs needs none.
        environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
        environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            await self._ask(self._given, START_SECONDS)
        except (TimeoutError, EOFError) as error:
            raise DataError(
                f"the process that checks samples does not start ({sys.executable} -m {__name__})."
            ) from error

    async def judge(self, samples: Sequence[Sample]) -> Sample:
        """`TimeoutError` or `EOFError` where the process had to be stopped or has ended."""
        return await self._ask(samples, SECONDS)

    async def end(self) -> None:
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()

    async def _ask(self, what: Any, seconds: float) -> Any:
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        content = pickle.dumps(what)
        async with asyncio.timeout(seconds):
            try:
                stdin.write(LENGTH.pack(len(content)) + content)
                await stdin.drain()
                size = LENGTH.unpack(await stdout.readexactly(LENGTH.size))[0]
                answer, problem = pickle.loads(await stdout.readexactly(size))
            except ConnectionError as error:
                raise EOFError from error
        if isinstance(problem, str):
            raise RuntimeError(f"in a check:\n{problem}")
        if problem is not None:
            raise problem
        return answer


def _serve(received: BinaryIO, sent: BinaryIO) -> None:
    """In the process: the kind and its checks first, then samples, until the pipe ends."""
    kind: Any = None
    checks: Any = None
    while head := received.read(LENGTH.size):
        answer: Any = None
        problem: DataError | str | None = None
        try:
            content = pickle.loads(received.read(LENGTH.unpack(head)[0]))
            if kind is None:
                kind, checks = content
            else:
                answer = judged(kind, content, checks)
        except DataError as error:
            problem = DataError(str(error))
        except Exception:
            problem = traceback.format_exc()
        reply = pickle.dumps((answer, problem))
        sent.write(LENGTH.pack(len(reply)) + reply)
        sent.flush()


if __name__ == "__main__":
    _out = os.dup(1)
    os.dup2(2, 1)  # whatever a check prints is no reply
    _serve(sys.stdin.buffer, os.fdopen(_out, "wb"))
