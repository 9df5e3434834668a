"""What benchmarks score, against what it must be: plain transformers, closed forms, another form of the same model."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from eval import suites
from eval.errors import EvalError
from eval.harness.scoring import BenchmarkTask
from eval.model_loading import load_model
from eval.suites import make_tasks, run_suite
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.merge import merge

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "benchmarks"


def changed(name, changes, **settings) -> BenchmarkTask:
    """A benchmark with some of its entry's settings changed."""
    (task,) = make_tasks(name, settings)
    return task.model_copy(update={"benchmark": task.benchmark.model_copy(update=changes)})


def plain_arc(**settings) -> BenchmarkTask:
    """lm-eval's own ARC-easy: each question with each answer, and no more."""
    return changed("arc-easy", {"task": "arc_easy", "folder": "arc", "metric": ["acc", "acc_norm"]}, **settings)


@pytest.fixture
def roomy(roomy_model):
    return load_model(roomy_model, device="cpu")


def nats_by_hand(loaded, context, continuation):
    """With transformers alone: the log-likelihood of a continuation, token by token."""
    ids = loaded.tokenizer(context + continuation).input_ids
    before = len(loaded.tokenizer(context).input_ids)
    with torch.no_grad():
        logprobs = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(logprobs[at - 1, ids[at]].item() for at in range(before, len(ids)))


def test_log_likelihoods_are_those_of_plain_transformers(roomy):
    log = plain_arc().score(roomy, FIXTURES).log
    assert sum(len(record["choices"]) for record in log) == sum(len(record["responses"]) for record in log) > 20
    for record in log:
        for choice, ((nats, _),) in zip(record["choices"], record["responses"], strict=True):
            assert nats == pytest.approx(nats_by_hand(roomy, record["prompt"], choice), abs=1e-4)


