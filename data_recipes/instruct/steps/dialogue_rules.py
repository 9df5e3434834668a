"""Rules on what the assistant says. The report names heuristic rules, not which: these are ours, each can be off."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

import pyarrow as pa

from data_recipes.cleaning.steps.base import Batch, Step, StepSettings, Threshold
from data_recipes.instruct.prose import is_one_line_filler, is_unfinished, mixes_languages

PHRASES = (
    r"\bas an? (?:ai|artificial intelligence)(?: language)?(?: model| assistant)?\b",
    r"\bknowledge cutoff\b",
    r"\bI(?:'m| am) (?:sorry|unable)\b.{0,40}\b(?:can(?:not|'t)|unable|assist)\b",
    r"作为(?:一个|一名)?(?:AI|人工智能|大?语言模型)",
    r"(?:OpenAI|ChatGPT|Anthropic|文心一言|通义千问)",
)


class DialogueRulesSettings(StepSettings):
    """Each rule asks of every answer of the assistant, `unfinished` and `filler` of the last one only. `phrases` are
    regular expressions, in any case; what a copied dialogue tells of another model is among them."""

    phrases: tuple[str, ...] = PHRASES
    min_answer_characters: Annotated[int, Threshold()] = 1
    unfinished: Annotated[bool, Threshold()] = True
    filler: Annotated[bool, Threshold()] = True
    mixed_languages: Annotated[bool, Threshold()] = True


class DialogueRules(Step[DialogueRulesSettings]):
    """Columns `answer_characters` (of the shortest answer), `unfinished`, `filler`, `mixed_languages`, `phrase` (the
    first of the phrases that is there)."""

    name = "dialogue-rules"
    Settings = DialogueRulesSettings
    reads = ("messages",)

    @cached_property
    def _phrases(self) -> list[re.Pattern[str]]:
        return [re.compile(phrase, re.IGNORECASE) for phrase in self.settings.phrases]

    def schema(self) -> pa.Schema:
        flags = [(name, pa.bool_()) for name in ("unfinished", "filler", "mixed_languages")]
        return pa.schema([("answer_characters", pa.int32()), *flags, ("phrase", pa.string())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        rows = [self._of(messages or []) for messages in batch.columns["messages"]]
        return {name: [row[place] for row in rows] for place, name in enumerate(self.schema().names)}

    def _of(self, messages: Sequence[dict[str, str]]) -> tuple[int, bool, bool, bool, str | None]:
        question, mixed, shortest, phrase = "", False, None, None
        answer = ""
        for message in messages:
            if message["role"] != "assistant":
                question = message["content"]
                continue
            answer = message["content"]
            shortest = min(len(answer.strip()), len(answer) if shortest is None else shortest)
            mixed = mixed or mixes_languages(question, answer)
            phrase = phrase or next((one.pattern for one in self._phrases if one.search(answer)), None)
        return shortest or 0, is_unfinished(answer), is_one_line_filler(question, answer), mixed, phrase

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        settings = self.settings
        found = []
        for row in signals.to_pylist():
            reason = None
            if row["answer_characters"] < settings.min_answer_characters:
                reason = f"an answer of fewer than {settings.min_answer_characters} characters"
            elif settings.filler and row["filler"]:
                reason = "a filler for an answer"
            elif settings.unfinished and row["unfinished"]:
                reason = "an unfinished answer"
            elif settings.mixed_languages and row["mixed_languages"]:
                reason = "an answer in another language than the question"
            elif row["phrase"] is not None:
                reason = "an answer that speaks as another model, or refuses"
            found.append(reason)
        return found

    def limits(self) -> dict[str, list[float]]:
        return {"answer_characters": [self.settings.min_answer_characters]}
