"""Runs of benchmarks: several processes, kills, two at once, other models, an endpoint in place of a model."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from test_eval_command import call

from data_recipes.endpoint.client import EndpointDown
from data_recipes.errors import DataError
from eval import suites
from eval.errors import EvalError
from eval.harness.benchmark import all_benchmarks
from eval.harness.scoring import BenchmarkTask
from eval.model_loading import load_model
from eval.suites import run_suite

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "tests" / "data" / "benchmarks"
BOTH = ["arc-easy", "gsm8k-7shot-cot"]


def likelihoods(out, name="arc-easy"):
    log = [json.loads(line) for line in (out / f"samples-{name}.jsonl").read_text().splitlines()]
    return [nats for record in log for ((nats, _),) in record["responses"]], [record["doc_id"] for record in log]


@pytest.fixture
def short_answers(monkeypatch):
    """GSM8K with answers of 12 tokens: what is tested here is not how long they are."""
    name = "gsm8k-7shot-cot"
    entry = all_benchmarks()[name]
    short = {"generation": {"max_gen_toks": 12, "do_sample": False}}
    monkeypatch.setitem(all_benchmarks(), name, entry.model_copy(update=short))


def start(arguments, **environment):
    command = [sys.executable, "-m", "yulanmini.cli", "eval", "run", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(roomy_model, corpus, tmp_path):
    """Own tasks on the first, the documents of a benchmark shared out."""
    data = tmp_path / "data"
    shutil.copytree(FIXTURES, data)
    shutil.copytree(corpus / "heldout", data / "heldout")
    names = ["--suite", "arc-easy,heldout,gsm8k-7shot-cot", "--set", "bytes_per_domain=300", "--device", "cpu"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        start(
            [roomy_model, "--data", data, "--out", tmp_path / "two", "--json", *names],
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            ACCELERATE_USE_CPU="true",
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    two = json.loads(outputs[0][0])
    assert outputs[1][0] == ""
    assert two["provenance"]["machine"]["processes"] == 2
    one = run_suite(
        roomy_model,
        data=data,
        suite=["arc-easy", "heldout", "gsm8k-7shot-cot"],
        settings={"bytes_per_domain": 300},
        out=tmp_path / "one",
    )
    for log in ("arc-easy", "gsm8k-7shot-cot"):
        counts = [
            [len(answers) for line in (tmp_path / run / f"samples-{log}.jsonl").read_text().splitlines()
             for answers in json.loads(line)["responses"]]
            for run in ("one", "two")
        ]  # fmt: skip
        assert counts[0] == counts[1]
    assert [row | {"value": None} for row in two["rows"]] == [row | {"value": None} for row in one["rows"]]
    for ours, theirs in zip(two["rows"], one["rows"], strict=True):
        assert ours["value"] == pytest.approx(theirs["value"], rel=1e-6)
    (a, order), (b, same) = likelihoods(tmp_path / "two"), likelihoods(tmp_path / "one")
    assert a == pytest.approx(b, abs=1e-4)
    assert order == same
    for key in ("documents", "prompts"):
        details = [run["provenance"]["benchmarks"]["gsm8k-7shot-cot"][key] for run in (two, one)]
        assert details[0] == details[1]


def test_after_a_kill_in_the_middle_of_a_benchmark_the_same_command_goes_on(
    roomy_model, short_answers, tmp_path, monkeypatch
):
    out = tmp_path / "scores"
    run = {"data": FIXTURES, "suite": BOTH, "settings": {"limit": 2}}
    real = BenchmarkTask.score

    def hang(self, loaded, inputs, *, progress=False):
        return real(self, loaded, inputs, progress=progress) if self.name == "arc-easy" else time.sleep(60)

    child = os.fork()
    if child == 0:
        BenchmarkTask.score = hang
        run_suite(roomy_model, out=out, **run)
        os._exit(0)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (out / "scores.json").is_file():
        time.sleep(0.05)
    kept = json.loads((out / "scores.json").read_text())
    assert kept["missing"] == ["gsm8k-7shot-cot"]
    with pytest.raises(DataError, match="another process is scoring into it"):
        run_suite(roomy_model, out=out, **run)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    scored = []

    def noted(self, *args, **settings):
        scored.append(self.name)
        return real(self, *args, **settings)

    monkeypatch.setattr(BenchmarkTask, "score", noted)
    resumed = run_suite(roomy_model, out=out, **run)
    assert scored == ["gsm8k-7shot-cot"]
    whole = run_suite(roomy_model, **run)
    assert resumed["rows"] == whole["rows"]
    assert resumed["samples"] == whole["samples"]
    assert resumed["missing"] == []


def test_a_folder_of_another_run_is_refused(roomy_model, tmp_path):
    out = tmp_path / "scores"
    run_suite(roomy_model, data=FIXTURES, suite="arc-easy", settings={"limit": 1}, out=out)
    kept = (out / "scores.json").read_bytes()
    others = [
        ({"settings": {"limit": 2}}, r"benchmarks\.arc-easy\.limit: was 1, is 2"),
        ({"suite": BOTH}, "made from something else"),
        ({"dtype": "bfloat16"}, "dtype: was 'float32', is 'bfloat16'"),
    ]
    other = shutil.copytree(roomy_model, tmp_path / "other")
    (other / "generation_config.json").write_text('{"eos_token_id": 3}')
    for change, message in others:
        run = {"data": FIXTURES, "suite": "arc-easy", "settings": {"limit": 1}, "out": out}
        with pytest.raises(DataError, match=message):
            run_suite(roomy_model, **run | change)
    with pytest.raises(DataError, match="model: was"):
        run_suite(other, **run)
    assert (out / "scores.json").read_bytes() == kept


def test_missing_data_names_the_command_that_fetches_it(roomy_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites, "load_model", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    assert call(monkeypatch, "run", roomy_model, "--suite", "arc-easy", "--data", tmp_path) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'allenai/ai2_arc'}: no such data set" in error
    assert "yulanmini eval fetch" in error
    monkeypatch.undo()
    assert call(monkeypatch, "run", roomy_model, "--suite", "arc-easy") == 2
    error = capsys.readouterr().err
    assert "yulanmini eval fetch arc-easy --out DIR" in error
    assert "Traceback" not in error


class Completions(BaseHTTPRequestHandler):
    """Answers as vLLM does: /v1/models, and /v1/completions with `echo` and `logprobs` or greedy answers."""

    loaded = None
    broken = 0
    keys: list = []  # noqa: RUF012
    bodies: list = []  # noqa: RUF012
    no_echo = False

    def do_GET(self):
        self.send({"data": [{"id": "served", "max_model_len": self.loaded.max_length}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).keys.append(self.headers.get("Authorization"))
        type(self).bodies.append(body)
        if type(self).broken > 0:
            type(self).broken -= 1
            self.send({"error": "busy"}, 503)
            return
        self.send({"choices": [self.choice(index, ids, body) for index, ids in enumerate(body["prompt"])][::-1]})

    @torch.no_grad()
    def choice(self, index, ids, body):
        tokenizer, model = self.loaded.tokenizer, self.loaded.model
        if not body.get("echo"):
            made = model.generate(torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False)[
                0, len(ids) :
            ]
            text, reason = tokenizer.decode(made, skip_special_tokens=True), "length"
            if int(made[-1]) == tokenizer.eos_token_id:
                reason = "stop"
            for mark in body["stop"]:
                if mark in text:
                    text, reason = text.split(mark)[0], "stop"
            return {"index": index, "text": text, "finish_reason": reason}
        if self.no_echo:
            return {"index": index, "text": "", "logprobs": None}
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        values = [None] + [logprobs[at, token].item() for at, token in enumerate(ids[1:])] + [-1.0]
        top = [None] + [{"best": row.max().item()} for row in logprobs]
        return {"index": index, "text": "", "logprobs": {"token_logprobs": values, "top_logprobs": top}}

    def send(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@contextmanager
def served(model_folder):
    Completions.loaded, Completions.broken, Completions.keys = load_model(model_folder, device="cpu"), 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Completions)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def test_an_endpoint_scores_as_the_model_behind_it(roomy_model, short_answers, tmp_path, monkeypatch):
    run = {"data": FIXTURES, "suite": BOTH, "settings": {"limit": 3, "batch_size": 4}}
    local = run_suite(roomy_model, out=tmp_path / "local", **run)
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    with served(roomy_model) as url:
        Completions.broken = 2
        remote = run_suite("served", endpoint=url, tokenizer=str(roomy_model), out=tmp_path / "remote", **run)
    assert remote["rows"] == local["rows"]
    (a, _), (b, _) = likelihoods(tmp_path / "local"), likelihoods(tmp_path / "remote")
    assert a == pytest.approx(b, abs=1e-4)
    log = [(tmp_path / name / "samples-gsm8k-7shot-cot.jsonl").read_text() for name in ("local", "remote")]
    assert log[0] == log[1]
    assert set(Completions.keys) == {"Bearer secret-key"}
    assert "secret-key" not in "".join(path.read_text() for path in (tmp_path / "remote").iterdir())


def test_an_endpoint_draws_each_answer_from_a_seed_of_its_own(roomy_model, tmp_path, monkeypatch):
    name = "humaneval-0shot"
    short = {"generation": {"max_gen_toks": 4, "do_sample": True, "temperature": 0.1}, "samples": 10}
    monkeypatch.setitem(all_benchmarks(), name, all_benchmarks()[name].model_copy(update=short))
    Completions.bodies.clear()
    with served(roomy_model) as url:
        settings = {"limit": 1, "batch_size": 4}
        run_suite("served", endpoint=url, tokenizer=str(roomy_model), data=FIXTURES, suite=name, settings=settings)
    asked = [body for body in Completions.bodies if body.get("temperature") == 0.1]
    assert [len(body["prompt"]) for body in asked] == [1] * 10
    assert len({body["seed"] for body in asked}) == 10


def test_what_an_endpoint_cannot_do_is_said(roomy_model, corpus, monkeypatch):
    monkeypatch.setattr("eval.harness.endpoint.PATIENCE", 0.5)
    run = {"data": FIXTURES, "suite": "arc-easy", "settings": {"limit": 1}, "tokenizer": str(roomy_model)}
    with served(roomy_model) as url:
        with pytest.raises(DataError, match=r"serves no model 'other'\. Known: served"):
            run_suite("other", endpoint=url, **run)
        with pytest.raises(EvalError, match="needs the model itself"):
            run_suite("served", endpoint=url, **run | {"suite": "heldout", "data": corpus, "settings": {}})
        with pytest.raises(EvalError, match="no tokenizer to be loaded"):
            run_suite("served", endpoint=url, **run | {"tokenizer": None})
        monkeypatch.setattr(Completions, "no_echo", True)
        with pytest.raises(EvalError, match="no log-probabilities of the prompt"):
            run_suite("served", endpoint=url, **run)
        Completions.broken = 100
        with pytest.raises(EndpointDown, match="answers 503"):
            run_suite("served", endpoint=url, **run)
    with pytest.raises(EndpointDown, match="accepts no connection"):
        run_suite("served", endpoint=url, **run)
