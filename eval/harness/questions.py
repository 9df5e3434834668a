"""What a model that lm-eval asks, here or at an endpoint, must do with its questions: begin them, measure them, count.

The token before a text is chosen here and not by a tokenizer's habits. A prompt that has to lose its beginning, and an
answer that does not end by itself, are counted by (task, document).
"""

from collections import Counter
from typing import Any

from eval.errors import EvalError

AUTO = "auto"


class Likelihood(tuple[float, bool]):
    """(nats, whether it is the greedy answer) of a continuation, as lm-eval has it, and how many `tokens` it has."""

    tokens: int

    def __new__(cls, answer: tuple[float, bool], *, tokens: int) -> "Likelihood":
        made = super().__new__(cls, answer)
        made.tokens = tokens
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, int]]:
        """It is sent from rank to rank."""
        return (tuple(self),), {"tokens": self.tokens}


class Questions:
    """The first base of a model class; the second is one of lm-eval's with `_loglikelihood_tokens` and `_encode_pair`.

    `start_ids`: the tokens before each text that does not bring them itself (a chat template's may). `rows_used`: how
    often a batch of so many rows was asked.
    """

    tokenizer: Any
    max_length: int
    max_gen_toks: int
    prefix_token_id: int

    def begin(self, name: str, tokenizer: Any, start_ids: list[int], *, progress: bool) -> None:
        self.name, self.progress, self.start_ids = name, progress, start_ids
        self.start_text = tokenizer.decode(start_ids) if start_ids else ""
        self.cut: Counter[tuple[str, int]] = Counter()
        self.unfinished: set[tuple[str, int]] = set()
        self.rows_used: Counter[int] = Counter()

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        ids = self.tokenizer.encode(string, add_special_tokens=False)
        if add_special_tokens is not False and not (self.start_text and string.startswith(self.start_text)):
            ids = self.start_ids + ids
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Likelihood]:
        """Of each continuation. An empty context is begun all the same."""
        pairs = []
        for request in requests:
            context, continuation = request.args
            if context:
                context_ids, ids = self._encode_pair(context, continuation)  # type: ignore[attr-defined]
            else:
                ids = self.tok_encode(continuation, add_special_tokens=False)
                context_ids = self.start_ids or [self.prefix_token_id]
            self.count_cut(request, len(context_ids) + len(ids) - (self.max_length + 1))
            pairs.append(((context, continuation), context_ids, ids))
        answers = self._loglikelihood_tokens(pairs, disable_tqdm=not self.progress)  # type: ignore[attr-defined]
        return [Likelihood(answer, tokens=len(ids)) for answer, (_, _, ids) in zip(answers, pairs, strict=True)]

    def prompts_of(self, requests: list[Any]) -> list[tuple[tuple[int, ...], int]]:
        """(token ids, limit of tokens of the answer) of each request; what has no room is cut off, and counted."""
        prompts = []
        for request in requests:
            prompt, settings = request.args
            limit = int(settings.get("max_gen_toks", self.max_gen_toks))
            if limit >= self.max_length:
                raise EvalError(
                    f"answers of up to {limit} tokens: the context of {self.max_length} tokens of {self.name} leaves "
                    "no room for a question."
                )
            ids, room = self.tok_encode(prompt), self.max_length - limit
            self.count_cut(request, len(ids) - room)
            prompts.append((tuple(ids[-room:]), limit))
        return prompts

    def count_cut(self, request: Any, excess: int) -> None:
        key = (request.task_name, request.doc_id)
        if excess > self.cut[key]:
            self.cut[key] = excess


def nan_message(name: str) -> str:
    return f"{name}: its logits are NaN; it cannot be scored. Did its training diverge, or is the dtype too narrow?"
