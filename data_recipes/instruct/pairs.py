"""Preference pairs: of several answers to a prompt a better and a worse one, as `yulanmini train dpo` takes them.

Which is better is decided by the right answer, where a prompt has one that can be checked, and by a reward model for
the others. On-policy answers are drawn from the model that is to be trained; off-policy ones come with the data. The
published run had 258 thousand off-policy and 115 thousand on-policy pairs. This module holds no model: who answers, who
verifies and who rewards are functions that the caller gives.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import xxhash

from data_recipes.instruct.messages import Message

Policy = Literal["on-policy", "off-policy"]
By = Literal["verified", "reward"]
IsRight = Callable[[str, str], bool]
"""`is_right(gold, response)`: whether a whole response ends in the right answer."""
OWN_KEYS = (
    *("prompt", "chosen", "rejected", "policy", "by", "answer"),
    *("chosen_score", "rejected_score", "mean_score"),
)
Reward = Callable[[Sequence[list[Message]]], Sequence[float]]
"""A score for each whole conversation (prompt and answer); higher is better."""


@dataclass(frozen=True)
class PairPrompt:
    """A question with several answers. `messages` end with the user's turn; `answer` is the right answer where it is
    known; `origin` says where it is from (`source`, `row`, ...), and travels into the pair's line."""

    messages: Sequence[Message]
    responses: Sequence[str]
    policy: Policy
    answer: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for the same conversation: what choices between equals go by."""
        turns = repr([(one["role"], one["content"]) for one in self.messages])
        return xxhash.xxh3_128_hexdigest(turns.encode())


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt with their scores: 1 and 0 where they were verified, else what the reward model gave.
    `mean_score` is that of all answers: of verified ones the share that is right."""

    prompt: PairPrompt
    chosen: str
    rejected: str
    by: By
    chosen_score: float
    rejected_score: float
    mean_score: float

    def line(self) -> dict[str, Any]:
        """As JSON has it, one pair a line."""
        return {
            "prompt": list(self.prompt.messages),
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
            "policy": self.prompt.policy,
            "by": self.by,
            "answer": self.prompt.answer,
            "chosen_score": self.chosen_score,
            "rejected_score": self.rejected_score,
            "mean_score": self.mean_score,
            **self.prompt.origin,
        }

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "Pair":
        """What `line` has written; of the answers the two that were chosen from them."""
        chosen, rejected = line["chosen"][-1]["content"], line["rejected"][-1]["content"]
        origin = {key: value for key, value in line.items() if key not in OWN_KEYS}
        prompt = PairPrompt(line["prompt"], (chosen, rejected), line["policy"], line["answer"], origin)
        scores = line["chosen_score"], line["rejected_score"], line["mean_score"]
        return cls(prompt, chosen, rejected, line["by"], *scores)


@dataclass(frozen=True)
class Pairs:
    """`counts`: prompts, pairs, and prompts that gave no pair by reason, for each policy."""

    pairs: list[Pair]
    counts: dict[str, dict[str, int]]


def preference_pairs(
    prompts: Iterable[PairPrompt],
    *,
    is_right: IsRight | None = None,
    reward: Reward | None = None,
    margin: float = 0.0,
    seed: int = 0,
) -> Pairs:
    """At most one pair of each prompt.

    A prompt with an `answer` is decided by `is_right` where that is given: a right response against a wrong one, the
    ones with the highest and lowest reward where there is a reward model too, else by the seed. Any other is decided by
    `reward`: the best against the worst, where they are more than `margin` apart.
    """
    chooser = _Chooser(is_right, reward, margin, seed)
    pairs: list[Pair] = []
    counts: dict[str, Counter[str]] = {}
    for prompt in prompts:
        counted = counts.setdefault(prompt.policy, Counter(prompts=0, pairs=0))
        counted["prompts"] += 1
        try:
            pair = chooser.choose(prompt)
        except NoPair as reason:
            counted[str(reason)] += 1
            continue
        counted["pairs"] += 1
        counted[f"by {'verified answers' if pair.by == 'verified' else 'reward'}"] += 1
        pairs.append(pair)
    return Pairs(pairs, {policy: dict(counted) for policy, counted in counts.items()})


