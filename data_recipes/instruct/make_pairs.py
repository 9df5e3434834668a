"""Prompts to preference pairs on the disk: answers drawn where there are none, chosen by pairs.py, kept chunk by chunk.

A chunk of prompts is a file with a record; answers of a server are kept one by one, so a stop costs no answer that has
arrived.
"""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
import xxhash
from tqdm import tqdm

from data_recipes.cleaning.pipeline.unit_files import read_checked_record, unit_name, write_record, writing
from data_recipes.endpoint.client import ask_all
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import Answer, Request
from data_recipes.errors import DataError
from data_recipes.instruct.config import InstructConfig
from data_recipes.instruct.gather import gather
from data_recipes.instruct.messages import Message
from data_recipes.instruct.pair_config import PairSettings
from data_recipes.instruct.pairs import Pair, PairPrompt, Policy, Reward, hardest, preference_pairs
from data_recipes.instruct.reward_model import RewardModel, find_reward_model
from data_recipes.instruct.steps.verified_answer import is_right
from data_recipes.instruct.write import TRAIN_NAME
from data_recipes.manifest import fingerprint_of, sha256_file

Item = TypeVar("Item")
PAIRS_NAME, PROMPTS_NAME = "pairs.jsonl", "prompts.jsonl"
CHUNK = 256
"""Prompts that are answered and judged together."""
VERSION = 1
"""Raised when the same prompts and settings give other pairs."""


class Responder(Protocol):
    """Who answers prompts: `samples` answers to each, an unfinished one left out. `fingerprint` names the model."""

    fingerprint: str

    def answers(self, prompts: Sequence[Sequence[Message]], *, seed: int) -> list[list[str]]: ...


FindResponder = Callable[[PairSettings], Responder]


class ServedResponder:
    """A model on a server, by its name; answers that have come are in `file`."""

    def __init__(self, settings: PairSettings, url: str, file: Path) -> None:
        self.settings, self.url, self.file = settings, url, file
        self.fingerprint = str(settings.model)

    def answers(self, prompts: Sequence[Sequence[Message]], *, seed: int) -> list[list[str]]:
        settings = self.settings
        sampling = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        requests = [
            Request(self.fingerprint, tuple(prompt), sampling, draw=seed * settings.samples + draw)
            for prompt in prompts
            for draw in range(settings.samples)
        ]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with KeptAnswers(self.file) as kept:
            found = ask_all(requests, self.url, kept=kept)
        texts = [one.text if isinstance(one, Answer) and one.finish_reason == "stop" else None for one in found]
        return [[text for text in group if text is not None] for group in _groups(texts, settings.samples)]


def make_pairs(
    config: InstructConfig, out: Path, work: Path, *, responder: FindResponder | None, progress: bool
) -> dict[str, Any]:
    """Write `pairs.jsonl` and `prompts.jsonl`; returns what the summary says of them."""
    settings = config.settings.pairs
    assert settings is not None
    gathered = gather(config.pair_sources, work / "gathered", seed=config.settings.seed, progress=progress)
    who = find_responder(config, work / "answers.jsonl", responder)
    encoder = None if settings.reward is None else find_reward_model(settings.reward, settings.revision)
    made_from = fingerprint_of(
        [
            VERSION,
            settings.model_dump(mode="json", exclude={"sources", "endpoint", "hard_prompts", "model", "reward"}),
            [[one.name, one.fingerprint] for one in gathered],
            sha256_file(out / TRAIN_NAME) if settings.dialogues else "",
            who.fingerprint if who else "",
            encoder.fingerprint if encoder else "",
            config.settings.seed,
        ]
    )
    files = [(one.name, sorted((work / "gathered" / one.name).glob("*.jsonl"))) for one in gathered]
    chosen = prompts_of_dialogues(out / TRAIN_NAME, settings.dialogues, config.settings.seed)
    prompts = [*_prompts_of_sources(files), *chosen]
    rewards: list[Reward] = []

    def reward() -> Reward | None:
        if encoder is not None and not rewards:  # loaded with the first chunk that needs it
            rewards.append(RewardModel(encoder).rewards)
        return rewards[0] if rewards else None

    lines: list[dict[str, Any]] = []
    counts: dict[str, Counter[str]] = {}
    for number, chunk in enumerate(
        tqdm(_groups(prompts, CHUNK), desc="pairs", unit="chunk", disable=None if progress else True)
    ):
        path = work / "made" / f"{unit_name(number)}.jsonl"
        record = read_checked_record(path.with_suffix(".json"), made_from=made_from)
        if record is None:
            answered = answer(chunk, who, seed=config.settings.seed)
            found = preference_pairs(
                answered, is_right=is_right, reward=reward(), margin=settings.margin, seed=config.settings.seed
            )
            missing = sum(
                settings.samples - len(one.responses) for one in answered if one.policy == "on-policy" and who
            )
            if missing:
                found.counts["on-policy"]["answers that did not come or had no end"] = missing
            with writing(path) as file:
                for pair in found.pairs:
                    file.write(orjson.dumps(pair.line()) + b"\n")
            write_record(
                path.with_suffix(".json"), made_from=made_from, files={path.name: file.record}, counts=found.counts
            )
            record = {"counts": found.counts}
        lines += [json.loads(line) for line in path.read_bytes().splitlines()]
        for policy, counted in record["counts"].items():
            counts.setdefault(policy, Counter()).update(counted)
    if not lines:
        why = "; ".join(f"{policy}: {_listed(counted)}" for policy, counted in counts.items())
        raise DataError(
            f"pairs: no prompt gave one ({why or 'there were none'}). The dialogues are kept. A prompt needs a right "
            "`answer`, or `reward` a model, and answers that differ."
        )
    hard = hardest([Pair.from_line(line) for line in lines], settings.hard_prompts)
    for name, content in ((PAIRS_NAME, lines), (PROMPTS_NAME, hard)):
        with writing(out / name) as file:
            for line in content:
                file.write(orjson.dumps(line) + b"\n")
    return {
        "pairs": len(lines),
        "hard_prompts": len(hard),
        "by_policy": {policy: dict(counted) for policy, counted in counts.items()},
        "by_source": dict(Counter(line["source"] for line in lines)),
    }


