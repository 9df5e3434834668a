"""What preference pairs are made of: the schema of a config's `pairs`, and sources of prompts with answers."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from data_recipes.errors import DataError
from data_recipes.instruct.messages import NotADialogue, check_messages, messages_of
from data_recipes.instruct.source import DialogueSource, answer_of, text_of

QUESTIONS = (("messages",), ("conversations",), ("prompt",), ("instruction",))

ANSWERED_BY = {"instruction": "output", "prompt": "completion"}


class PairSource(DialogueSource):
    """Prompts, off-policy with answers that the data carry (`responses`, or `chosen` and `rejected`, and a `completion`
    or `output`); without any the model answers: on-policy. `answer` is the right one, where there is one."""

    @property
    def forms(self) -> list[tuple[str, ...]]:
        return list(QUESTIONS)

    def dialogue_line(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        carried = responses_of(parts)
        # A form has an answer; that of a prompt alone is not looked at.
        filled = {ANSWERED_BY[name]: "?" for name in ANSWERED_BY if parts.get(name) is not None}
        messages = messages_of({**parts, **filled})
        last_one = messages[-1] if isinstance(messages, list) and messages else None
        if isinstance(last_one, dict) and last_one.get("role") != "assistant":
            messages = [*messages, {"role": "assistant", "content": "?"}]
        check_messages(messages)
        prompt = [{"role": one["role"], "content": one["content"]} for one in messages[:-1]]
        if not prompt or prompt[-1]["role"] != "user":
            raise NotADialogue("the prompt does not end with a question.", reason="no question before the answer")
        return {
            "text": text_of(prompt),
            "messages": prompt,
            "responses": carried,
            "answer": answer_of(parts),
            "fault": None,
        }


def responses_of(parts: Mapping[str, Any]) -> list[str]:
    """The texts of all answers that a row carries."""
    given = parts.get("responses") or []
    if not isinstance(given, list):
        raise NotADialogue("'responses' is not a list.", reason="responses are not a list")
    given = [*given]
    given += [parts[name] for name in ("chosen", "rejected", "completion", "output") if parts.get(name)]
    texts = []
    for response in given:
        if isinstance(response, list) and response:  # a conversation, whose last turn is the answer
            response = response[-1] if isinstance(response[-1], Mapping) else None
        if isinstance(response, Mapping):
            response = response.get("content", response.get("value"))
        if not isinstance(response, str):
            raise NotADialogue("an answer is not text.", reason="an answer is not text")
        texts.append(response)
    return texts


class PairSettings(BaseModel):
    """`sources` of prompts, and prompts of so many of the kept `dialogues`, whose own answers are left out. `model`
    answers those that come without answers, `samples` times: by its name on `endpoint` (the config's by default), or a
    folder on this machine. `reward` decides where no right answer can: a reward model by folder or Hub id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: dict[str, PairSource] = Field(default_factory=dict)
    dialogues: int = Field(0, ge=0)
    model: str | None = None
    endpoint: str | None = None
    samples: int = Field(4, ge=2)
    temperature: float = Field(1.0, gt=0)
    max_tokens: int = Field(2048, ge=1)
    reward: str | None = None
    revision: str | None = None
    margin: float = Field(0.0, ge=0)
    hard_prompts: int = Field(10_000, ge=0)

    def check(self, where: str, taken: Collection[str]) -> None:
        """`DataError` where there is nothing to make pairs of, nobody to answer, or a name that is `taken`."""
        if not self.sources and not self.dialogues:
            raise DataError(
                f"{where}: pairs: neither sources nor dialogues, so there are no prompts. Give one of them."
            )
        answered = {"responses", "chosen", "rejected", "completion", "output"}
        unanswered = [name for name, one in self.sources.items() if one.columns and not answered & one.columns.keys()]
        if (unanswered or self.dialogues) and self.model is None:
            whose = f"the source '{unanswered[0]}'" if unanswered else "dialogues"
            raise DataError(f"{where}: pairs: the prompts of {whose} come without answers; give `model`, who answers.")
        for name in self.sources:
            if name in taken:
                raise DataError(
                    f"{where}: pairs: a source of the mixture is called '{name}' too. Give it another name."
                )