class NoPair(Exception):
    """Why a prompt gives no pair, in a short phrase to count by."""


@dataclass(frozen=True)
class _Chooser:
    is_right: IsRight | None
    reward: Reward | None
    margin: float
    seed: int

    def choose(self, prompt: PairPrompt) -> Pair:
        responses = [text for text in dict.fromkeys(prompt.responses) if text.strip()]
        if len(responses) < 2:
            raise NoPair("fewer than two different answers")
        if prompt.answer is not None and self.is_right is not None:
            return self._verified(prompt, responses, prompt.answer, self.is_right)
        if self.reward is None:
            raise NoPair("nothing to decide by")
        return self._rewarded(prompt, responses)

    def _verified(self, prompt: PairPrompt, responses: list[str], answer: str, is_right: IsRight) -> Pair:
        verdicts = {text: bool(is_right(answer, text)) for text in responses}
        right = [text for text in responses if verdicts[text]]
        wrong = [text for text in responses if not verdicts[text]]
        if not wrong:
            raise NoPair("all answers right")
        if not right:
            raise NoPair("all answers wrong")
        rewards = dict(zip(responses, self._rewards(prompt, responses), strict=True)) if self.reward else {}
        order = {text: (rewards.get(text, 0.0), self._draw(prompt, text)) for text in responses}
        share = sum(verdicts.get(text, False) for text in prompt.responses) / len(prompt.responses)
        best, worst = max(right, key=order.__getitem__), min(wrong, key=order.__getitem__)
        return Pair(prompt, best, worst, "verified", 1.0, 0.0, share)

    def _rewarded(self, prompt: PairPrompt, responses: list[str]) -> Pair:
        rewards = self._rewards(prompt, responses)
        order = sorted(zip(rewards, responses, strict=True), key=lambda pair: (pair[0], self._draw(prompt, pair[1])))
        (low, worst), (high, best) = order[0], order[-1]
        if high - low <= self.margin:
            raise NoPair("tie")
        return Pair(prompt, best, worst, "reward", high, low, sum(rewards) / len(rewards))

    def _rewards(self, prompt: PairPrompt, responses: Sequence[str]) -> list[float]:
        assert self.reward is not None
        conversations = [[*prompt.messages, {"role": "assistant", "content": text}] for text in responses]
        rewards = [float(score) for score in self.reward(conversations)]
        if len(rewards) != len(responses) or not all(map(math.isfinite, rewards)):
            raise ValueError(f"the reward gave {rewards!r:.80} for {len(responses)} answers.")
        return rewards

    def _draw(self, prompt: PairPrompt, text: str) -> str:
        """What decides between equals: by the seed, and not by which came first."""
        return xxhash.xxh3_64_hexdigest(f"{self.seed} {prompt.key} {text!r}".encode())


def hardest(pairs: Sequence[Pair], most: int) -> list[dict[str, Any]]:
    """The prompts of the pairs that the answers did worst on, hardest first, for the on-policy stage: a line each.

    `hardness` is between 0 and 1: of a verified prompt the share of its answers that are wrong, of another the share of
    the rewarded prompts whose answers have a higher mean reward. A prompt all of whose answers are wrong gives no pair
    and so is none of these: nothing can be learned from it by comparing answers. The published run took 10,000.
    """
    means = sorted(pair.mean_score for pair in pairs if pair.by == "reward")
    found: dict[str, tuple[float, str, dict[str, Any]]] = {}
    for pair in pairs:
        if pair.by == "verified":
            hardness = 1 - pair.mean_score
        else:
            hardness = (len(means) - bisect_right(means, pair.mean_score)) / len(means)
        line = {"prompt": list(pair.prompt.messages), "answer": pair.prompt.answer, "hardness": round(hardness, 6)}
        found.setdefault(pair.prompt.key, (-hardness, pair.prompt.key, {**line, **pair.prompt.origin}))
    return [line for _, _, line in sorted(found.values(), key=lambda one: one[:2])][:most]
