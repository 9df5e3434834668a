"""A loaded model as lm-eval asks it.

lm-eval's own class sorts by length, batches and adds up. What is changed: log-probabilities are taken in float32, batch
sizes come from the memory that is free, NaN is refused, and what `questions.py` says.
"""

from collections import Counter
from typing import Any

import psutil
import torch
from lm_eval.models.huggingface import HFLM

from eval.errors import EvalError
from eval.harness.questions import AUTO, Questions, nan_message
from eval.harness.seeded_sampling import SeededSampling, row_seed
from eval.model_loading import LoadedModel
from train.launch.world import World

MOST_ROWS = 64
# Settings of generation with which a draw is one from the softmax at a temperature, and so ours; with others
# (`top_p`, ...) transformers draws, and an answer depends on its batch.
PLAIN_SAMPLING = {"do_sample", "temperature", "attention_mask"}
# Of the memory that is free once the model is loaded; the rest is for activations and for others.
MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.7}


class LocalModel(Questions, HFLM):
    """A loaded model; with several ranks, each asks its share of the documents."""

    def __init__(
        self, loaded: LoadedModel, world: World, *, start_ids: list[int], batch_size: int | str, progress: bool
    ) -> None:
        HFLM.__init__(
            self,
            pretrained=loaded.model,
            tokenizer=loaded.tokenizer,
            backend="causal",
            batch_size=batch_size,
            max_length=loaded.max_length,
            softmax_dtype="float32",
        )
        self.begin(loaded.provenance["name"], loaded.tokenizer, start_ids, progress=progress)
        self._endless: set[tuple[int, ...]] = set()
        self._drawn: Counter[tuple[int, ...]] = Counter()
        self._free_bytes = free_memory(loaded.device)
        if world.size > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator(cpu=world.device.type == "cpu")
            self._rank, self._world_size = world.rank, world.size

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """lm-eval compares counts so as to pad the smaller shares, which answers some questions twice; every rank has a
        whole model here, and no need of that."""
        return tensor.expand(self.world_size) if self.world_size > 1 else tensor

    def work_alone(self) -> None:
        """Take all documents, where there are fewer of them than ranks."""
        self._rank, self._world_size = 0, 1

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

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        with _FixedBatch(self, self.max_length):
            return super().loglikelihood_rolling(requests, disable_tqdm=not self.progress)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        prompts = self.prompts_of(requests)
        self._endless.clear()
        self._drawn.clear()
        with _FixedBatch(self, max(len(ids) + limit for ids, limit in prompts)):
            answers = super().generate_until(requests, disable_tqdm=not self.progress)
        for request, (ids, _) in zip(requests, prompts, strict=True):
            if ids in self._endless:
                self.unfinished.add((request.task_name, request.doc_id))
        return answers

    # What it asks of the model.

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits [rows, tokens, vocabulary]; a batch that does not fit after all is halved."""
        try:
            logits = super()._model_call(inps)
        except torch.OutOfMemoryError:
            if len(inps) == 1:
                raise EvalError(memory_message(self.name, inps)) from None
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
        processors: list[Any] = [watch]
        if generation_kwargs.get("do_sample") and not generation_kwargs.keys() - PLAIN_SAMPLING:
            temperature = generation_kwargs.pop("temperature", 1.0)
            seeds = self._row_seeds(context, generation_kwargs["attention_mask"])
            processors.append(SeededSampling(seeds, temperature))
            generation_kwargs["do_sample"] = False
        try:
            output = super()._model_generate(
                context, max_length, stop, logits_processor=processors, **generation_kwargs
            )
        except torch.OutOfMemoryError:
            raise EvalError(memory_message(self.name, context)) from None
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

    def _row_seeds(self, context: torch.Tensor, mask: torch.Tensor) -> list[int]:
        """A seed a row, from its prompt and how often that was asked before: the first answer, the second, ..."""
        seeds = []
        for row, kept in zip(context.cpu(), mask.cpu(), strict=True):
            prompt = tuple(row[kept.bool()].tolist())
            seeds.append(row_seed(torch.initial_seed(), prompt, self._drawn[prompt]))
            self._drawn[prompt] += 1
        return seeds

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


def memory_message(name: str, ids: torch.Tensor) -> str:
    rows, tokens = ids.shape
    return (
        f"{name}: no memory for {rows} rows of {tokens} tokens. Give a smaller --set batch_size=N, or free the device; "
        "what is scored so far is kept, but another batch size needs another --out."
    )


def free_memory(device: torch.device) -> float:
    """Bytes that batches may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * MEMORY_SHARE["cuda"]
    return psutil.virtual_memory().available * MEMORY_SHARE["cpu"]
