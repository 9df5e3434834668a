"""Preference pairs from a config: answers that the data carry and answers that a model gives, kept over a stop."""

import json

import pytest
from endpoint_server import last, serve_answers
from real_dialogues import docs, sums, write_lines, write_mixture

from data_recipes.errors import DataError
from data_recipes.instruct import make_pairs
from data_recipes.instruct.config import load_instruct_config
from data_recipes.instruct.run import instruct
from train.tuning.pairs import parse_pair
from train.tuning.prompts import parse_prompt


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def solve(body):
    """Right for every second draw of a problem, always right for the first, always wrong for the last."""
    number = int(last(body).split()[3])
    draw = body["seed"]
    right = draw % 2 == 0 or number == 3
    return f"So it is \\boxed{{{number * 8 if right and number < 20 else 1}}}, by way {draw}."


@pytest.fixture
def rewards(monkeypatch):
    """A reward model that likes long answers, in place of a real one (test_rewards.py has that)."""

    class LikesLength:
        fingerprint = "length"

        def __init__(self, *_):
            pass

        def rewards(self, conversations):
            return [float(len(one[-1]["content"])) for one in conversations]

    monkeypatch.setattr(make_pairs, "find_reward_model", lambda *_: LikesLength())
    monkeypatch.setattr(make_pairs, "RewardModel", LikesLength)


def write_pairs_config(folder, **changes):
    rows = [
        {"q": one["messages"][0]["content"], "good": one["messages"][1]["content"], "bad": "It does something."}
        for one in docs()[:6]
    ]
    write_lines(folder / "preferences.jsonl", rows)
    write_lines(folder / "problems.jsonl", [{"q": one["problem"], "gold": one["gold"]} for one in sums(18)])
    pairs = {
        "sources": {
            "preferences": {
                "path": "preferences.jsonl",
                "columns": {"prompt": "q", "chosen": "bad", "rejected": "good"},
            },
            "problems": {"path": "problems.jsonl", "columns": {"prompt": "q", "answer": "gold"}},
        },
        "model": "served",
        "samples": 4,
        "reward": "a reward model",
        "hard_prompts": 5,
        **changes,
    }
    return write_mixture(folder, None, plants=False, steps=[], pairs=pairs)


def test_pairs_are_made_on_and_off_policy_and_a_stop_costs_no_answer(tmp_path, rewards, monkeypatch):
    monkeypatch.setattr(make_pairs, "CHUNK", 8)
    config = write_pairs_config(tmp_path)
    with serve_answers(solve) as server:
        server.breaks("403", after=40)
        checked = load_instruct_config(config, endpoint=server.url)
        with pytest.raises(DataError, match="kept"):
            instruct(checked, tmp_path / "out")
        kept = len((tmp_path / "out/work/pairs/answers.jsonl").read_bytes().splitlines())
        assert 8 <= kept <= 40
        server.faults.clear()
        server.answered.clear()
        instruct(checked, tmp_path / "out")
        # Each question once, however many of the first run's were still under way when it ended.
        assert len(set(map(json.dumps, server.answered))) == 18 * 4 - kept
        instruct(checked, tmp_path / "again")
    pairs = lines(tmp_path / "out/pairs.jsonl")
    assert pairs == lines(tmp_path / "again/pairs.jsonl")
    off = [pair for pair in pairs if pair["policy"] == "off-policy"]
    on = [pair for pair in pairs if pair["policy"] == "on-policy"]
    # The reward model has the last word, not the labels of the data, which stand the wrong way round here.
    assert [pair["chosen"][0]["content"] for pair in off] == [one["messages"][1]["content"] for one in docs()[:6]]
    assert {pair["rejected"][0]["content"] for pair in off} == {"It does something."}
    for pair in on:
        number = int(pair["prompt"][0]["content"].split()[3])
        assert f"boxed{{{number * 8}}}" in pair["chosen"][0]["content"]
        assert "boxed{1}" in pair["rejected"][0]["content"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())["pairs"]
    assert summary["by_policy"] == {
        "off-policy": {"prompts": 6, "pairs": 6, "by reward": 6},
        "on-policy": {
            "prompts": 18,
            "pairs": 16,
            "by verified answers": 16,
            "all answers right": 1,
            "all answers wrong": 1,
        },
    }
    assert (summary["pairs"], summary["hard_prompts"]) == (22, 5)
    for number, line in enumerate((tmp_path / "out/pairs.jsonl").read_bytes().splitlines()):
        prompt, chosen, rejected = parse_pair(line, where=f"line {number}")  # as `train dpo` reads it
        assert (prompt, [chosen], [rejected]) == tuple(pairs[number][key] for key in ("prompt", "chosen", "rejected"))
    hard = lines(tmp_path / "out/prompts.jsonl")
    assert [line["hardness"] for line in hard] == sorted((line["hardness"] for line in hard), reverse=True)
    for line in (tmp_path / "out/prompts.jsonl").read_bytes().splitlines():
        messages, columns = parse_prompt(line, "here", [])  # as `train on-policy` reads it
        assert messages == columns["prompt"]


def test_questions_of_kept_dialogues_are_answered_by_a_model_of_this_process(tmp_path, rewards):
    config = write_pairs_config(tmp_path, sources={}, dialogues=10, model="base")

    class Here:
        fingerprint = "mine"

        def answers(self, prompts, *, seed):
            return [["short", f"a longer answer to {prompt[-1]['content']}"] for prompt in prompts]

    found = []

    def responder(settings):
        found.append(settings.model)
        return Here()

    checked = load_instruct_config(config)
    instruct(checked, tmp_path / "out", responder=responder)
    pairs = lines(tmp_path / "out/pairs.jsonl")
    questions = {line["messages"][0]["content"] for line in lines(tmp_path / "out/train.jsonl")}
    assert found == [str(tmp_path / "base")]
    assert len(pairs) == 10 - wrong(tmp_path)
    assert all(pair["prompt"][0]["content"] in questions for pair in pairs)
    with pytest.raises(DataError, match="nothing here runs it"):
        instruct(checked, tmp_path / "other")


def wrong(tmp_path):
    """Prompts with a right answer that neither of the two answers gives."""
    counts = json.loads((tmp_path / "out/summary.json").read_text())["pairs"]["by_policy"]["on-policy"]
    assert counts["prompts"] == 10
    return counts.get("all answers wrong", 0)


def test_a_model_without_a_server_is_refused(tmp_path, rewards):
    with pytest.raises(DataError, match="there is no server to ask"):
        instruct(load_instruct_config(write_pairs_config(tmp_path)), tmp_path / "out")


def test_pairs_that_nothing_can_decide_are_an_error_and_the_dialogues_stay(tmp_path):
    config = write_pairs_config(tmp_path, sources={}, dialogues=4, model="base", reward=None)
    rows = [{key: value for key, value in one.items() if key != "gold"} for one in sums()]
    write_lines(tmp_path / "sums.jsonl", rows)
    values = config.read_text().replace("answer: gold", "").replace("      answer: gold\n", "")
    config.write_text(values)

    class Here:
        fingerprint = "mine"

        def answers(self, prompts, *, seed):
            return [["one", "two"] for _ in prompts]

    with pytest.raises(DataError, match=r"on-policy: prompts 4, nothing to decide by 4.*The dialogues are kept"):
        instruct(load_instruct_config(config), tmp_path / "out", responder=lambda settings: Here())
    assert len(lines(tmp_path / "out/train.jsonl")) > 60
