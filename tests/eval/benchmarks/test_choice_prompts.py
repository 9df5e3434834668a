"""What multiple-choice benchmarks ask and how they add up: against lm-eval's own tasks, and by hand."""

import json
import pickle
from collections import Counter
from math import exp, log
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from choice_oracle import KNOWN, FakeModel, PlantedModel, RandomModel, drawn, write_data

from eval.benchmarks.tasks.choice import by_token
from eval.benchmarks.tasks.choice.option_order import true_share
from eval.harness.benchmark import Benchmark, all_benchmarks
from eval.harness.definitions import load_tasks
from eval.harness.questions import Likelihood
from eval.harness.scoring import BenchmarkTask

SHIPPED = {  # lm-eval's task of the same prompts, and its folder
    "mmlu-letter": ("mmlu", "mmlu/default"),
    "mmlu-text": ("mmlu_continuation", "mmlu/continuation"),
    "ceval-letter": ("ceval-valid", "ceval"),
    "cmmlu-letter": ("cmmlu", "cmmlu"),
    "arc-easy": ("arc_easy", "arc"),
    "arc-challenge": ("arc_challenge", "arc"),
    "hellaswag": ("hellaswag", "hellaswag"),
    "winogrande": ("winogrande", "winogrande"),
}


def requests(name: str, benchmark: Benchmark, data: Path) -> dict[str, list[tuple[str, str]]]:
    """(context, continuation) of all that each task asks, by data set configuration."""
    asked = {}
    for task in load_tasks(name, benchmark, data=data)["tasks"].values():
        task.set_fewshot_seed(1234)
        task.build_all_requests()
        asked[task.DATASET_NAME] = [request.arguments for request in task.instances]
    return asked


@pytest.mark.parametrize("name", SHIPPED)
def test_the_prompts_are_those_of_lm_eval(name: str, tmp_path: Path) -> None:
    ours = all_benchmarks()[name]
    write_data(tmp_path, KNOWN[name].repo, 2)
    task, folder = SHIPPED[name]
    # lm-eval draws other examples for each question of these two: without examples, then.
    shots = 0 if name in ("hellaswag", "winogrande") else ours.shots
    theirs = requests(name, ours.model_copy(update={"task": task, "folder": folder, "shots": shots}), tmp_path)
    mine = requests(name, ours.model_copy(update={"shots": shots}), tmp_path)
    if ours.metrics[0] == "acc_mutual_info":  # as many again, after an empty question
        mine = {config: [pair for pair in pairs if pair[0] != "Question: \nAnswer:"] for config, pairs in mine.items()}
    assert mine == theirs


@pytest.mark.parametrize("name", [name for name in KNOWN if all_benchmarks()[name].shots])
def test_examples_are_others_the_same_for_all_questions_and_from_their_split(name: str, tmp_path: Path) -> None:
    known, shots = KNOWN[name], all_benchmarks()[name].shots
    configs = write_data(tmp_path, known.repo, 9)
    split = "dev" if "dev" in next(iter(configs.values())) else "train"
    for config, pairs in requests(name, all_benchmarks()[name], tmp_path).items():
        pool = [known.question(row).strip() for row in configs[config or "default"][split]]
        scored = {known.question(row).strip() for row in configs[config or "default"][known.split]}
        for context, _ in pairs:
            found = [question for question in pool if question in context]
            asked = max((question for question in scored if question in context), key=context.rindex)
            if known.repo == "Idavidrein/gpqa":  # its examples are the first questions but the one that is asked
                assert context.count(asked) == 1
                found.remove(asked)
                pool_here = [question for question in pool if question != asked]
            else:
                assert scored.isdisjoint(found)
                pool_here = pool
            assert found == pool_here[:shots]


class Greedy(FakeModel):
    """Each word has a log-likelihood by its length and is the likeliest where it is in `found`."""

    def likelihood(self, request: Any) -> tuple[float, bool]:
        word = request.arguments[1]
        return -float(len(word)), drawn(request.arguments[0]) < 0.7


def test_lambada_is_the_last_word_and_its_perplexity(tmp_path: Path) -> None:
    texts = [row["text"] for row in write_data(tmp_path, "EleutherAI/lambada_openai", 50)["default"]["test"]]
    got = BenchmarkTask(label="lambada", benchmark=all_benchmarks()["lambada"]).score_with(Greedy(), tmp_path)
    rows = {row["measure"]: row for row in got.rows}
    pairs = [text.rsplit(" ", 1) for text in texts]
    found = [drawn(context) < 0.7 for context, _ in pairs]
    assert rows["accuracy"]["value"] == pytest.approx(sum(found) / 50)
    nats = [len(word) + 1 for _, word in pairs]
    assert rows["perplexity"]["value"] == pytest.approx(exp(sum(nats) / 50))
    assert rows["perplexity"]["better"] == "lower"
    assert {row["chance"] for row in got.rows} == {None}


def test_answers_are_compared_as_they_are_by_character_and_by_token() -> None:
    """Each measure prefers another answer: the least surprising in all, a character, a token."""
    answers = ["ab", "abcdefghij", "abcdef"]
    results = [
        Likelihood((-2.0, False), tokens=1),
        Likelihood((-3.0, False), tokens=2),
        Likelihood((-4.0, False), tokens=4),
    ]
    right = [by_token.scores(gold, answers, results) for gold in range(3)]
    assert [measures["acc"] for measures in right] == [1, 0, 0]
    assert [measures["acc_norm"] for measures in right] == [0, 1, 0]
    assert [measures["acc_per_token"] for measures in right] == [0, 0, 1]


