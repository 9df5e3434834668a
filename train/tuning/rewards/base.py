"""What a reward is, and how several score a batch: a subclass of `Reward` with a `name`, found by its place.

To add one, write a subclass into a module of this folder; the config's section `rewards` then knows its name:

    rewards:
      verified_answer: {weight: 1.0}
      unfinished: {weight: 0.5}
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from data_recipes.errors import first_line, nearest
from data_recipes.registry import named_subclasses
from train.config import Settings
from train.errors import TrainError

Message = Mapping[str, str]


@dataclass(frozen=True)
class Completion:
    """One answer of the policy. `ended`: it closed its turn itself, before the limit of tokens."""

    prompt: Sequence[Message]
    text: str
    ended: bool = True
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The prompt's other columns, as far as a reward needs them."""
    where: str = ""
    """File and line of the prompt, for messages."""

    @property
    def question(self) -> str:
        """What the user said last."""
        return self.prompt[-1]["content"]


class RewardSettings(Settings):
    """What every reward has; a reward's own `Settings` add to it. The sum of all, each times its weight, is clipped."""

    weight: float = Field(1.0, allow_inf_nan=False)


class Reward(ABC):
    """Made once a process, before training; raises TrainError or DataError where what it needs is not there."""

    name: ClassVar[str]
    Settings: ClassVar[type[RewardSettings]] = RewardSettings
    needs: ClassVar[Sequence[str]] = ()
    """Columns that every prompt must have."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def fingerprint(self) -> str | None:
        """Of files that the scores depend on, for the manifest; None where there are none."""
        return None

    def check(self, columns: Mapping[str, Any]) -> None:
        """Raise ValueError, in a phrase that follows the line's number, for a prompt that cannot be scored."""
        for column in self.needs:
            if columns.get(column) is None:
                raise ValueError(f"no '{column}', which the reward '{self.name}' needs")

    @abstractmethod
    def score(self, completions: Sequence[Completion]) -> Sequence[float]:
        """A finite number for each completion, the higher the better; may load a model at the first call."""


class RewardError(TrainError):
    """A reward raised, or gave something other than a number, for a prompt of the user's."""


@cache
def reward_kinds() -> dict[str, type[Reward]]:
    """All rewards by name."""
    return named_subclasses(Reward)  # type: ignore[type-abstract]


def settings_of(name: str, values: Any) -> RewardSettings:
    """The checked settings of one entry of `rewards`; ValueError names the nearest reward or key."""
    kinds = reward_kinds()
    if name not in kinds:
        raise ValueError(f"'{name}' is no reward.{nearest(name, kinds)} Known: {', '.join(kinds)}")
    kind = kinds[name].Settings
    if isinstance(values, RewardSettings):
        values = values.model_dump(exclude_unset=True)
    try:
        return kind.model_validate({} if values is None else values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        hint = nearest(key, kind.model_fields) if fault["type"] == "extra_forbidden" else ""
        raise ValueError(f"{name}{'.' if key else ''}{key}: {fault['msg'].lower()}.{hint}") from error


def make_rewards(settings: Mapping[str, RewardSettings]) -> list[Reward]:
    """The rewards of a config, in its order."""
    return [reward_kinds()[name](chosen) for name, chosen in settings.items()]


def scores_of(reward: Reward, completions: Sequence[Completion]) -> list[float]:
    """Checked scores; RewardError names the reward and the prompt where one raises or gives no finite number."""
    try:
        scores = list(reward.score(completions))
    except RewardError:
        raise
    except Exception as error:
        raise RewardError(
            f"the reward '{reward.name}' failed at {_culprit(reward, completions)}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if len(scores) != len(completions):
        raise RewardError(f"the reward '{reward.name}' gave {len(scores)} scores for {len(completions)} answers.")
    for completion, score in zip(completions, scores, strict=True):
        if isinstance(score, bool | str) or not _is_finite(score):
            raise RewardError(
                f"the reward '{reward.name}' gave {score!r} for an answer to {completion.where}; expected a finite "
                f"number. The answer begins {completion.text[:60]!r}."
            )
    return [float(score) for score in scores]


def _is_finite(score: Any) -> bool:
    try:
        return math.isfinite(score)
    except (TypeError, ValueError, OverflowError):
        return False


def _culprit(reward: Reward, completions: Sequence[Completion]) -> str:
    """The first prompt at which the reward fails by itself; scoring one by one is slow, but happens once."""
    for completion in completions:
        try:
            reward.score([completion])
        except Exception:
            return completion.where
    return f"a batch of {len(completions)} answers from {completions[0].where} on, though at none by itself"
