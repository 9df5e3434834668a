"""The stage that asks: seeds to samples, many seeds at once, in the order of the seeds whatever comes back first.

An answer is on disk before a kind sees it, in `work/answers` beside its shard. So a killed run asks again only what was
under way; the kinds then make the same samples of the answers kept.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from data_recipes.cleaning.pipeline.unit_files import write_record, writing_parquet
from data_recipes.endpoint.client import Endpoint
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import Answer, Ask, NoAnswer, Request
from data_recipes.endpoint.usage import Usage
from data_recipes.synthesis.kinds.base import Rejected, Sample, Unusable, Verdict
from data_recipes.synthesis.progress import Progress
from data_recipes.synthesis.run import Run
from data_recipes.synthesis.seeds import Seed, Shard, seeds_of
from data_recipes.synthesis.verifying import Verifiers

DRAWS_OF_A_VOTE = 1000
"""A kind's own draws are numbered below this, so that those of other votes are others."""
WINDOW, LEAST_WINDOW = 8, 512
"""As many seeds are under way as requests may be, times this: one that takes long must not keep the others waiting."""
REASON_CHARACTERS = 120


@dataclass
class Asked:
    """What a seed has asked so far, and what came back; kinds call it as `AskModel`."""

    ask: Ask
    model: str
    settings: Mapping[str, Any]
    first_draw: int = 0
    prompt: str = ""
    answer: Answer | None = None
    """To `prompt`; None where there is none."""
    lost: str = ""
    """Why the server gave no answer."""
    counts: Counter[str] = field(default_factory=Counter)

    async def __call__(
        self,
        user: str,
        system: str | None = None,
        history: Sequence[Mapping[str, str]] = (),
        draw: int = 0,
        **settings: Any,
    ) -> Answer:
        first = () if system is None else ({"role": "system", "content": system},)
        messages = (*first, *history, {"role": "user", "content": user})
        self.prompt, self.answer = user, None
        request = Request(self.model, messages, {**self.settings, **settings}, self.first_draw + draw)
        try:
            self.answer = await self.ask(request)
        except NoAnswer as error:
            self.lost = getattr(error.__cause__, "reason", "") or str(error)
            raise
        self.counts["answers"] += 1
        self.counts["prompt_tokens"] += self.answer.prompt_tokens or 0
        self.counts["completion_tokens"] += self.answer.completion_tokens or 0
        self.counts["uncounted"] += self.answer.completion_tokens is None
        return self.answer

    def ended(self, verdict: Verdict, reason: str) -> Sample:
        """The sample where a kind has made none."""
        text, finish = ("", "") if self.answer is None else (self.answer.text, self.answer.finish_reason)
        return Sample(self.prompt, text, finish, verdict=verdict, reason=reason)


@dataclass
class Made:
    """A seed's sample, and what it took."""

    seed: Seed
    sample: Sample
    counts: Counter[str]
    """Answers and tokens of all draws; `lost`: whether the server gave no answer to one of them."""


async def make_sample(run: Run, seed: Seed, ask: Ask, verifiers: Verifiers) -> Made:
    """A seed's sample, verified; of several draws the one that most agree with."""
    asked = [Asked(ask, run.model, run.settings, vote * DRAWS_OF_A_VOTE) for vote in range(run.votes)]
    if len(asked) == 1:
        drawn = [await draw_sample(run, seed, asked[0])]
    else:
        drawn = await asyncio.gather(*(draw_sample(run, seed, one) for one in asked))
    counts = sum((one.counts for one in asked), Counter({"lost": int(any(one.lost for one in asked))}))
    sample = await verifiers.judge(drawn)
    return Made(replace(seed, values={}), sample, counts)  # what is kept until the shard is written holds no long texts


async def draw_sample(run: Run, seed: Seed, asked: Asked) -> Sample:
    """One sample of a seed, not yet verified."""
    if isinstance(seed.values, str):
        return asked.ended("rejected", f"seed: {seed.values}")
    try:
        return await run.kind.make(seed.values, asked)
    except Unusable as error:
        return asked.ended("rejected", f"seed: {error}")
    except Rejected as error:
        return asked.ended("rejected", str(error))
    except NoAnswer as error:
        return asked.ended("failed", f"no answer: {asked.lost}" if asked.lost else str(error))