def test_answers_have_the_tokens_that_follow_the_context(roomy_model) -> None:
    from types import SimpleNamespace

    from eval.harness.local_model import LocalModel
    from eval.model_loading import load_model
    from train.launch.world import World

    loaded = load_model(roomy_model, device="cpu")
    world = World(loaded.device, rank=0, size=1)
    model = LocalModel(loaded, world, start_ids=[], batch_size=2, progress=False)
    pairs = [("The boat", " came back before night."), ("", "A lamp"), ("The boat", " sank")]
    asked = [SimpleNamespace(args=pair, task_name="a", doc_id=0) for pair in pairs]
    answers = model.loglikelihood(asked)
    for (context, continuation), answer in zip(pairs, answers, strict=True):
        whole, before = (loaded.tokenizer.encode(text) for text in (context + continuation, context))
        assert answer.tokens == len(whole) - len(before)
        assert json.loads(json.dumps(answer)) == list(answer)
        sent = pickle.loads(pickle.dumps(answer))
        assert (sent, sent.tokens) == (answer, answer.tokens)


def test_truthfulqa_mc2_is_the_share_of_the_true_answers() -> None:
    doc = {"mc2_targets": {"labels": [0, 1, 1, 0]}}
    results = [(log(0.1), False), (log(0.3), False), (log(0.2), False), (log(0.2), False)]
    assert true_share(doc, results) == {"acc": pytest.approx(0.5 / 0.8), "chance": 0.5}
    # Far below what exp() can hold.
    assert true_share(doc, [(-2000.0, False), (-1000.0, False), (-1001.0, False), (-1500.0, False)])["acc"] == 1


def test_a_model_without_preference_has_the_share_of_true_answers_as_its_score(tmp_path: Path) -> None:
    class Flat(FakeModel):
        def likelihood(self, request: Any) -> tuple[float, bool]:
            return -3.0, False

    write_data(tmp_path, "truthfulqa/truthful_qa", 40)
    name = "truthfulqa-mc2"
    (row,) = BenchmarkTask(label=name, benchmark=all_benchmarks()[name]).score_with(Flat(), tmp_path).rows
    assert row["value"] == pytest.approx(row["chance"])


def test_the_true_answer_of_truthfulqa_and_gpqa_can_be_anywhere(tmp_path: Path) -> None:
    for name, options in (("truthfulqa-mc1", None), ("gpqa", 4)):
        write_data(tmp_path, KNOWN[name].repo, 400)
        (task,) = load_tasks(name, all_benchmarks()[name], data=tmp_path)["tasks"].values()
        places = Counter(task.doc_to_target(doc) for doc in task.eval_docs)
        assert places == Counter(task.doc_to_target(doc) for doc in task.eval_docs)
        if options:
            assert set(places) == set(range(options))
            assert max(places.values()) < 130
        else:
            assert places[0] < 200


def test_an_answer_that_is_likely_anyway_does_not_win_over_an_empty_question(tmp_path: Path) -> None:
    """All answers are equally likely after the question; the right one is the least likely after an empty one."""
    known = KNOWN["race-middle"]

    class Surprised(FakeModel):
        def likelihood(self, request: Any) -> tuple[float, bool]:
            context, continuation = request.arguments
            right = known.answers(request.doc)[known.gold(request.doc)]
            if context == "Article:\n\nQ: \nA:":
                return (-9.0 if continuation.strip() == right else -4.0), False
            return (-6.0 if continuation.strip() == right else -5.0), False

    write_data(tmp_path, known.repo, 20)
    task = BenchmarkTask(label="race-middle", benchmark=all_benchmarks()["race-middle"])
    rows = {row["measure"]: row["value"] for row in task.score_with(Surprised(), tmp_path).rows}
    assert (rows["accuracy over an empty question"], rows["accuracy"]) == (1, 0)


def test_groups_are_means_of_their_subjects_and_not_of_all_questions(tmp_path: Path) -> None:
    known = KNOWN["cmmlu-letter"]
    configs = write_data(tmp_path, known.repo, 4)
    large = tmp_path / known.repo / "agronomy" / "test.jsonl"  # three times the questions of the others
    more = [row | {"Question": f"{row['Question']}{n}"} for n in range(3) for row in configs["agronomy"]["test"]]
    large.write_text("".join(json.dumps(row) + "\n" for row in more))
    configs["agronomy"]["test"] = more

    model = PlantedModel(known, lambda question: drawn(question) < 0.5)
    got = BenchmarkTask(label="cmmlu-letter", benchmark=all_benchmarks()["cmmlu-letter"]).score_with(model, tmp_path)
    rows = {row["group"]: row for row in got.rows}
    scores = {
        subject: sum(drawn(row["Question"]) < 0.5 for row in splits["test"]) / len(splits["test"])
        for subject, splits in configs.items()
    }
    by_category: dict[str, list[float]] = {}
    for group, row in rows.items():
        if group.count(" / ") == 2:
            _, category, subject = group.split(" / ")
            key = subject.replace(" ", "_")
            assert row["value"] == pytest.approx(scores[key])
            assert row["count"] == (12 if key == "agronomy" else 4)
            by_category.setdefault(category, []).append(scores[key])
    assert sorted(map(len, by_category.values())) == [13, 15, 17, 22]
    for category, values in by_category.items():
        assert rows[f"all / {category}"]["value"] == pytest.approx(sum(values) / len(values))
    assert rows["all"]["value"] == pytest.approx(sum(scores.values()) / 67)
    assert rows["all"]["count"] == 66 * 4 + 12


def test_one_question_a_task_is_scored(tmp_path: Path) -> None:
    write_data(tmp_path, "Rowan/hellaswag", 3)
    task = BenchmarkTask(label="hellaswag", benchmark=all_benchmarks()["hellaswag"], limit=1)
    row = task.score_with(RandomModel(), tmp_path).rows[0]
    assert (row["count"], row["stderr"]) == (1, None)
