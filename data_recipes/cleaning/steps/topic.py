"""Documents on topics that are wanted (math, code, reasoning), recalled by classifiers trained from examples."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from data_recipes.cleaning.steps.base import Batch, Step, StepSettings, Threshold
from data_recipes.cleaning.topic_examples import TOPIC_NAME
from data_recipes.cleaning.topics import TopicClassifier, load_classifier, read_classifier
from data_recipes.errors import nearest

Probability = Annotated[float, Field(ge=0, le=1)]
TopicName = Annotated[str, Field(pattern=f"^{TOPIC_NAME}$")]


class TopicSettings(StepSettings):
    """`models`: a folder of `yulanmini data train-topic` for each topic. A document is kept that is on at least one of
    them with at least this probability; `probability_of` sets another for some."""

    models: dict[TopicName, Path] = Field(min_length=1)
    probability: Annotated[Probability, Threshold()] = 0.5
    probability_of: Annotated[dict[str, Probability], Threshold()] = Field(default_factory=dict)
    action: Annotated[Literal["drop", "annotate"], Threshold()] = "drop"

    @model_validator(mode="after")
    def _topics_are_known(self) -> "TopicSettings":
        for name in self.probability_of:
            if name not in self.models:
                raise ValueError(f"probability_of: no model of the topic '{name}'.{nearest(name, self.models)}")
        return self

    def signal_settings(self) -> dict[str, Any]:
        """Which topics, and not where the classifiers lie; what they are, `inputs` says."""
        return {**super().signal_settings(), "models": sorted(self.models)}


class Topic(Step[TopicSettings]):
    """Columns `topic_NAME`: the probability that the document is on the topic."""

    name = "topic"
    Settings = TopicSettings

    def inputs(self) -> dict[str, str]:
        """The classifiers. `DataError` where one is not there, or is of another topic."""
        return {topic: read_classifier(folder, topic)["fingerprint"] for topic, folder in self.settings.models.items()}

    @cached_property
    def _classifiers(self) -> dict[str, TopicClassifier]:
        return {topic: load_classifier(folder, topic) for topic, folder in self.settings.models.items()}

    def schema(self) -> pa.Schema:
        return pa.schema([(f"topic_{topic}", pa.float32()) for topic in self.settings.models])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        return {
            f"topic_{topic}": classifier.probabilities(batch.texts).tolist()
            for topic, classifier in self._classifiers.items()
        }

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        if self.settings.action == "annotate":
            return [None] * len(signals)
        return off_topic(signals, self._least)

    def details(self, columns: Iterable[pa.Table]) -> dict[str, Any]:
        """By topic: recall and precision on held-out examples, as the classifier's manifest has them."""
        return {topic: read_classifier(folder, topic)["held_out"] for topic, folder in self.settings.models.items()}

    @property
    def _least(self) -> dict[str, float]:
        settings = self.settings
        return {f"topic_{topic}": settings.probability_of.get(topic, settings.probability) for topic in settings.models}

    def limits(self) -> dict[str, list[float]]:
        return {column: [least] for column, least in self._least.items()}


def off_topic(signals: pa.Table, least: dict[str, float]) -> list[str | None]:
    """The reasons of documents whose probability is below the least in every column."""
    kept = np.zeros(len(signals), dtype=bool)
    for column, bound in least.items():
        kept |= signals[column].to_numpy() >= np.float32(bound)
    return [None if keep else "on none of the topics" for keep in kept]
