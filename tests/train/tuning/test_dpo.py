"""DPO on a Llama of 30k parameters: its loss and gradients, its reference, its rows, its end and its resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from sft_miniature import pair, write_dpo_config, write_pairs_file, write_tokenizer, write_yulanmini
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from data_recipes.manifest import read_manifest, verify_files
from modeling_yulanmini.merge import merge
from train.config_file import load_config
from train.dpo import Dpo, run
from train.errors import TrainError
from train.tuning.config import DpoConfig
from train.tuning.pairs import parse_pair, write_pairs
from train.tuning.run import new_trainer, read_inputs

SCRIPT = Path(__file__).parents[3] / "train" / "dpo.py"


def tune(folder: Path, **changes) -> Path:
    return run(load_config(DpoConfig, write_dpo_config(folder, **changes)))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return tune(
        tmp_path_factory.mktemp("undisturbed"),
        epochs=4,
        checkpoint={"every_steps": 6},
        evaluation={"share": 0.1, "every_steps": 10},
    )


def test_a_run_leaves_a_whole_folder_that_answers(undisturbed):
    assert verify_files(undisturbed) == []
    manifest = read_manifest(undisturbed, kind="dpo")
    assert manifest["counts"]["pairs"] == 64
    assert manifest["counts"]["steps"] == 29
    assert pipeline("text-generation", str(undisturbed))([{"role": "user", "content": "1+1=?"}], max_new_tokens=2)


def test_the_better_answer_is_preferred_to_the_worse_after_training_and_held_out_pairs_show_it(undisturbed):
    steps, measured = lines_of(undisturbed / "metrics.jsonl"), lines_of(undisturbed / "evaluation.jsonl")
    assert steps[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert steps[0]["rewards/margins"] == 0
    assert [line["step"] for line in measured] == [0, 10, 20, 29]
    assert measured[0]["rewards/accuracies"] == 0
    assert measured[-1]["rewards/accuracies"] == 1
    assert measured[-1]["rewards/margins"] > 1 > measured[-1]["loss"]


@pytest.mark.slow
def test_kill_9_and_again_gives_the_weights_of_an_undisturbed_run(undisturbed, tmp_path):
    config = write_dpo_config(
        undisturbed.parent,
        epochs=4,
        checkpoint={"every_steps": 6},
        evaluation={"share": 0.1, "every_steps": 10},
        output_dir=str(tmp_path / "killed"),
    )
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(config)], stderr=subprocess.PIPE, start_new_session=True
    )
    work, end = tmp_path / "killed.work", time.monotonic() + 120
    while not (work / "checkpoint-12" / "seal.json").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed").exists()
    resumed = run(load_config(DpoConfig, config))
    assert (resumed / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    for name in ("metrics.jsonl", "evaluation.jsonl"):
        theirs, ours = lines_of(undisturbed / name), lines_of(resumed / name)
        assert [line | {"seconds": 0} for line in theirs] == [line | {"seconds": 0} for line in ours]


def dpo_by_hand(model, reference, batch, *, beta: float) -> torch.Tensor:
    """-log sigmoid(beta * difference of log ratios), from the definition, one sequence after the other."""

    def log_probability(of, ids, mask):
        logits = of(ids[None]).logits[0, :-1].double()
        picked = logits.log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
        return picked[mask[1:].bool()].sum()

    ratios = []
    for ids, attention, completion in zip(
        batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
    ):
        ids, completion = ids[: attention.sum()], completion[: attention.sum()]
        with torch.no_grad():
            before = log_probability(reference, ids, completion)
        ratios.append(log_probability(model, ids, completion) - before)
    chosen, rejected = torch.stack(ratios).chunk(2)
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


@pytest.mark.parametrize("reference", ["before", "each step"])
@pytest.mark.parametrize("merged", [True, False])
def test_loss_and_every_gradient_are_those_of_the_definition(tmp_path, reference, merged):
    if not merged:
        write_yulanmini(tmp_path / "model")
    config = load_config(DpoConfig, write_dpo_config(tmp_path, reference=reference, beta=0.3))
    trainer, _ = new_trainer(Dpo(config), read_inputs(Dpo(config)))
    was = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.manual_seed(3)
    with torch.no_grad():  # as after some steps
        for parameter in trainer.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    batch = next(iter(trainer.get_train_dataloader()))
    ours = trainer.compute_loss(trainer.model, dict(batch))
    ours.backward()
    found = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    expected = dpo_by_hand(trainer.model, was, batch, beta=0.3)
    expected.backward()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(expected.item() - 0.6931) > 0.01
    exact = {name: parameter.grad for name, parameter in trainer.model.named_parameters()}
    torch.testing.assert_close(found, exact, rtol=2e-4, atol=2e-6)


def test_the_unmerged_model_starts_with_the_log_probabilities_of_the_merged_one(tmp_path):
    write_yulanmini(tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    merge(tmp_path / "model", tmp_path / "merged")
    first = []
    for name in ("model", "merged"):
        out = tune(tmp_path, model=str(tmp_path / name), max_steps=1, output_dir=str(tmp_path / f"{name}-out"))
        first.append(lines_of(out / "metrics.jsonl")[0])
    for key in ("loss", "logps/chosen", "logps/rejected", "entropy"):
        assert first[0][key] == pytest.approx(first[1][key], rel=1e-5)


def test_a_reference_model_gives_what_was_computed_before_and_micro_batches_change_nothing(tmp_path):
    before = tune(tmp_path, max_steps=4, micro_batch_size=8)
    beside = tune(tmp_path, max_steps=4, micro_batch_size=2, reference="each step", output_dir=str(tmp_path / "beside"))
    for one, other in zip(lines_of(before / "metrics.jsonl"), lines_of(beside / "metrics.jsonl"), strict=True):
        for key in ("loss", "grad_norm", "rewards/margins"):
            assert other[key] == pytest.approx(one[key], rel=1e-4, abs=1e-6), key


ASKED = {"role": "user", "content": "1+1?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in "23")


@pytest.mark.parametrize(
    "form",
    [
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "1+1?", "chosen": "2", "rejected": "3"},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "score": 3},
    ],
)
def test_all_forms_of_a_pair_say_the_same(form):
    assert parse_pair(json.dumps(form).encode(), where="here") == ([ASKED], GOOD, BAD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rejected": [GOOD]}, "'chosen' and 'rejected' are the same text"),
        (
            {"chosen": [{"role": "assistant", "content": " "}]},
            "'prompt' and 'chosen': message 1 of the assistant is empty",
        ),
        ({"chosen": [ASKED]}, r"'chosen' has the roles \[user\]; expected one message of the role 'assistant'"),
        ({"rejected": []}, r"'rejected' has the roles \[\]"),
        ({"rejected": None}, r"'rejected': message 1 has no text in 'content' \(NoneType\)"),
        ({"prompt": [GOOD]}, "message 0 is of the assistant, first; expected one of the user or system"),
        ({"prompt": [ASKED, GOOD]}, "message 2 is of the assistant, after one of the assistant"),
        ({"prompt": None}, "no 'prompt', and 'chosen' is no whole conversation"),
        (
            {"prompt": None, "chosen": [ASKED, GOOD], "rejected": [{**ASKED, "content": "2+2?"}, BAD]},
            "differ before it",
        ),
    ],
)
def test_a_bad_pair_is_named_with_file_and_line(tmp_path, changes, message):
    path = tmp_path / "pairs.jsonl"
    line = {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]} | changes
    path.write_text(json.dumps(pair(0)) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(TrainError, match=rf"pairs.jsonl, line 2: .*{message}"):
        pairs_of(path, tmp_path)


def pairs_of(path: Path, folder: Path, **changes):
    from datasets import Dataset

    settings = {"tokenizer": write_tokenizer(folder / "tokenizer"), "max_length": 80, "over_long": "drop", "workers": 1}
    out = folder / "rows.arrow"
    return write_pairs(path, out, **settings | changes), Dataset.from_file(str(out))


def test_over_long_pairs_are_dropped_or_cut_and_counted(tmp_path):
    long = {"prompt": "1+1?", "chosen": "2" * 200, "rejected": "3"}
    same_when_cut = {"prompt": "1+1?", "chosen": "2" * 200, "rejected": "2" * 300}
    too_long_a_prompt = {"prompt": "1+1?" * 100, "chosen": "2", "rejected": "3"}
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (long, same_when_cut, pair(0), too_long_a_prompt)))
    summary, _ = pairs_of(path, tmp_path)
    assert {key: summary["counts"][key] for key in ("pairs", "truncated", "dropped")} == {
        "pairs": 4,
        "truncated": 0,
        "dropped": 3,
    }
    (tmp_path / "rows.json").unlink()
    summary, rows = pairs_of(path, tmp_path, over_long="cut")
    assert (summary["counts"]["truncated"], summary["counts"]["dropped"]) == (1, 2)
    assert len(rows[0]["prompt_ids"]) + len(rows[0]["chosen_ids"]) == 80
    assert summary["counts"]["tokens"] == sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows
    )


def test_pairs_are_rendered_as_the_model_is_asked(tmp_path):
    _, rows = pairs_of(write_pairs_file(tmp_path / "pairs.jsonl", 3), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    for number, row in enumerate(rows):
        prompt = pair(number)["prompt"]
        assert tokenizer.decode(row["prompt_ids"]) == tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True
        )
        assert tokenizer.decode(row["chosen_ids"]) == pair(number)["chosen"][0]["content"] + "<|eot_id|>"
        assert tokenizer.decode(row["rejected_ids"]) == pair(number)["rejected"][0]["content"] + "<|eot_id|>"


def test_lora_needs_no_second_model_and_leaves_its_adapter(tmp_path):
    out = tune(tmp_path, lora={"rank": 4, "alpha": 8}, max_steps=4, reference="each step")
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert "yulanmini train dpo" in (out / "adapter" / "README.md").read_text()
    losses = [line["loss"] for line in lines_of(out / "metrics.jsonl")]
    assert losses[0] == pytest.approx(0.693147, abs=1e-5)
    assert losses[-1] < losses[0]
