"""A model behind an endpoint by URL: what it says of itself, and the requests to it. Nothing here imports lm-eval."""

import json
import os
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from data_recipes.errors import first_line
from eval.errors import EvalError

KEY_VARIABLE = "OPENAI_API_KEY"
TRIES = 5
SECONDS = 600  # that an answer may take
TRY_AGAIN = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class ServedModel:
    """`url` ends in /v1. `max_length` in tokens, as the server says, else as the tokenizer does."""

    url: str
    tokenizer: Any
    max_length: int
    provenance: dict[str, Any]


def find_served(name: str, url: str, tokenizer: str | None, *, trust_remote_code: bool = False) -> ServedModel:
    """Ask an endpoint for the model `name`. `EvalError` where there is no such endpoint, model or tokenizer."""
    from transformers import AutoTokenizer

    url = base_url(url)
    listed = {entry["id"]: entry for entry in fetch_json(f"{url}/models").get("data", []) if "id" in entry}
    if name not in listed:
        raise EvalError(f"{url}: serves no model '{name}', but {', '.join(sorted(listed)) or 'none'}.")
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer or name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise EvalError(
            f"{tokenizer or name}: no tokenizer to be loaded ({first_line(error)}). Prompts are sent as tokens: give "
            "the served model's folder or Hub id with --tokenizer."
        ) from error
    context = listed[name].get("max_model_len") or listed[name].get("context_length") or loaded.model_max_length
    if context > 10**7:  # the tokenizers' word for "unknown"
        raise EvalError(f"{url}: neither the endpoint nor the tokenizer says how long the model's context is.")
    provenance = {
        "name": name,
        "model_type": None,
        "fingerprint": None,
        "revision": None,
        "parameters": None,
        "dtype": "as served",
        "device": "endpoint",
    }
    return ServedModel(url, loaded, int(context), provenance)


def base_url(url: str) -> str:
    """http://host:port/v1 of whatever of it was given; `EvalError` for anything but http and https."""
    parts = urlparse(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise EvalError(f"endpoint '{url}': expected an address such as http://localhost:8000/v1.")
    if "@" in parts.netloc or parts.query:
        raise EvalError(f"endpoint: keys are read from the variable {KEY_VARIABLE} and do not belong into the address.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/completions') or '/v1'}"


def fetch_json(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON answer to a GET, or to a POST of `body`. Busy and broken servers are asked again a few times."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    for attempt in range(TRIES):
        try:
            with urlopen(Request(url, data=data, headers=headers), timeout=SECONDS) as answer:
                return json.loads(answer.read())
        except HTTPError as error:
            said = error.read()[:300].decode(errors="replace")
            problem = f"{url}: answered {error.code} ({' '.join(said.split()) or error.reason})"
            if error.code not in TRY_AGAIN:
                break
        except (URLError, HTTPException, OSError, ValueError) as error:
            problem = f"{url}: no answer ({first_line(error)})"
        if attempt + 1 < TRIES:
            time.sleep(min(8.0, 0.25 * 2**attempt))
    raise EvalError(f"{problem}. Is the server running, with the OpenAI protocol? What is scored so far is kept.")
