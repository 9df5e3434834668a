"""Items of evaluation sets in texts: found word for word and nowhere else; sets that are not there are refused."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_recipes.cleaning.overlap import Found, Item, ItemIndex
from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.decontamination import Decontamination, DecontaminationSettings
from data_recipes.cleaning.words import split_words
from data_recipes.errors import DataError

QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did "
    "Natalia sell altogether in April and May?"
)
ANSWER = "In May she sold 48 / 2 = 24 clips. Altogether she sold 48 + 24 = 72 clips in April and May."
CHINESE = "小明有三十六颗糖,他把其中的四分之一分给了弟弟,又买来了十五颗,现在小明一共有多少颗糖?"
FILLER = "The garden behind the house was quiet that morning, and nobody had yet come down to look at it. " * 20


def write_items(path: Path, items: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def step_on(tmp_path: Path, items: list[dict[str, Any]], **settings: Any) -> Decontamination:
    path = write_items(tmp_path / "exam.jsonl", items)
    step = Decontamination(DecontaminationSettings(step="decontamination", files=(path,), **settings))
    step.inputs()
    return step


def judged(step: Decontamination, texts: list[str]) -> tuple[list[str | None], list[list[dict[str, Any]]]]:
    signals = step.signals(Batch("web", [""] * len(texts), texts, {}))
    table = pa.table(signals, schema=step.schema())
    return step.reasons("web", table), table["contamination_spans"].to_pylist()


def disguised(text: str) -> dict[str, str]:
    words = text.split(" ")
    return {
        "verbatim": text,
        "over lines": "\n".join(words),
        "upper case": text.upper(),
        "other punctuation": " -- ".join(words).replace("?", "...").replace(",", ";"),
        "in Markdown": " ".join(f"**{word}**" for word in words),
    }


def test_an_item_is_found_whatever_its_case_punctuation_and_lines(tmp_path: Path) -> None:
    step = step_on(tmp_path, [{"id": "a", "question": QUESTION, "answer": ANSWER}, {"id": "b", "question": CHINESE}])
    for text in (QUESTION, ANSWER, CHINESE):
        for name, form in disguised(text).items():
            reasons, spans = judged(step, [FILLER + form + FILLER, FILLER])
            assert reasons == ["holds an item of exam", None], name
            best = spans[0][0]
            assert best["share"] == 1
            assert best["item"] == ("b" if text is CHINESE else "a")
            assert best["part"] == ("answer" if text is ANSWER else "question")
            held = (FILLER + form + FILLER)[best["start"] : best["end"]]
            assert list(split_words([held]).hashes) == list(split_words([text]).hashes), name


def test_a_changed_word_lowers_the_share_and_the_threshold_decides(tmp_path: Path) -> None:
    changed = QUESTION.replace("half as many", "twice as many")
    for share, expected in ((0.5, "holds an item of exam"), (0.99, None)):
        step = step_on(tmp_path, [{"question": QUESTION}], n=8, share=share)
        reasons, spans = judged(step, [changed])
        assert reasons == [expected]
        assert spans[0][0]["share"] == pytest.approx(30 / 31)  # every word but one, as both sides have runs of 8
    assert judged(step_on(tmp_path, [{"question": QUESTION}], n=8, share_of={"exam": 0.9}), [changed])[0] != [None]
    assert judged(step_on(tmp_path, [{"question": QUESTION}], n=8, action="annotate"), [changed])[0] == [None]
    other_words = "Natalia's friends bought 48 clips from her; what is the total with the following month's 24?"
    assert judged(step_on(tmp_path, [{"question": QUESTION}], n=8), [other_words])[1] == [[]]


def test_short_questions_count_whole_and_templates_only_with_their_answer(tmp_path: Path) -> None:
    template = "Which of the following is true?"
    items = [
        {"id": "short", "question": "Who painted the ceiling of the chapel?"},
        {"id": "first", "question": template, "answer": "Water boils at a lower temperature on a mountain."},
        {"id": "second", "question": template, "answer": "Sound travels faster in air than in steel rods."},
        {"id": "tiny", "question": "2 + 3 =", "answer": "5"},
    ]
    step = step_on(tmp_path, items)
    texts = [
        "He asked who painted the ceiling of the chapel, and left.",
        "He asked who painted the ceiling of that chapel, and left.",
        "Exam: which of the following is true?",
        "Which of the following is true? Water boils at a lower temperature on a mountain.",
        "2 + 3 = 5",
    ]
    reasons, spans = judged(step, texts)
    assert [reason is not None for reason in reasons] == [True, False, False, True, False]
    assert [one["item"] for one in spans[3]] == ["first"]
    assert step.details([]) == {"exam": {"items": 4, "too_short": 1, "found": 0, "documents": 0}}


def test_an_item_scattered_over_a_long_text_is_not_found() -> None:
    words = [f"word{number}" for number in range(40)]
    index = ItemIndex([Item("exam", "0", " ".join(words))], {"exam": 5}, shortest=3)
    pieces = [" ".join(words[start : start + 5]) for start in range(0, 40, 5)]
    [found] = index.find(split_words([(" and so on for a while longer" * 20).join(pieces)]))
    assert found[0].share == pytest.approx(5 / 40)
    [found] = index.find(split_words([" or ".join(pieces)]))
    assert found[0].share == 1


def by_brute_force(items: list[Item], n: int, shortest: int, text: list[str]) -> list[Found]:
    """The definition, on words of one letter that are separated by spaces."""
    found = []
    for item in items:
        question, answer = item.question.split(), item.answer.split()
        double = sum(other.question == item.question and other.set == item.set for other in items) > 1
        tells = len(question) >= n or (len(question) >= shortest and not double)
        parts = [("question", question)] if tells else []
        if not tells and len(question + answer) >= shortest:
            parts = [("question and answer", question + answer)]
        parts += [("answer", answer)] if len(answer) >= n else []
        for name, part in parts:
            run = min(n, len(part))
            hits = [
                (at, place)
                for at in range(len(text) - run + 1)
                for place in range(len(part) - run + 1)
                if text[at : at + run] == part[place : place + run]
            ]
            stretches: list[list[tuple[int, int]]] = []
            for hit in hits:
                if not stretches or hit[0] - stretches[-1][-1][0] > len(part):
                    stretches.append([])
                stretches[-1].append(hit)
            shares = [len({place + k for _, place in hits for k in range(run)}) / len(part) for hits in stretches]
            if shares:
                found.append((item.set, item.id, name, max(shares)))
    return found  # type: ignore[return-value]


def test_what_is_found_is_what_the_definition_says() -> None:
    rng = random.Random(7)
    for trial in range(60):
        letters = "abc" if trial % 2 else "abcdefghij"
        draw = lambda most: " ".join(rng.choice(letters) for _ in range(rng.randint(0, most)))  # noqa: B023, E731
        items = [Item("exam", str(number), draw(12), draw(6)) for number in range(4)]
        texts = [draw(60) for _ in range(5)]
        texts[0] += " " + items[0].question
        index = ItemIndex(items, {"exam": 4}, shortest=3)
        for text, found in zip(texts, index.find(split_words(texts)), strict=True):
            expected = by_brute_force(items, 4, 3, text.split())
            # A group hit again within a run is not counted twice, so a stretch may end earlier, but never begin later.
            got = {(one.set, one.item, one.part): one.share for one in found}
            assert got == pytest.approx({one[:3]: one[3] for one in expected})  # type: ignore[misc]


def test_batches_change_nothing_and_settings_that_matter_change_the_fingerprint(tmp_path: Path) -> None:
    texts = [FILLER, QUESTION, FILLER + CHINESE, "", ANSWER + FILLER]
    step = step_on(tmp_path, [{"question": QUESTION, "answer": ANSWER}, {"question": CHINESE}])
    assert judged(step, texts)[1] == [judged(step, [text])[1][0] for text in texts]
    first = step.fingerprint()
    assert (
        step_on(tmp_path, [{"question": QUESTION, "answer": ANSWER}, {"question": CHINESE}], share=0.9).fingerprint()
        == first
    )
    assert step_on(tmp_path, [{"question": QUESTION}]).fingerprint() != first
    assert (
        step_on(tmp_path, [{"question": QUESTION, "answer": ANSWER}, {"question": CHINESE}], n=8).fingerprint() != first
    )


def test_a_set_that_is_not_there_is_refused_before_work_begins(tmp_path: Path) -> None:
    write_items(tmp_path / "benchmarks/items/gsm8k.jsonl", [{"question": QUESTION}])
    make = lambda **settings: Decontamination(DecontaminationSettings(step="decontamination", **settings))  # noqa: E731
    data = tmp_path / "benchmarks"
    assert make(sets=("gsm8k",), data=data).inputs().keys() == {"gsm8k"}
    with pytest.raises(DataError, match=r"'gsm8' is not there. Did you mean 'gsm8k'.*yulanmini eval fetch"):
        make(sets=("gsm8",), data=data).inputs()
    with pytest.raises(DataError, match=r"exam.jsonl: no such file of items"):
        make(files=(tmp_path / "exam.jsonl",)).inputs()
    with pytest.raises(DataError, match=r"item 1: columns text; expected a text 'question'"):
        make(files=(write_items(tmp_path / "bad.jsonl", [{"question": "x"}, {"text": "y"}]),)).inputs()
    (tmp_path / "torn.jsonl").write_text('{"question": "x')
    with pytest.raises(DataError, match=r"item 0: malformed JSON"):
        make(files=(tmp_path / "torn.jsonl",)).inputs()
    with pytest.raises(DataError, match="holds no items"):
        make(files=(write_items(tmp_path / "empty.jsonl", []),)).inputs()
    with pytest.raises(ValueError, match="no evaluation set is named"):
        make()
    with pytest.raises(ValueError, match=r"n_of: no evaluation set 'gsm8' is named. Did you mean 'gsm8k'"):
        make(sets=("gsm8k",), data=data, n_of={"gsm8": 8})
    with pytest.raises(ValueError, match="two evaluation sets are called 'gsm8k'"):
        make(sets=("gsm8k",), data=data, files=(tmp_path / "gsm8k.jsonl",))
