"""Answers from a vLLM server that holds the weights in training: LoRA adapters, saved and loaded anew for each step.

vLLM pins other versions of torch and transformers than ours, so it is no part of this environment: it runs elsewhere,
reads the adapters from a folder that both see, and is spoken to by HTTP alone:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --enable-lora --max-lora-rank RANK

That it holds the right weights is not taken on trust: an adapter has a new name for each step and must be listed under
it, and the log-probabilities that come with the answers are compared with the trainer's own.
"""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.endpoint.client import Endpoint, EndpointDown, check_endpoint
from data_recipes.endpoint.request import NoAnswer
from data_recipes.errors import first_line
from train.errors import TrainError
from train.tuning.config import OnPolicyConfig


@dataclass(frozen=True)
class SampledAnswer:
    """`ids` end with the token that ended the answer, if one did; `logp`: of all of them, as the server sampled."""

    ids: list[int]
    logp: float


class ServerGeneration:
    """The server of a config. `folder`: where adapters are saved, unless the config names a place."""

    def __init__(self, config: OnPolicyConfig, *, folder: Path, stop_ids: Sequence[int], run: str) -> None:
        assert config.server is not None
        self.config, self.settings = config, config.server
        self.folder = (config.server.adapters or folder).absolute()
        self.stop_ids, self.run = list(stop_ids), run
        self.loaded: str | None = None

    def check_server(self) -> None:
        """Before the model is loaded: is the server there, does it have the model, is its context long enough?"""
        context = check_endpoint(self.settings.url, self.settings.model)
        longest = self.config.max_prompt_length + self.config.max_completion_length
        if context is not None and context < longest:
            raise TrainError(
                f"{self.settings.url}: the server's context of {context} tokens is shorter than max_prompt_length + "
                f"max_completion_length, {longest}."
            )

    def load_weights(self, trainer: Any) -> None:
        """Have the server hold the adapter as it is now; the first rank saves and loads it, all know its name."""
        name = f"{self.run}-step-{trainer.state.global_step}"
        if self.loaded == name:
            return
        if trainer.accelerator.is_main_process:
            place = self.folder / name
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(place)
            asyncio.run(self._load(name, place))
            if self.loaded is not None:
                shutil.rmtree(self.folder / self.loaded, ignore_errors=True)
        self.loaded = name

    async def _load(self, name: str, place: Path) -> None:
        async with self._endpoint() as endpoint:
            # Those of earlier steps; a run that resumes may also find this name with the weights of another try.
            for old in [held for held in await self._listed(endpoint) if held.startswith(f"{self.run}-step-")]:
                await endpoint.tell("/unload_lora_adapter", {"lora_name": old})
            try:
                await endpoint.tell("/load_lora_adapter", {"lora_name": name, "lora_path": str(place)})
            except (NoAnswer, EndpointDown) as error:
                raise TrainError(
                    f"{self.settings.url}: the server does not load the adapter {place} ({first_line(error)}). Does it "
                    "see this folder (key server.adapters), and was it started with --enable-lora --max-lora-rank "
                    f"{self.config.lora.rank if self.config.lora else 'RANK'} and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1?"
                ) from error
            if name not in await self._listed(endpoint):
                raise TrainError(f"{self.settings.url}: the server has taken the adapter {name} and does not list it.")

    async def _listed(self, endpoint: Endpoint) -> list[str]:
        """The names of what the server holds."""
        data = (await endpoint.fetch("/models")).get("data") or ()
        return [str(entry.get("id")) for entry in data if isinstance(entry, dict)]

    def generate(self, trainer: Any, prompt_ids: Sequence[list[int]]) -> list[SampledAnswer]:
        """An answer to each prompt, sampled with the adapter that is loaded."""
        step, rank = trainer.state.global_step, trainer.accelerator.process_index
        mode = int(trainer.model.training)
        seeds = [
            int(np.random.SeedSequence([self.config.seed, step, rank, mode, row]).generate_state(1)[0] >> 1)
            for row in range(len(prompt_ids))
        ]

        async def ask_all() -> list[dict[str, Any] | BaseException]:
            async with self._endpoint() as endpoint:
                requests = [self._request(ids, seed) for ids, seed in zip(prompt_ids, seeds, strict=True)]
                asked = (endpoint.fetch("/completions", request) for request in requests)
                return await asyncio.gather(*asked, return_exceptions=True)

        found = asyncio.run(ask_all())
        for error in found:
            if isinstance(error, NoAnswer):
                raise TrainError(f"the server gives no answer: {first_line(error)}.") from error
            if isinstance(error, BaseException):
                raise error
        return [self._answer(answer) for answer in found if isinstance(answer, dict)]

    def _endpoint(self) -> Endpoint:
        settings = self.settings
        return Endpoint(
            settings.url, concurrency=settings.concurrency, timeout=settings.timeout, patience=settings.patience
        )

    def _request(self, ids: list[int], seed: int) -> dict[str, Any]:
        return {
            "model": self.loaded,
            "prompt": ids,
            "max_tokens": self.config.max_completion_length,
            "temperature": self.config.temperature,
            "top_p": 1.0,
            "seed": seed,
            "stop_token_ids": self.stop_ids,
            "logprobs": 0,
            "return_token_ids": True,
        }

    def _answer(self, found: dict[str, Any]) -> SampledAnswer:
        choice = (found.get("choices") or [{}])[0]
        ids, logps = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not isinstance(ids, list) or not isinstance(logps, list) or not ids or len(ids) != len(logps):
            raise TrainError(
                f"{self.settings.url}: the server gives no token ids with a log-probability each; expected vLLM's "
                "'token_ids' and 'logprobs.token_logprobs' (0.10.2 or newer)."
            )
        if not all(isinstance(value, float | int) and isfinite(value) for value in logps):
            raise TrainError(f"{self.settings.url}: the server's log-probabilities are no finite numbers.")
        if choice.get("finish_reason") == "stop" and ids[-1] not in self.stop_ids:
            raise TrainError(f"{self.settings.url}: an answer ended by itself and has no token that ends a turn.")
        return SampledAnswer(ids, float(sum(logps)))

    def check(self, difference: float) -> None:
        """TrainError where the server's log-probabilities are not those of the weights in training."""
        if difference > self.settings.largest_difference:
            raise TrainError(
                f"{self.settings.url}: the server's log-probabilities differ from the trainer's by {difference:.3f} "
                f"nats a token (server.largest_difference is {self.settings.largest_difference:g}): it does not hold "
                "the weights in training, or computes them otherwise."
            )