def make_samples(run: Run, rank: int, tasks: int) -> None:
    """The samples of a task's share of the shards."""
    if run.is_finished:
        return
    shards = [shard for shard in run.share(rank, tasks) if run.made_record(shard) is None]
    if not shards:
        return
    try:
        asyncio.run(_make(run, shards, rank, tasks))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _make(run: Run, shards: Sequence[Shard], rank: int, tasks: int) -> None:
    limits = run.server.share(tasks)
    window = max(LEAST_WINDOW, WINDOW * limits["concurrency"])
    usage = Usage()
    held: deque[tuple[OpenShard, asyncio.Task[Made]]] = deque()
    with ExitStack() as open_files:  # closed when no task is left that could write to them
        async with (
            Endpoint(run.server.url, usage=usage, **limits) as endpoint,
            Verifiers(run.kind, run.checks, tasks) as verifiers,
            Progress(run.work, rank, usage) as progress,
            asyncio.TaskGroup() as group,
        ):

            async def write_first() -> None:
                shard, task = held.popleft()
                shard.add(await task)
                progress.seeds += 1

            for shard, seeds in seeds_in(run, shards):
                opened = open_files.enter_context(OpenShard(run, shard, usage))
                ask = opened.asks(endpoint.ask)
                for seed in seeds:
                    held.append((opened, group.create_task(make_sample(run, seed, ask, verifiers))))
                    while held and (len(held) >= window or held[0][1].done()):
                        await write_first()
            while held:
                await write_first()


def seeds_in(run: Run, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Iterator[Seed]]]:
    """The seeds of each shard. Those of one unit that follow each other are read in one go."""
    units = run.units
    names = [*run.kind.columns, *run.kind.optional_columns]
    unit, place = -1, 0
    seeds: Iterator[Seed] = iter(())
    for shard in shards:
        if shard.unit != unit or shard.first < place:
            unit, place, seeds = shard.unit, 0, seeds_of(units, shard.unit, names, run.columns)
        yield shard, islice(seeds, shard.first - place, shard.last - place)
        place = shard.last


class OpenShard:
    """A shard in the making: its answers' file is held until the last of its seeds is done, then it is written."""

    def __init__(self, run: Run, shard: Shard, usage: Usage) -> None:
        self._run, self._shard, self._usage = run, shard, usage
        self._made: list[Made] = []
        self._kept: KeptAnswers | None = None

    def __enter__(self) -> "OpenShard":
        path = self._run.answers(self._shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._kept = KeptAnswers(path).__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of the answers and of where they are, as many shards follow each other."""
        if self._kept is not None:
            self._usage.kept += self._kept.found
            self._kept.__exit__(None, None, None)
            self._kept = None

    def asks(self, ask: Ask) -> Ask:
        """The same, but answers are kept here."""
        assert self._kept is not None
        return self._kept.wrap(ask)

    def add(self, made: Made) -> None:
        """Take in the next seed's sample; with the last one the shard is written."""
        self._made.append(made)
        if len(self._made) == self._shard.count:
            write_made(self._run, self._shard, self._made)
            self._made = []
            self.__exit__()


def made_schema(fields: Sequence[str]) -> pa.Schema:
    """The columns of `work/made`; those of the samples are these and what the cleaning adds."""
    origin = [("seed_source", pa.string()), ("seed_file", pa.string()), ("seed_row", pa.int64())]
    asked = [("kind", pa.string()), ("prompt", pa.string()), ("response", pa.string())]
    judged = [
        ("finish_reason", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("checked", pa.bool_()),
        ("votes", pa.int32()),
    ]
    return pa.schema([*origin, *asked, *((name, pa.string()) for name in fields), *judged])


TEXTS = pa.schema([("text", pa.string())])


def write_made(run: Run, shard: Shard, made: Sequence[Made]) -> None:
    """A shard's samples, the texts of the accepted ones, and the record that makes both count."""
    place, texts = run.made(shard), run.texts(shard)
    schema = made_schema(run.kind.fields)
    accepted = [one.sample for one in made if one.sample.verdict == "accepted"]
    with writing_parquet(place.file, schema) as (sink, file):
        sink.write(_table(schema, [_row(run, one) for one in made]))
    files = {place.file.name: file.record}
    texts.unlink(missing_ok=True)
    if accepted:
        with writing_parquet(texts, TEXTS) as (sink, file):
            sink.write(_table(TEXTS, [(text_to_clean(run, sample),) for sample in accepted]))
        files[f"../{texts.parent.name}/{texts.name}"] = file.record
    counts = sum((one.counts for one in made), Counter())
    counted = {name: counts[name] for name in sorted(counts)}
    write_record(place.record, made_from=run.made_from(shard), files=files, asked=run.asked, seeds=len(made), **counted)


def text_to_clean(run: Run, sample: Sample) -> str:
    """What duplicates are found by and quality is scored on."""
    return "\n\n".join(sample.fields[name] for name in run.kind.text_fields)


def _row(run: Run, made: Made) -> tuple[Any, ...]:
    seed, sample = made.seed, made.sample
    fields = [sample.fields.get(name) for name in run.kind.fields]
    reason = "" if sample.verdict == "accepted" else " ".join(sample.reason.split())[:REASON_CHARACTERS]
    origin = (seed.source, seed.file, seed.row, run.kind.name)
    judged = (sample.finish_reason, sample.verdict, reason, sample.checked, sample.votes)
    return (*origin, sample.prompt, sample.response, *fields, *judged)


def _table(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table([_array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # half a pair of surrogates, from "\ud800" in a seed's JSON
        return pa.array([None if value is None else value.encode(errors="replace").decode() for value in values], kind)
