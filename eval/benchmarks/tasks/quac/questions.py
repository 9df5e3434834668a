"""QuAC's dialogues as single questions, and the overlap of an answer with the reference answers."""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

UNANSWERABLE, UNKNOWN = "CANNOTANSWER", "I don't know."
PUNCTUATION = str.maketrans("", "", string.punctuation)


def one_by_one(dialogues: Any) -> Any:
    """One row a question: title, paragraph, question, and the distinct reference answers. For `process_docs`."""

    def split(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = {"title": [], "paragraph": [], "question": [], "answers": []}
        for title, paragraph, questions, answers in zip(
            batch["section_title"], batch["context"], batch["questions"], batch["answers"], strict=True
        ):
            for question, texts in zip(questions, answers["texts"], strict=True):
                rows["title"].append(title)
                rows["paragraph"].append(paragraph.removesuffix(UNANSWERABLE).rstrip())
                rows["question"].append(question)
                rows["answers"].append([UNKNOWN] if UNANSWERABLE in texts else list(dict.fromkeys(texts)))
        return rows

    return dialogues.map(split, batched=True, remove_columns=dialogues.column_names)


def words(text: str) -> list[str]:
    """The words that count: lower case, without punctuation and articles."""
    return re.sub(r"\b(a|an|the|and)\b", " ", text.lower().translate(PUNCTUATION)).split()


def f1(answer: str, reference: str) -> float:
    """F1 of the two sets of words, as in the authors' script."""
    found, wanted = set(words(answer)), set(words(reference))
    common = len(found & wanted)
    return 2 * common / (len(found) + len(wanted)) if common else float(found == wanted)


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    answer = re.split(r"[.!\n]", results[0].strip())[0]
    return {
        "f1": max(f1(answer, reference) for reference in doc["answers"]),
        "exact_match": max(float(words(answer) == words(reference)) for reference in doc["answers"]),
    }
