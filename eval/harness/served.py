"""A model behind an endpoint by URL, and what it says of itself. Nothing here imports lm-eval."""

from dataclasses import dataclass
from typing import Any

from data_recipes.endpoint.address import base_url
from data_recipes.endpoint.client import check_endpoint
from data_recipes.errors import first_line
from eval.errors import EvalError


@dataclass(frozen=True)
class ServedModel:
    """`url` ends in /v1. `max_length` in tokens, as the server says, else as the tokenizer does."""

    url: str
    tokenizer: Any
    max_length: int
    provenance: dict[str, Any]


def find_served(name: str, url: str, tokenizer: str | None, *, trust_remote_code: bool = False) -> ServedModel:
    """Ask an endpoint for the model `name`. `DataError` where there is no such endpoint or model, `EvalError` where
    there is no tokenizer."""
    from transformers import AutoTokenizer

    context = check_endpoint(url, name)
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer or name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise EvalError(
            f"{tokenizer or name}: no tokenizer to be loaded ({first_line(error)}). Prompts are sent as tokens: give "
            "the served model's folder or Hub id with --tokenizer."
        ) from error
    context = context or loaded.model_max_length
    if context > 10**7:  # the tokenizers' word for "unknown"
        raise EvalError(
            f"{base_url(url)}: neither the endpoint nor the tokenizer says how long the model's context is."
        )
    provenance = {
        "name": name,
        "model_type": None,
        "fingerprint": None,
        "revision": None,
        "parameters": None,
        "dtype": "as served",
        "device": "endpoint",
    }
    return ServedModel(base_url(url), loaded, int(context), provenance)
