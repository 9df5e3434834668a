"""Answers from a server: it holds each step's adapter, is found out where it does not, and may be down for a while.

The server is a loopback one that speaks vLLM's protocol and computes with a real model and the adapters it was given.
"""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from endpoint_server import AnswerServer, Reply, serve_answers
from on_policy_miniature import write_on_policy_config
from peft import PeftModel
from test_on_policy import metrics_of, timeless
from transformers import AutoModelForCausalLM

from data_recipes.endpoint.client import EndpointDown
from data_recipes.errors import DataError
from train.config_file import load_config
from train.errors import TrainError
from train.on_policy import run
from train.tuning.config import OnPolicyConfig


class Engine:
    """Samples as a server would, with the adapter that a request names; one request at a time, by its seed."""

    def __init__(self, base: Path) -> None:
        self.base, self.loaded, self.lock = base, {}, threading.Lock()
        self.server: AnswerServer | None = None
        self.stale = False
        self.steps: list[str] = []

    def model_of(self, name: str) -> Any:
        if self.stale and self.loaded:
            return next(iter(self.loaded.values()))
        if name not in self.loaded:
            with torch.random.fork_rng():  # the trainer in this process draws from it
                model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
                self.loaded[name] = PeftModel.from_pretrained(model, self.server.adapters[name]).eval()
            self.steps.append(name)
        return self.loaded[name]

    @torch.no_grad()
    def __call__(self, body: dict[str, Any]) -> Reply:
        with self.lock:
            model, ids, tokens = self.model_of(body["model"]), list(body["prompt"]), []
            generator = torch.Generator().manual_seed(body["seed"])
            while len(tokens) < body["max_tokens"]:
                logps = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1] / body["temperature"], -1)
                token = int(torch.multinomial(logps.exp(), 1, generator=generator))
                ids.append(token)
                tokens.append((token, logps[token].item()))
                if token in body["stop_token_ids"]:
                    return Reply("", "stop", tokens=tokens)
            return Reply("", "length", tokens=tokens)


@pytest.fixture
def served(tmp_path):
    write_on_policy_config(tmp_path)
    engine = Engine(tmp_path / "model")
    with serve_answers(engine, models={"base": 256}) as server:
        engine.server = server
        yield engine, server


def config_of(folder: Path, at: AnswerServer, **changes: Any) -> OnPolicyConfig:
    settings = {"url": at.url, "model": "base", "patience": 1.0, "largest_difference": 0.001}
    path = write_on_policy_config(
        folder,
        server=settings | changes.pop("server", {}),
        lora={"rank": 4, "alpha": 8},
        optimizer={"lr": 0.05, "warmup_ratio": 0.0, "min_lr_ratio": 1.0},
        max_completion_length=3,
        batch_size=8,
        max_steps=3,
        **changes,
    )
    return load_config(OnPolicyConfig, path)


def test_the_server_holds_each_steps_weights_and_its_log_probabilities_are_the_trainers(served, tmp_path):
    engine, server = served
    out = run(config_of(tmp_path, server))
    assert [name.rpartition("-")[2] for name in engine.steps] == ["0", "1", "2"]
    lines = metrics_of(out)
    assert all(line["server/logp_difference"] < 1e-4 for line in lines)
    assert lines[0]["kl"] == 0
    assert lines[-1]["kl"] != 0
    assert len(server.adapters) == 1  # the earlier ones are unloaded again
    assert len({body["seed"] for body in server.asked}) == len(server.asked)


def test_a_server_that_goes_on_with_older_weights_is_found_out(served, tmp_path):
    engine, server = served
    engine.stale = True
    with pytest.raises(
        TrainError, match=r"differ from the trainer's by 0\.\d+ nats a token.*does not hold the weights"
    ):
        run(config_of(tmp_path, server))


def test_a_server_that_goes_down_stops_the_run_with_its_steps_kept_and_the_same_command_goes_on(served, tmp_path):
    _, server = served
    undisturbed = run(config_of(tmp_path, server, output_dir=str(tmp_path / "undisturbed")))
    config = config_of(tmp_path, server, output_dir=str(tmp_path / "down"), checkpoint={"every_steps": 1000})
    server.breaks("503", times=10**9, after=8 * 2 + 3)
    with pytest.raises(EndpointDown, match=r"give the same command again"):
        run(config)
    assert [folder.name for folder in (tmp_path / "down.work").glob("checkpoint-*")] == ["checkpoint-2"]
    server.faults.clear()
    resumed = run(config)
    assert [line["loss"] for line in timeless(resumed)] == [line["loss"] for line in timeless(undisturbed)]
    assert (resumed / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_what_cannot_serve_is_refused_before_the_first_step(served, tmp_path):
    _, server = served
    with pytest.raises(DataError, match=r"serves no model 'bass'.*'base'"):
        run(config_of(tmp_path, server, server={"model": "bass"}))
    with (
        serve_answers(models={"base": 66}) as short,
        pytest.raises(TrainError, match="context of 66 tokens is shorter"),
    ):
        run(config_of(tmp_path, short))
    with pytest.raises(TrainError, match="server: only adapters can be given to a server"):
        load_config(OnPolicyConfig, write_on_policy_config(tmp_path, server={"url": server.url, "model": "base"}))


def test_a_server_that_loads_no_adapters_or_gives_no_ids_is_told_how_to_start(served, tmp_path, monkeypatch):
    _, server = served
    monkeypatch.setattr(Engine, "__call__", lambda self, body: Reply("text only"))
    with pytest.raises(TrainError, match=r"gives no token ids with a log-probability each.*vLLM"):
        run(config_of(tmp_path, server))
    monkeypatch.setattr(AnswerServer, "load_adapter", AnswerServer.unload_adapter)
    with (
        serve_answers(models={"base": 256}) as plain,
        pytest.raises(TrainError, match="--enable-lora --max-lora-rank 4"),
    ):
        run(config_of(tmp_path, plain, output_dir=str(tmp_path / "other")))