def test_a_model_and_its_merged_form_score_the_same(tokenizer_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(0)
    config = YuLanMiniConfig.reparametrized(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        hidden_states_shrink=0.6,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = YuLanMiniForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("_alpha"):
            weight.data.mul_(1.3)
        else:
            weight.data.add_(0.1 * torch.randn(weight.shape))
    model.save_pretrained(tmp_path / "unmerged")
    tokenizer.save_pretrained(tmp_path / "unmerged")
    merge(tmp_path / "unmerged", tmp_path / "merged")
    logs = []
    for name in ("unmerged", "merged"):
        logs.append(plain_arc().score(load_model(tmp_path / name, device="cpu"), FIXTURES).log)
    for one, two in zip(*logs, strict=True):
        for ((a, _),), ((b, _),) in zip(one["responses"], two["responses"], strict=True):
            assert a == pytest.approx(b, abs=1e-4)
            assert a < -1


@pytest.mark.parametrize("start", ["tokenizer", "eos", "none"])
def test_a_head_that_knows_nothing_gives_n_ln_v(roomy, start):
    roomy.model.lm_head.weight.data.zero_()
    task = plain_arc(start=start)
    vocabulary = roomy.model.config.vocab_size
    for record in task.score(roomy, FIXTURES).log:
        for choice, ((nats, _),) in zip(record["choices"], record["responses"], strict=True):
            tokens = len(roomy.tokenizer(choice, add_special_tokens=False).input_ids)
            assert nats == pytest.approx(-tokens * math.log(vocabulary), rel=1e-6)


def test_the_same_batch_size_gives_the_same_bits_and_another_the_same_scores(roomy):
    def scored(size):
        return plain_arc(batch_size=size).score(roomy, FIXTURES)

    once, again, other = scored(3), scored(3), scored(1)
    assert (once.rows, once.log) == (again.rows, again.log)
    assert other.rows == once.rows
    for one, two in zip(once.log, other.log, strict=True):
        for ((a, _),), ((b, _),) in zip(one["responses"], two["responses"], strict=True):
            assert a == pytest.approx(b, abs=1e-4)


def test_greedy_answers_are_those_of_generate_and_do_not_depend_on_the_batch(roomy):
    def answers(size):
        task = changed("gsm8k-7shot-cot", {"generation": {"max_gen_toks": 12, "do_sample": False}}, batch_size=size)
        return task.score(roomy, FIXTURES).log

    log = answers(3)
    assert [record["responses"] for record in log] == [record["responses"] for record in answers(1)]
    for record in log:
        ids = roomy.tokenizer(record["prompt"], return_tensors="pt").input_ids
        made = roomy.model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        text = roomy.tokenizer.decode(made, skip_special_tokens=True)
        for mark in ("Q:", "</s>", "<|im_end|>"):
            text = text.split(mark)[0]
        assert record["responses"] == [[text]]


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_batch(roomy):
    generation = {"max_gen_toks": 6, "do_sample": True, "temperature": 0.8}

    def answers(size, seed=1):
        settings = {"generation": generation, "samples": 3}
        task = changed("gsm8k-7shot-cot", settings, batch_size=size, seed=seed, limit=2)
        return [record["responses"] for record in task.score(roomy, FIXTURES).log]

    once = answers(6)
    assert once == answers(6) == answers(1)
    assert once != answers(6, seed=2)
    assert all(len(set(texts)) > 1 for ((*texts,),) in once)


def test_answers_that_never_stop_are_bounded_counted_and_said(roomy):
    letter = roomy.tokenizer("a", add_special_tokens=False).input_ids[0]
    settings = {"generation": {"max_gen_toks": 5, "do_sample": False}}
    for token, share in ((letter, 1), (roomy.tokenizer.eos_token_id, 0)):

        def always(module, inputs, logits, token=token):
            return torch.nn.functional.one_hot(torch.full(logits.shape[:-1], token), logits.shape[-1]).float()

        hook = roomy.model.lm_head.register_forward_hook(always)
        result = changed("gsm8k-7shot-cot", settings).score(roomy, FIXTURES)
        hook.remove()
        assert result.rows[0]["unfinished"] == share * result.rows[0]["count"]
        assert {record["unfinished"] for record in result.log} == {share == 1}
        assert bool(result.notes) == (share == 1)


def test_prompts_that_have_no_room_are_counted_and_said(loaded):
    settings = {"generation": {"max_gen_toks": 20}, "minimum_context": 1}
    result = changed("gsm8k-7shot-cot", settings).score(loaded, FIXTURES)
    count = result.rows[0]["count"]
    assert result.rows[0]["cut"] == count
    assert f"{count} of {count} prompts are longer than the model's context" in result.notes[0]
    for record in result.log:
        ids = loaded.tokenizer(record["prompt"]).input_ids
        assert record["tokens_cut"] == len(ids) - (loaded.max_length - 20)
    short = changed("arc-easy", {"minimum_context": 1}).score(loaded, FIXTURES)
    assert short.rows[0]["cut"] == 0


def test_likelihoods_of_cut_prompts_are_those_of_their_ends(loaded):
    """Texts longer than the context: what is left is the end, the whole of the continuation in it."""
    task = plain_arc()
    task = task.model_copy(update={"benchmark": task.benchmark.model_copy(update={"minimum_context": 1, "shots": 2})})
    result = task.score(loaded, FIXTURES)
    cut = [record for record in result.log if record["tokens_cut"]]
    assert result.rows[0]["cut"] == len(cut)
    for record in cut:
        for choice, ((nats, _),) in zip(record["choices"], record["responses"], strict=True):
            ids = loaded.tokenizer(record["prompt"] + choice).input_ids
            size = len(ids) - len(loaded.tokenizer(record["prompt"]).input_ids)
            kept = ids[-(loaded.max_length + 1) :]
            with torch.no_grad():
                logprobs = loaded.model(torch.tensor([kept[:-1]])).logits[0].double().log_softmax(-1)
            by_hand = sum(logprobs[at - 1, kept[at]].item() for at in range(len(kept) - size, len(kept)))
            assert nats == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("name", ["arc-easy", "gsm8k-7shot-cot"])
def test_nan_is_refused_and_what_was_scored_before_is_kept(roomy_model, roomy, tmp_path, monkeypatch, name):
    other = "arc-easy" if name != "arc-easy" else "gsm8k-7shot-cot"
    settings = {"limit": 1}

    real = BenchmarkTask.score

    def score(self, loaded, inputs, *, progress=False):
        if self.name == name:
            loaded.model.lm_head.weight.data[5, 5] = math.nan
        return real(self, loaded, inputs, progress=progress)

    monkeypatch.setattr(BenchmarkTask, "score", score)
    monkeypatch.setattr(suites, "load_model", lambda *args, **kwargs: roomy)
    with pytest.raises(EvalError, match="its logits are NaN"):
        run_suite(roomy_model, data=FIXTURES, suite=[other, name], settings=settings, out=tmp_path / "scores")
    kept = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert {row["task"] for row in kept["rows"]} == {other}
    assert kept["missing"] == [name]


def test_a_model_that_does_not_fit_a_benchmark_is_refused_before_any_is_scored(
    model_folder, roomy_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(BenchmarkTask, "score", lambda *args, **kwargs: pytest.fail("scored"))
    with pytest.raises(EvalError, match="arc-easy: needs a context of 512 tokens; the model's is 160"):
        run_suite(model_folder, data=FIXTURES, suite="arc-easy")
    plain = shutil.copytree(roomy_model, tmp_path / "plain")
    for path in plain.glob("chat_template*"):
        path.unlink()
    config = json.loads((plain / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(EvalError, match="arc-easy: is asked through the chat template, and this tokenizer has none"):
        run_suite(plain, data=FIXTURES, suite="arc-easy", settings={"prompt": "chat"})


def test_a_chat_template_is_applied_once_and_recorded(roomy):
    (task,) = make_tasks("arc-easy", {"prompt": "chat", "limit": 2})
    result = task.score(roomy, FIXTURES)
    template = roomy.tokenizer.apply_chat_template(
        [{"role": "user", "content": "X"}], add_generation_prompt=True, tokenize=False
    )
    for record in result.log:
        assert record["prompt"].startswith(template.split("X")[0])
        assert record["prompt"].endswith(template.split("X")[1])
    assert result.details["template"]
    assert "chat template" in result.rows[0]["protocol"]
