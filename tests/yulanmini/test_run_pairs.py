"""What the miniature's preferences come from: training problems alone, each pair a right answer before a wrong one."""

import json
from pathlib import Path

import pytest

from eval.tasks.problems import judged
from yulanmini.reproduce.pairs import write_pairs
from yulanmini.run_layout import CORPUS, PAIRS, PAIRS_FILE, PROMPTS_FILE, SFT


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def drawn(smoke_run: Path) -> Path:
    return smoke_run / PAIRS


def test_each_pair_prefers_a_right_answer_to_a_wrong_one_of_a_training_problem(drawn: Path, smoke_run: Path) -> None:
    known, unseen = (
        {line["messages"][-2]["content"]: line for line in lines(smoke_run / CORPUS / "dialogues" / f"{name}.jsonl")}
        for name in ("train", "heldout")
    )
    pairs = lines(drawn / PAIRS_FILE)
    assert pairs
    for pair in pairs:
        question = pair["prompt"][-1]["content"]
        assert question not in unseen
        chosen, rejected = (pair[side][0]["content"] for side in ("chosen", "rejected"))
        assert judged([chosen, rejected], [known[question]] * 2) == [True, False]
        if pair["policy"] == "off-policy":
            assert chosen == known[question]["messages"][-1]["content"]
    counts = json.loads((drawn / "manifest.json").read_text())["counts"]
    assert counts["pairs"] == len(pairs)
    for policy, counted in counts["by_policy"].items():
        assert counted["pairs"] == sum(pair["policy"] == policy for pair in pairs)


def test_prompts_of_the_on_policy_stage_are_those_that_are_not_always_answered_right(drawn: Path) -> None:
    prompts = lines(drawn / PROMPTS_FILE)
    samples = json.loads((drawn / "manifest.json").read_text())["config"]["samples"]
    rights = [prompt["right"] for prompt in prompts]
    assert max(rights) < samples
    assert rights == sorted(rights)  # hardest first
    assert min(rights) > 0 or max(rights) == 0  # the hopeless only where there is nothing else
    assert all(prompt["answer"] and prompt["prompt"][-1]["role"] == "user" for prompt in prompts)


def test_the_same_seed_draws_the_same_pairs(smoke_run: Path, tmp_path: Path) -> None:
    for seed, name in ((0, "one"), (0, "again"), (1, "other")):
        (tmp_path / name).mkdir()
        write_pairs(
            smoke_run / CORPUS / "dialogues" / "train.jsonl",
            smoke_run / SFT,
            tmp_path / name,
            per_kind={1: 3},
            samples=2,
            seed=seed,
        )
    one, again, other = ((tmp_path / name / PAIRS_FILE).read_bytes() for name in ("one", "again", "other"))
    assert one == again
    assert one != other
