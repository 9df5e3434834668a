"""Made-up items in the schemas of the published multiple-choice benchmarks, of any number, and LAMBADA.

One function a data set. Nothing in them is from the data sets: sentences are drawn from a word list, and which answer
is right is drawn by itself, so that it depends on neither length nor place.
"""

import csv
import io
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

SUBJECTS = Path(__file__).parents[2] / "eval" / "benchmarks" / "tasks" / "subjects"
Configs = dict[str, dict[str, list[dict[str, Any]]]]
WORDS = ["river", "stone", "lamp", "garden", "window", "paper", "silver", "morning", "quiet", "copper", "train"]
HANZI = "山水木石灯花窗纸银晨铜车林信市冬桥风雨云"


class Maker:
    """Draws sentences and answers. The same seed gives the same."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.made = 0

    def sentence(self, low: int = 3, high: int = 12) -> str:
        """Different from all others that this maker gave: it ends with a number of its own."""
        self.made += 1
        words = [self.random.choice(WORDS) for _ in range(self.random.randint(low, high))]
        return " ".join(words).capitalize() + f" {self.made}"

    def chinese(self, low: int = 3, high: int = 12) -> str:
        self.made += 1
        return "".join(self.random.choice(HANZI) for _ in range(self.random.randint(low, high))) + str(self.made)

    def gold(self, options: int = 4) -> int:
        return self.random.randrange(options)


def subjects(name: str) -> list[str]:
    """The subjects of MMLU, C-Eval or CMMLU, as the tasks name them."""
    path = SUBJECTS / f"{name}_subjects.yaml"
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["task"]
    return sorted(task["dataset_name"] for group in groups for task in group["task"])


def by_subject(name: str, splits: dict[str, int], row: Callable[[Maker, str], dict[str, Any]]) -> Configs:
    made: Configs = {}
    for subject in subjects(name):
        maker = Maker(f"{name} {subject}")
        made[subject] = {split: [row(maker, subject) for _ in range(count)] for split, count in splits.items()}
    return made


def mmlu(items: int) -> Configs:
    def row(maker: Maker, subject: str) -> dict[str, Any]:
        choices = [maker.sentence() for _ in range(4)]
        return {"question": maker.sentence(), "subject": subject, "choices": choices, "answer": maker.gold()}

    return by_subject("mmlu", {"dev": 5, "test": items}, row)


def ceval(items: int) -> Configs:
    def row(maker: Maker, subject: str) -> dict[str, Any]:
        options = {letter: maker.chinese() for letter in "ABCD"}
        tail = {"answer": "ABCD"[maker.gold()], "explanation": ""}
        return {"id": maker.made, "question": maker.chinese() + "____。", **options, **tail}

    return by_subject("ceval", {"dev": 5, "val": items}, row)


def cmmlu(items: int) -> Configs:
    def row(maker: Maker, subject: str) -> dict[str, Any]:
        options = {letter: maker.chinese() for letter in "ABCD"}
        return {"Question": maker.chinese() + "是", **options, "Answer": "ABCD"[maker.gold()]}

    return by_subject("cmmlu", {"dev": 5, "test": items}, row)


def lambada(items: int) -> Configs:
    maker = Maker("lambada")
    rows = [{"text": f"{maker.sentence(8, 20)} {maker.random.choice(WORDS)}"} for _ in range(items)]
    return {"default": {"test": rows}}


def hellaswag(items: int) -> Configs:
    maker = Maker("hellaswag")

    def row(split: str) -> dict[str, Any]:
        first, second = maker.sentence() + ".", maker.random.choice(WORDS)
        return {
            "ind": maker.made,
            "activity_label": maker.sentence(1, 3),
            "ctx_a": first,
            "ctx_b": second,
            "ctx": f"{first} {second}",
            "endings": [f"[step] {maker.sentence()}." for _ in range(4)],
            "source_id": f"made~{maker.made}",
            "split": split,
            "split_type": "indomain",
            "label": str(maker.gold()),
        }

    splits = {"train": [row("train") for _ in range(8)], "validation": [row("val") for _ in range(items)]}
    return {"default": splits}


def winogrande(items: int) -> Configs:
    maker = Maker("winogrande")

    def row() -> dict[str, Any]:
        sentence = f"{maker.sentence()} because the _ was {maker.sentence(1, 4)}."
        options = {"option1": maker.sentence(1, 2), "option2": maker.sentence(1, 2)}
        return {"sentence": sentence, **options, "answer": str(maker.gold(2) + 1)}

    splits = {"train": [row() for _ in range(8)], "validation": [row() for _ in range(items)]}
    return {"winogrande_xl": splits}


def storycloze(items: int) -> dict[str, str]:
    """{file name: text}: the two CSV files, as its authors send them."""
    maker, files = Maker("storycloze"), {}
    fields = [*(f"InputSentence{number}" for number in range(1, 5)), *(f"RandomFifthSentenceQuiz{n}" for n in (1, 2))]
    for split, count in (("val", 2), ("test", items)):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["InputStoryid", *fields, "AnswerRightEnding"])
        for _ in range(count):
            writer.writerow([f"story-{maker.made}", *(maker.sentence() + "." for _ in fields), maker.gold(2) + 1])
        files[f"cloze_test_{split}__spring2016 - cloze_test_ALL_{split}.csv"] = text.getvalue()
    return files


def arc(items: int) -> Configs:
    configs = {}
    for config in ("ARC-Easy", "ARC-Challenge"):
        maker = Maker(config)

        def row(index: int, maker: Maker = maker, config: str = config) -> dict[str, Any]:
            options = maker.random.choice([3, 4, 4, 4, 5])  # as in the data set, where some labels are numbers
            labels = list("ABCDE" if index % 3 else "12345")[:options]
            choices = {"text": [maker.sentence() for _ in labels], "label": labels}
            key = labels[maker.gold(options)]
            return {"id": f"{config}_{index}", "question": maker.sentence() + "?", "choices": choices, "answerKey": key}

        configs[config] = {split: [row(i) for i in range(n)] for split, n in (("train", 2), ("test", items))}
    return configs


def race(items: int) -> Configs:
    configs = {}
    for config in ("middle", "high"):
        maker = Maker(config)

        def rows(count: int, maker: Maker = maker, config: str = config) -> Iterable[dict[str, Any]]:
            article = ""
            for index in range(count):  # five questions an article
                article = maker.sentence(20, 40) + "." if index % 5 == 0 else article
                yield {
                    "example_id": f"{config}{index // 5}.txt",
                    "article": article,
                    "answer": "ABCD"[maker.gold()],
                    "question": maker.sentence() + "  _  ." if index % 2 else maker.sentence() + "?",
                    "options": [maker.sentence() for _ in range(4)],
                }

        configs[config] = {split: list(rows(count)) for split, count in (("train", 2), ("validation", items))}
    return configs


def boolq(items: int) -> Configs:
    maker = Maker("boolq")

    def row() -> dict[str, Any]:
        question = maker.sentence(4, 8).lower()
        return {
            "question": question,
            "passage": maker.sentence(10, 30) + ".",
            "idx": maker.made,
            "label": maker.gold(2),
        }

    splits = {"train": [row() for _ in range(2)], "validation": [row() for _ in range(items)]}
    return {"boolq": splits}


def truthfulqa(items: int) -> Configs:
    maker = Maker("truthfulqa")

    def row() -> dict[str, Any]:
        wrong = [maker.sentence() + "." for _ in range(maker.random.randint(2, 5))]
        right = [maker.sentence() + "." for _ in range(maker.random.randint(1, 4))]
        return {
            "question": maker.sentence() + "?",  # the right answers come first, as in the data set
            "mc1_targets": {"choices": [right[0], *wrong], "labels": [1] + [0] * len(wrong)},
            "mc2_targets": {"choices": right + wrong, "labels": [1] * len(right) + [0] * len(wrong)},
        }

    return {"multiple_choice": {"validation": [row() for _ in range(items)]}}


def gpqa(items: int) -> Configs:
    maker = Maker("gpqa")

    def row() -> dict[str, Any]:
        names = ["Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3))]
        return {"Question": maker.sentence() + "?"} | {name: maker.sentence() + "\n" for name in names}

    return {"gpqa_main": {"train": [row() for _ in range(max(items, 8))]}}


MAKERS: dict[str, Callable[[int], Configs]] = {
    "EleutherAI/lambada_openai": lambada,
    "Idavidrein/gpqa": gpqa,
    "Rowan/hellaswag": hellaswag,
    "allenai/ai2_arc": arc,
    "allenai/winogrande": winogrande,
    "aps/super_glue": boolq,
    "ehovy/race": race,
    "truthfulqa/truthful_qa": truthfulqa,
    "cais/mmlu": mmlu,
    "ceval/ceval-exam": ceval,
    "haonan-li/cmmlu": cmmlu,
}
BY_SUBJECT = ("cais/mmlu", "ceval/ceval-exam", "haonan-li/cmmlu")

DATASETS = {repo: make(2 if repo in BY_SUBJECT else 6) for repo, make in MAKERS.items()}
FILES = {"LSDSem/story_cloze": storycloze(6)}
