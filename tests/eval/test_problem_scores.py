"""Problems: answers read as written, prompts in the trained forms, batched generation equal to single."""

from itertools import pairwise

import pytest

from data_recipes.errors import DataError
from data_recipes.synthesis.programs import problem as synthesis
from data_recipes.synthesis.programs.documents import QUESTION_ANSWER
from eval.generation import answers_to, generate
from eval.suites import make_tasks
from eval.tasks import problems as problem_scores
from eval.tasks.continuations import Continuations
from eval.tasks.problems import QUESTION_FORMS, Problems, choose_samples, judged, tally


def test_every_right_response_counts_and_another_problems_does_not(corpus):
    problems = Problems(per_kind=6).read(corpus)
    responses = [problem["messages"][-1]["content"] for problem in problems]
    assert all(judged(responses, problems))
    others = [(problem, other) for problem, other in pairwise(problems) if problem["answer"] != other["answer"]]
    assert not any(judged([other["messages"][-1]["content"] for _, other in others], [one for one, _ in others]))


def test_an_answer_follows_the_mark_of_its_own_language():
    problems = [{"language": language, "answer": "5"} for language in ("en", "zh", "en", "zh")]
    outputs = ["Answer: 5", "Answer: 5", "答案：5", "so 4 + 1 = 5\n答案：５。"]
    assert judged(outputs, problems) == [True, False, False, True]


def test_base_prompts_have_the_form_of_the_generated_documents():
    for language, form in QUESTION_FORMS.items():
        trained = QUESTION_ANSWER[language][0]
        assert trained.startswith(form)
        assert trained[len(form) :].strip() == "{answer}"
    assert {language: mark.strip() for language, mark in synthesis.ANSWER_MARK.items()} == problem_scores.ANSWER_MARKS


def test_chat_prompts_end_where_the_answer_begins(loaded, corpus):
    problem = Problems(per_kind=1).read(corpus)[0]
    prompt = Problems(prompt="chat").prompt_ids(loaded, problem)
    whole = loaded.tokenizer.apply_chat_template(problem["messages"], return_dict=True)["input_ids"]
    assert loaded.tokenizer.decode(whole[len(prompt) :]) == problem["messages"][-1]["content"] + "<|eot_id|>"
    plain = Problems().prompt_ids(loaded, problem)
    assert plain[0] == loaded.tokenizer.eos_token_id
    assert loaded.tokenizer.decode(plain[1:]).endswith(("Answer:\n", "答：\n"))
    with pytest.raises(DataError, match=r"task problems: prompt: 'story' is not valid\. Known: question, chat"):
        make_tasks("problems", {"prompt": "story"})


def test_generation_in_batches_equals_generation_one_by_one(loaded):
    prompts = [loaded.tokenizer(text).input_ids for text in ("a", "the longest prompt of all three here", "two words")]
    limits = [6, 9, 6]
    together = generate(loaded, prompts, max_new_tokens=limits)
    alone = [generate(loaded, [prompt], max_new_tokens=limit)[0] for prompt, limit in zip(prompts, limits, strict=True)]
    assert together == alone
    assert len(set(together)) > 1


def test_a_prompt_longer_than_the_context_is_cut_from_the_left(loaded):
    tail = loaded.tokenizer("the end of it", add_special_tokens=False).input_ids
    limit = 8
    room = loaded.max_length - limit
    long = [5] * 300 + [7] * (room - len(tail)) + tail
    assert generate(loaded, [long], max_new_tokens=limit) == generate(loaded, [long[-room:]], max_new_tokens=limit)


def test_drawn_answers_follow_the_seed_and_greedy_ones_are_all_the_same(loaded):
    asked = [[{"role": "user", "content": text}] for text in ("2+3?", "a longer question than that")]
    drawn = answers_to(loaded, asked, samples=4, max_new_tokens=8, seed=1)
    assert [len(set(answers)) > 1 for answers in drawn] == [True, True]
    assert answers_to(loaded, asked, samples=4, max_new_tokens=8, seed=1) == drawn
    assert answers_to(loaded, asked, samples=4, max_new_tokens=8, seed=2) != drawn
    greedy = answers_to(loaded, asked, samples=3, max_new_tokens=8, temperature=0.0)
    assert all(len(set(answers)) == 1 for answers in greedy)


def test_scores_are_counted_by_kind_level_and_language(loaded, corpus, monkeypatch):
    problems = Problems(per_kind=4).read(corpus)
    replies = [problem["messages"][-1]["content"] if index % 2 else "no idea" for index, problem in enumerate(problems)]
    monkeypatch.setattr(problem_scores, "generate", lambda *args, **kwargs: replies)
    answers = Problems(prompt="chat").answers(loaded, problems)
    rows = {row["group"]: row for row in tally(answers)}
    assert [group for group in rows if "/" not in group] == ["level 1", "level 2", "level 3"]
    parts = [row for group, row in rows.items() if group.count("/") == 2]
    assert sum(row["count"] for row in parts) == len(problems)
    assert sum(row["correct"] for row in parts) == len(problems) // 2
    # English problems stand at even places, Chinese ones at odd places, and only the latter were answered.
    assert all(row["value"] == row["group"].endswith(" / zh") for row in parts)
    assert rows["level 1 / larger"]["chance"] == rows["level 1 / larger / en"]["chance"] == 0.5
    assert rows["level 1 / larger"]["value"] == 0.5


def test_fewer_of_the_harder_problems_are_taken_but_never_none(corpus):
    counts = {per_kind: {} for per_kind in (1, 8, 40)}
    for per_kind, by_kind in counts.items():
        for problem in Problems(per_kind=per_kind).read(corpus):
            key = (problem["level"], problem["kind"])
            by_kind[key] = by_kind.get(key, 0) + 1
    for per_kind, harder in ((1, 1), (8, 4), (40, 10)):
        assert {count for (level, _), count in counts[per_kind].items() if level == 1} == {per_kind}
        assert {count for (level, _), count in counts[per_kind].items() if level > 1} == {harder}


def test_samples_are_of_every_kind_and_language_and_say_whether_they_are_right(loaded, corpus):
    answers = Problems().answers(loaded, Problems(per_kind=3).read(corpus))
    samples = choose_samples(answers)
    places = [(sample["level"], sample["kind"], sample["language"]) for sample in samples]
    assert places == sorted({(answer["level"], answer["kind"], answer["language"]) for answer in answers})
    assert len({sample["prompt"] for sample in samples}) == len(samples)
    assert all(isinstance(sample["correct"], bool) for sample in samples)
    assert all(loaded.tokenizer(sample["text"], add_special_tokens=False)["input_ids"][0] == 2 for sample in samples)
    shown = Continuations().score(loaded, {"web-en": ["word " * 90], "web-zh": ["字" * 90]}).samples
    assert [len(sample["prompt"]) for sample in shown] == [159, 60]
    assert all(sample["output"] for sample in shown)


def test_a_context_shorter_than_a_worked_answer_still_leaves_room_for_questions(loaded, corpus, monkeypatch):
    problems = Problems(per_kind=1).read(corpus)
    monkeypatch.setattr(loaded.model.config, "max_position_embeddings", 64)
    answers = Problems().answers(loaded, problems)
    lengths = [len(Problems().prompt_ids(loaded, problem)) for problem in problems]
    worked = [length for length, problem in zip(lengths, problems, strict=True) if problem["level"] == 3]
    assert [answer["tokens_cut"] for answer in answers if answer["level"] == 3] == [max(0, n - 32) for n in worked]
