"""A second look at what `topic` has recalled: small encoders (TinyBERT), which see only what earlier steps keep."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, model_validator

from data_recipes.cleaning.scorers import Encoder, LoadedEncoder, find_encoder, probabilities
from data_recipes.cleaning.steps.base import Batch, FolderOrId, Step, Threshold
from data_recipes.cleaning.steps.quality import DECIMALS, EncoderSettings
from data_recipes.cleaning.steps.topic import Probability, TopicName, off_topic
from data_recipes.errors import DataError, nearest
from data_recipes.manifest import MANIFEST_NAME


class TopicEncoderSettings(EncoderSettings):
    """`models`: for each topic a sequence classifier by Hub id or folder, at the Hub's revision in `revision_of`; the
    label that stands for the topic is called like it, or as `label_of` says. A document is kept that is on at least one
    topic with this probability."""

    models: Annotated[dict[TopicName, str], FolderOrId()] = Field(min_length=1)
    revision_of: dict[str, str] = Field(default_factory=dict)
    label_of: dict[str, str] = Field(default_factory=dict)
    probability: Annotated[Probability, Threshold()] = 0.5
    probability_of: Annotated[dict[str, Probability], Threshold()] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _topics_are_known(self) -> "TopicEncoderSettings":
        for key in ("revision_of", "label_of", "probability_of"):
            for name in getattr(self, key):
                if name not in self.models:
                    raise ValueError(f"{key}: no model of the topic '{name}'.{nearest(name, self.models)}")
        return self

    def signal_settings(self) -> dict[str, Any]:
        """Which topics, and not where the classifiers lie; what they are, `inputs` says."""
        found = {key: value for key, value in super().signal_settings().items() if key != "revision_of"}
        return {**found, "models": sorted(self.models)}


class TopicEncoder(Step[TopicEncoderSettings]):
    """Columns `encoder_NAME`: the probability that the document is on the topic."""

    name = "topic-encoder"
    Settings = TopicEncoderSettings
    costly = True

    def inputs(self) -> dict[str, str]:
        """The classifiers. `DataError` where one is not there, or has no label of the topic."""
        found = {}
        for topic in self.settings.models:
            encoder = self._encoder(topic)
            self._place(topic, encoder)
            found[topic] = encoder.fingerprint
        return found

    def _encoder(self, topic: str) -> Encoder:
        return find_encoder(self.settings.models[topic], self.settings.revision_of.get(topic))

    def _place(self, topic: str, encoder: Encoder) -> int:
        wanted, labels = self.settings.label_of.get(topic, topic), encoder.labels
        if len(labels) < 2:
            raise DataError(f"{encoder.name}: has one output, {labels[0]}; expected a label for '{topic}' and another.")
        if wanted not in labels:
            raise DataError(
                f"{encoder.name}: has the labels {', '.join(labels)}, expected '{wanted}'. Name the one that is meant: "
                f"label_of: {{{topic}: ...}}."
            )
        return labels.index(wanted)

    @cached_property
    def _loaded(self) -> dict[str, tuple[LoadedEncoder, int]]:
        settings = self.settings
        sizes = {"max_tokens": settings.max_tokens, "batch_tokens": settings.batch_tokens}
        found = {}
        for topic in settings.models:
            encoder = self._encoder(topic)
            found[topic] = LoadedEncoder(encoder, dtype=settings.dtype, **sizes), self._place(topic, encoder)
        return found

    def schema(self) -> pa.Schema:
        return pa.schema([(f"encoder_{topic}", pa.float32()) for topic in self.settings.models])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        return {
            f"encoder_{topic}": probabilities(encoder.logits(batch.texts))[:, place].round(DECIMALS).tolist()
            for topic, (encoder, place) in self._loaded.items()
        }

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        return off_topic(signals, self._least)

    def details(self, columns: Iterable[pa.Table]) -> dict[str, Any]:
        """By topic: recall and precision on held-out examples, of those that `yulanmini data train-topic` has made."""
        manifests = {topic: self._encoder(topic).folder / MANIFEST_NAME for topic in self.settings.models}
        found = {topic: json.loads(path.read_text()) for topic, path in manifests.items() if path.is_file()}
        return {topic: manifest["held_out"] for topic, manifest in found.items() if "held_out" in manifest}

    @property
    def _least(self) -> dict[str, float]:
        settings = self.settings
        least = {topic: settings.probability_of.get(topic, settings.probability) for topic in settings.models}
        return {f"encoder_{topic}": bound for topic, bound in least.items()}

    def limits(self) -> dict[str, list[float]]:
        return {column: [least] for column, least in self._least.items()}
