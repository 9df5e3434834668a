"""A model behind an OpenAI-compatible endpoint (vLLM, SGLang, ...) as lm-eval asks it.

Prompts are sent as token ids to `/v1/completions`, so that what is asked is the same as of a local model; likelihoods
come from `echo` with `logprobs`, which vLLM and SGLang answer.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import postprocess_generated_text
from tqdm import tqdm

from data_recipes.endpoint.client import Endpoint as Client
from data_recipes.endpoint.client import in_order
from data_recipes.endpoint.request import NoAnswer
from eval.errors import EvalError
from eval.harness.questions import AUTO, Questions, nan_message
from eval.harness.served import ServedModel

ROWS = 16  # of a request; the server makes batches of its own
REQUESTS_AT_ONCE = 4
PATIENCE = 300.0  # seconds that the server may be busy or away


class Endpoint(Questions, TemplateLM):
    """A served model. Its tokenizer is a local one, of the same model."""

    max_gen_toks = 256

    def __init__(self, served: ServedModel, *, start_ids: list[int], batch_size: int | str, progress: bool) -> None:
        TemplateLM.__init__(self)
        self.served, self.tokenizer = served, served.tokenizer
        self.max_length = served.max_length - 1  # the server makes one token more than it is asked to echo
        self.rows = ROWS if batch_size == AUTO else int(batch_size)
        self.begin(served.provenance["name"], served.tokenizer, start_ids, progress=progress)

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:  # type: ignore[override]
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return self.name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, **kwargs: Any) -> list[Any]:
        payloads = []
        for _, context, continuation in requests:
            ids = (context + continuation)[-self.max_length :]
            payloads.append((ids, len(ids) - len(continuation)))
        results: list[Any] = [None] * len(payloads)
        settings = {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        order = sorted(range(len(payloads)), key=lambda index: -len(payloads[index][0]))
        asked = ([payloads[index][0] for index in rows] for rows in chunks(order, self.rows))
        for rows, choices in zip(chunks(order, self.rows), self.ask(asked, len(order), settings), strict=True):
            for index, choice in zip(rows, choices, strict=True):
                results[index] = self.read_likelihood(choice, *payloads[index])
        return results

    def read_likelihood(self, choice: Any, ids: list[int], first: int) -> tuple[float, bool]:
        """The sum over the tokens from `first` on, and whether each was the likeliest."""
        try:
            nats = choice["logprobs"]["token_logprobs"][first : len(ids)]
            top = choice["logprobs"]["top_logprobs"][first : len(ids)]
            greedy = all(value >= max(best.values()) for value, best in zip(nats, top, strict=True))
            total = float(sum(nats))
        except (KeyError, TypeError, ValueError) as error:
            raise EvalError(
                f"{self.served.url}: its answers have no log-probabilities of the prompt (echo with logprobs, as vLLM "
                "and SGLang give them); only benchmarks whose answers are written can be scored there."
            ) from error
        if len(nats) != len(ids) - first:
            raise EvalError(f"{self.served.url}: log-probabilities of {len(nats)} tokens, expected {len(ids) - first}.")
        if total != total:
            raise EvalError(nan_message(self.name))
        return total, greedy

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        totals = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=(self.start_ids or [self.prefix_token_id])[-1],
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            parts = [(None, *make_disjoint_window(window)) for window in windows]
            totals.append(sum(nats for nats, _ in self._loglikelihood_tokens(parts)))
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        prompts = self.prompts_of(requests)
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
        answers = [""] * len(requests)
        for text, members in groups.items():
            given = json.loads(text)
            until = given.pop("until", None) or []
            stop = [until] if isinstance(until, str) else list(until)
            settings = {"max_tokens": prompts[members[0]][1], "temperature": 0.0, "stop": stop}
            if given.get("do_sample"):
                settings |= {key: given[key] for key in ("temperature", "top_p") if key in given}
            # A server may draw all prompts of a request from one seed: equal prompts would get equal answers.
            together = 1 if given.get("do_sample") else self.rows
            asked = ([list(prompts[index][0]) for index in rows] for rows in chunks(members, together))
            for rows, choices in zip(chunks(members, together), self.ask(asked, len(members), settings), strict=True):
                for index, choice in zip(rows, choices, strict=True):
                    answers[index] = postprocess_generated_text(choice["text"], stop, None)
                    if choice.get("finish_reason") == "length":
                        self.unfinished.add((requests[index].task_name, requests[index].doc_id))
        return answers

    def ask(self, prompts: Any, count: int, settings: dict[str, Any]) -> Iterator[list[Any]]:
        """The choices of each batch of prompts, in their order; several requests are under way at a time."""
        bar = tqdm(total=count, desc="asking", unit="prompt", disable=not self.progress)
        seed = int(torch.initial_seed() % 2**31)  # what lm-eval's seed was set to

        def asking(endpoint: Client) -> Callable[[tuple[int, list[list[int]]]], Awaitable[list[Any]]]:
            async def choices(numbered: tuple[int, list[list[int]]]) -> list[Any]:
                number, batch = numbered
                body = {"model": self.name, "prompt": batch, "seed": seed + number, **settings}
                answer = await endpoint.fetch("/completions", body)
                found = sorted(answer.get("choices", []), key=lambda choice: choice["index"])
                if len(found) != len(batch):
                    raise EvalError(f"{self.served.url}: {len(found)} answers to {len(batch)} prompts.")
                bar.update(len(batch))
                self.rows_used[len(batch)] += 1
                return found

            return choices

        options = {"concurrency": REQUESTS_AT_ONCE, "patience": PATIENCE}
        with bar:
            for found in in_order(self.served.url, enumerate(prompts), asking, **options):
                if isinstance(found, NoAnswer):
                    raise EvalError(f"{found}. What is scored so far is kept.") from found
                yield found


def chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
