"""A conversation with a causal language model: what it is asked with, and its answer as it is written.

A model that was tuned to answer is asked through its chat template with all that was said before; any other
continues the text that it is given, each on its own.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import GenerationConfig, TextStreamer

from eval.generation import end_tokens
from eval.model_loading import LoadedModel
from yulanmini.errors import RunError


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; what is None is the model's own (generation_config.json), which without one is greedy."""

    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise RunError(f"--temperature {self.temperature}: expected 0 (greedy) or more, such as 0.7.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RunError(f"--top-p {self.top_p}: expected more than 0 and at most 1, such as 0.9.")
        if self.top_p is not None and self.temperature == 0:
            raise RunError("--top-p samples, and --temperature 0 does not. Leave one of them out.")
        if self.max_new_tokens < 1:
            raise RunError(f"--max-new-tokens {self.max_new_tokens}: expected 1 or more.")

    def applied_to(self, own: GenerationConfig) -> GenerationConfig:
        """The model's own config with what was asked for in its place."""
        config = copy.deepcopy(own)
        config.max_length = None
        if self.temperature is not None or self.top_p is not None:
            config.do_sample = self.temperature != 0
            config.temperature = self.temperature if self.temperature is not None else config.temperature
            config.top_p = self.top_p if self.top_p is not None else config.top_p
            config.top_k = config.top_k or 0  # transformers would keep the 50 likeliest unasked
        if not config.do_sample:  # transformers warns of each of these that is set
            config.temperature = config.top_p = config.top_k = config.min_p = config.typical_p = None
        return config


@dataclass(frozen=True)
class Answer:
    """What the model wrote: until its "end", until the "limit" of tokens, or until it was "stopped" by the user.

    `turns_dropped` is how many of the oldest turns had no room in the context and were forgotten."""

    answer: str
    ended: Literal["end", "limit", "stopped"]
    prompt_tokens: int
    new_tokens: int
    seconds: float
    turns_dropped: int


class Conversation:
    """The turns so far, and the model that answers. `is_chat`: None decides by the model (`answers_turns`)."""

    def __init__(
        self, loaded: LoadedModel, *, sampling: Sampling, system: str | None = None, is_chat: bool | None = None
    ) -> None:
        self.loaded, self.sampling = loaded, sampling
        self.is_chat = answers_turns(loaded) if is_chat is None else is_chat
        if is_chat and not loaded.tokenizer.chat_template:
            raise RunError("--chat: the model has no chat template. Without --chat it continues text.")
        if system is not None and not self.is_chat:
            raise RunError("--system: this model only continues text; put what it should know into the prompt.")
        self.system = [] if system is None else [{"role": "system", "content": system}]
        self.turns: list[dict[str, str]] = []
        if self.system:
            self._prompt_ids([{"role": "user", "content": "?"}])  # a template without a system role says so now

    def reset(self) -> None:
        """Forget what was said; the system prompt stays."""
        self.turns = []

    def answer(self, text: str, write: Callable[[str], None]) -> Answer:
        """Ask, and hand on the answer piece by piece. Ctrl-C ends the answer, which is kept as far as it came.

        Raises RunError for a text that leaves no room in the model's context; it is then not part of the conversation.
        """
        turns = [*self.turns, {"role": "user", "content": text}] if self.is_chat else []
        ids, dropped = self._fit(turns) if self.is_chat else (self._text_ids(text), 0)
        room = self.loaded.max_length - len(ids)
        if room < 1:
            raise RunError(
                f"the prompt has {len(ids)} tokens, the model's context {self.loaded.max_length}: "
                "no room for an answer. Give a shorter one."
            )
        pieces = Pieces(self.loaded.tokenizer, write)
        started = time.perf_counter()
        stopped = not self._generate(ids, min(self.sampling.max_new_tokens, room), pieces)
        answer = Answer(
            answer=pieces.text,
            ended="stopped" if stopped else "end" if pieces.last in end_tokens(self.loaded) else "limit",
            prompt_tokens=len(ids),
            new_tokens=pieces.count,
            seconds=round(time.perf_counter() - started, 3),
            turns_dropped=dropped,
        )
        if self.is_chat:
            self.turns = [*turns[dropped:], {"role": "assistant", "content": answer.answer}]
        return answer

    def _generate(self, ids: list[int], limit: int, pieces: "Pieces") -> bool:
        """Whether it came to an end by itself."""
        import torch

        config = self.sampling.applied_to(self.loaded.model.generation_config)
        ends = end_tokens(self.loaded)
        padding = self.loaded.tokenizer.pad_token_id
        config.update(
            max_new_tokens=limit,
            eos_token_id=ends or None,
            pad_token_id=padding if padding is not None else (ends or [0])[0],
        )
        inputs = torch.tensor([ids], device=self.loaded.device)
        try:
            self.loaded.model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                generation_config=config,
                streamer=pieces,
            )
        except KeyboardInterrupt:
            pieces.end()
            return False
        return True

    def _fit(self, turns: list[dict[str, str]]) -> tuple[list[int], int]:
        """Token ids of the turns, without the oldest exchanges where they leave too little room for an answer."""
        context = self.loaded.max_length
        longest = context - min(self.sampling.max_new_tokens, context // 2)
        for dropped in range(0, len(turns), 2):
            ids = self._prompt_ids(turns[dropped:])
            if len(ids) <= longest:
                break
        return ids, dropped

    def _prompt_ids(self, turns: list[dict[str, str]]) -> list[int]:
        try:
            encoded = self.loaded.tokenizer.apply_chat_template(
                [*self.system, *turns], add_generation_prompt=True, return_dict=True
            )
        except TemplateError as error:
            raise RunError(f"the model's chat template does not take these messages ({error}).") from error
        return list(encoded["input_ids"])

    def _text_ids(self, text: str) -> list[int]:
        return list(self.loaded.tokenizer(text)["input_ids"])


class Pieces(TextStreamer):
    """transformers' streamer, which hands on whole words, with what came of it: the text, how many tokens, the last."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write, self.text, self.count = write, "", 0
        self.last: int | None = None

    def put(self, value: Any) -> None:
        if not self.next_tokens_are_prompt:
            self.count += value.numel()
            self.last = int(value.flatten()[-1])
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text += text
        if text:
            self.write(text)


def answers_turns(loaded: LoadedModel) -> bool:
    """Whether a model was tuned to answer: it stops at the token with which its chat template ends an answer.

    A base model often comes with a template too, but ends with the end of a text only. Of an adapter the generation
    config is that of its base; one that has a template was tuned on dialogues, as far as can be known.
    """
    tokenizer = loaded.tokenizer
    if not tokenizer.chat_template:
        return False
    if loaded.provenance.get("adapter"):
        return True
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        ids = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
    except TemplateError:
        return True
    marks = [token for token in ids if token in tokenizer.added_tokens_decoder]
    own = loaded.model.generation_config.eos_token_id
    stops = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id}
    return not marks or marks[-1] in stops