def find_responder(config: InstructConfig, kept: Path, responder: FindResponder | None) -> Responder | None:
    """Who answers prompts that come without answers: a server by name, or a folder in this process."""
    settings = config.settings.pairs
    assert settings is not None
    if settings.model is None:
        return None
    if (config.folder / settings.model).is_dir() or Path(settings.model).is_dir():
        if responder is None:
            raise DataError(
                f"pairs: the model {settings.model} is a folder, and nothing here runs it; give an endpoint."
            )
        place = config.folder / settings.model
        return responder(settings.model_copy(update={"model": str(place if place.is_dir() else settings.model)}))
    url = settings.endpoint or config.settings.endpoint
    if url is None:
        raise DataError(
            f"pairs: the model '{settings.model}' is no folder, and there is no server to ask. Give --endpoint URL, or "
            "`endpoint` in the config."
        )
    return ServedResponder(settings, url, kept)


def answer(prompts: Sequence[PairPrompt], who: Responder | None, *, seed: int) -> list[PairPrompt]:
    """The prompts, those without answers with answers of the model."""
    asked = [prompt for prompt in prompts if prompt.policy == "on-policy"]
    if not asked:
        return list(prompts)
    if who is None:
        raise DataError("pairs: prompts come without answers; give `model`, who answers them.")
    answers = iter(who.answers([prompt.messages for prompt in asked], seed=seed))
    return [
        PairPrompt(one.messages, next(answers), one.policy, one.answer, one.origin)
        if one.policy == "on-policy"
        else one
        for one in prompts
    ]


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counted.items() if count)


def _groups(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _prompts_of_sources(files: Iterable[tuple[str, Sequence[Path]]]) -> Iterator[PairPrompt]:
    for name, paths in files:
        for path in paths:
            for line in path.read_bytes().splitlines():
                row = orjson.loads(line)
                if row["fault"] is not None:
                    continue
                origin = {"source": name, "file": row["origin_file"], "row": row["origin_row"]}
                policy: Policy = "off-policy" if row["responses"] else "on-policy"
                yield PairPrompt(row["messages"], row["responses"], policy, row["answer"], origin)


def prompts_of_dialogues(path: Path, most: int, seed: int) -> list[PairPrompt]:
    """The questions of so many of the dialogues that end with one and its answer, drawn by the seed."""
    if not most:
        return []

    def drawn() -> Iterator[tuple[int, int, bytes]]:
        with path.open("rb") as file:
            for number, line in enumerate(file):
                roles = [message["role"] for message in orjson.loads(line)["messages"]]
                if roles[-2:] == ["user", "assistant"]:
                    yield xxhash.xxh3_64_intdigest(b"%d " % seed + line), number, line

    found = []
    for _, _, line in heapq.nsmallest(most, drawn(), key=lambda one: one[:2]):
        row = orjson.loads(line)
        origin = {key: row[key] for key in ("source", "category", "file", "row")}
        found.append(PairPrompt(row["messages"][:-1], (), "on-policy", row.get("answer"), origin))
    return found
