"""A loaded model as lm-eval asks it: batches that fit the memory, and nothing cut, endless or NaN that is not counted.

lm-eval's own class does the batching and the arithmetic. What is changed: the token before a text is chosen here and
not by the tokenizer's habits, log-probabilities are taken in float32, batch sizes come from the memory that is free.
"""

from collections import Counter
from typing import Any

import psutil
import torch
from lm_eval.models.huggingface import HFLM

from eval.errors import EvalError
from eval.model_loading import LoadedModel
from train.launch.world import World

MOST_ROWS = 64
# Of the memory that is free once the model is loaded; the rest is for activations and for others.
MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.7}
AUTO = "auto"


class LocalModel(HFLM):
    """`start_ids`: the tokens before each text that does not bring them itself (a chat template's may).

    `cut` and `unfinished` count by (task, document): tokens of prompts that found no room, answers that ended at
    their limit of tokens.
    """

    def __init__(
        self, loaded: LoadedModel, world: World, *, start_ids: list[int], batch_size: int | str, progress: bool
    ) -> None:
        super().__init__(
            pretrained=loaded.model,
            tokenizer=loaded.tokenizer,
            backend="causal",
            batch_size=batch_size,
            max_length=loaded.max_length,
            softmax_dtype="float32",
            prefix_token_id=start_ids[-1] if start_ids else None,
        )
        self.start_ids, self.progress = start_ids, progress
        self.start_text = loaded.tokenizer.decode(start_ids) if start_ids else ""
        self.name = loaded.provenance["name"]
        self.cut: Counter[tuple[str, int]] = Counter()
        self.unfinished: set[tuple[str, int]] = set()
        self.rows_used: Counter[int] = Counter()
        self._endless: set[tuple[int, ...]] = set()
        self._free_bytes = free_memory(loaded.device)
        if world.size > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator(cpu=world.device.type == "cpu")
            self._rank, self._world_size = world.rank, world.size

    # Text to tokens: the start is ours.

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        ids = self.tokenizer.encode(string, add_special_tokens=False)
        if add_special_tokens is not False and not (self.start_text and string.startswith(self.start_text)):
            ids = self.start_ids + ids
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [self.tok_encode(string, left_truncate_len=left_truncate_len) for string in strings]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, width - len(row) :] = torch.tensor(row)
            mask[index, width - len(row) :] = 1
        return ids, mask

    # What lm-eval asks.

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        for request in requests:
            text = "".join(request.args)
            if len(text.encode()) >= self.max_length:  # no token is shorter than a byte
                self._count_cut(request, len(self.tok_encode(text)) - (self.max_length + 1))
        return super().loglikelihood(requests, disable_tqdm=not self.progress)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        with _FixedBatch(self, self.max_length):
            return super().loglikelihood_rolling(requests, disable_tqdm=not self.progress)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        longest, prompts = 0, []
        for request in requests:
            prompt, settings = request.args
            limit = settings.get("max_gen_toks", self.max_gen_toks)
            if limit >= self.max_length:
                raise EvalError(
                    f"answers of up to {limit} tokens: the context of {self.max_length} tokens of {self.name} leaves "
                    "no room for a question."
                )
            ids = self.tok_encode(prompt)
            room = self.max_length - limit
            self._count_cut(request, len(ids) - room)
            prompts.append(tuple(ids[-room:]))
            longest = max(longest, len(prompts[-1]) + limit)
        self._endless.clear()
        with _FixedBatch(self, longest):
            answers = super().generate_until(requests, disable_tqdm=not self.progress)
        for request, asked in zip(requests, prompts, strict=True):
            if asked in self._endless:
                self.unfinished.add((request.task_name, request.doc_id))
        return answers

    def _count_cut(self, request: Any, excess: int) -> None:
        key = (request.task_name, request.doc_id)
        if excess > self.cut[key]:
            self.cut[key] = excess

    # What it asks of the model.

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits [rows, tokens, vocabulary]; a batch that does not fit after all is halved."""
        try:
            logits = super()._model_call(inps)
        except torch.OutOfMemoryError:
            if len(inps) == 1:
                raise
            torch.cuda.empty_cache()
            return torch.cat([self._model_call(half) for half in inps.chunk(2)])
        if logits.isnan().any():
            raise EvalError(nan_message(self.name))
        self.rows_used[len(inps)] += 1
        return logits

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> torch.Tensor:
        watch = NanWatch()
        output = super()._model_generate(context, max_length, stop, logits_processor=[watch], **generation_kwargs)
        if watch.seen is not None and bool(watch.seen):
            raise EvalError(nan_message(self.name))
        self.rows_used[len(context)] += 1
        if output.shape[1] >= max_length:
            for prompt, row, mask in zip(context, output, generation_kwargs["attention_mask"], strict=True):
                answer = row[context.shape[1] :]
                text = self.tokenizer.decode(answer)
                if not any(mark in text for mark in stop):
                    self._endless.add(tuple(prompt[mask.bool()].tolist()))
        return output

    # Batch sizes.

    def _batch_scheduler(self, pos: int, n_reordered_requests: Any) -> int:
        _, context, continuation = n_reordered_requests[pos]
        return self.rows_that_fit(min(len(context) + len(continuation) - 1, self.max_length))

    def rows_that_fit(self, tokens: int) -> int:
        """A power of two, so that a little more or less of free memory gives the same batches, and so the same bits."""
        config = self.config.get_text_config()
        item = next(self.model.parameters()).element_size()
        per_token = config.vocab_size * (item + 8)  # logits, and their float32 log-softmax
        per_token += config.hidden_size * config.num_hidden_layers * 4 * item  # keys, values and passing activations
        rows = int(self._free_bytes // max(1, tokens * per_token))
        return min(MOST_ROWS, 1 << max(0, rows.bit_length() - 1))


class _FixedBatch:
    """While lm-eval's loops run that would look for a batch size by trying: the one that fits texts of a length."""

    def __init__(self, model: LocalModel, tokens: int) -> None:
        self.model, self.tokens, self.asked = model, tokens, model.batch_size_per_gpu

    def __enter__(self) -> None:
        if self.asked == AUTO:
            self.model.batch_size_per_gpu = self.model.rows_that_fit(self.tokens)

    def __exit__(self, *error: Any) -> None:
        self.model.batch_size_per_gpu = self.asked


class NanWatch:
    """A logits processor that changes nothing and remembers, on the device, whether a NaN went by."""

    seen: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        nan = scores.isnan().any()
        self.seen = nan if self.seen is None else self.seen | nan
        return scores


def nan_message(name: str) -> str:
    return f"{name}: its logits are NaN; it cannot be scored. Did its training diverge, or is the dtype too narrow?"


def free_memory(device: torch.device) -> float:
    """Bytes that batches may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * MEMORY_SHARE["cuda"]
    return psutil.virtual_memory().available * MEMORY_SHARE["cpu"]
