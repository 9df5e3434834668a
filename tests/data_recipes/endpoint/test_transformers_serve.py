"""The real thing: `transformers serve` with the merged miniature, asked by the openai client and by ours."""

import os
import signal
import sys

import pytest
from transformers_server import start_serving

from data_recipes.endpoint.client import ask_all, check_endpoint
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import NoAnswer, Request
from data_recipes.errors import DataError

openai = pytest.importorskip("openai")
QUESTION = ({"role": "user", "content": "What is 2 + 2?"},)
GREEDY = {"max_tokens": 6, "temperature": 0.0}


@pytest.mark.slow
def test_the_openai_client_and_ours_get_the_same_from_transformers_serve(served_miniature, tmp_path):
    url, model = served_miniature.url, served_miniature.model
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    whole = client.chat.completions.create(model=model, messages=list(QUESTION), **GREEDY)
    stream = client.chat.completions.create(model=model, messages=list(QUESTION), stream=True, **GREEDY)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert streamed == whole.choices[0].message.content != ""
    assert check_endpoint(url, model) is None  # it says nothing of the context
    with KeptAnswers(tmp_path / "answers.jsonl") as kept:
        ours, streams, refused = ask_all(
            [
                Request(model, QUESTION, GREEDY),
                Request(model, QUESTION, GREEDY | {"stream": True}),
                Request("another", QUESTION, GREEDY),
            ],
            url,
            kept=kept,
        )
        assert len(kept) == 2
    for answer in (ours, streams):
        assert answer.text == streamed
        assert answer.finish_reason == whole.choices[0].finish_reason == "length"
        assert (answer.prompt_tokens, answer.completion_tokens) == (whole.usage.prompt_tokens, 6)
    assert isinstance(refused, NoAnswer)
    with pytest.raises(DataError, match=r"requested 'another'.*serves no model 'another'"):
        check_endpoint(url, "another")


@pytest.mark.slow
def test_transformers_serve_is_started_and_stopped_as_documented(smoke_run, tmp_path):
    transformers = os.path.join(os.path.dirname(sys.executable), "transformers")
    model = smoke_run / "05-merged"
    process, url = start_serving(model, tmp_path / "log", [transformers])
    assert check_endpoint(url, str(model)) is None
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert "Application shutdown complete" in (tmp_path / "log").read_text()
    with pytest.raises(DataError, match="accepts no connection"):
        check_endpoint(url, str(model), patience=0.1)


@pytest.mark.slow
def test_transformers_serve_loads_no_unmerged_folder(smoke_run, tmp_path):
    transformers = os.path.join(os.path.dirname(sys.executable), "transformers")
    unmerged = next((smoke_run / "04-pretrain" / "models").iterdir())
    with pytest.raises(RuntimeError, match="has no attribute YuLanMiniForCausalLM"):
        start_serving(unmerged, tmp_path / "log", [transformers], "--trust-remote-code")
