"""Answer match: exact match of the answer that a response gives after a mark such as `Answer:`."""

import re
import unicodedata

import datasets
import evaluate

_DESCRIPTION = """
Answer match: the share of responses whose answer is exactly the expected one. The answer is what follows the last
answer mark on its line, or all of the first paragraph where there is no mark. Full-width forms (NFKC), white space and
a final full stop make no difference; case does.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): responses.
    references (list of str, or list of lists of str): the expected answer of each, or all that count as right.
    marks (list of str): what an answer may follow; by default "Answer:" and its Chinese form.
Returns:
    answer_match: the share.
    matches: for each response whether it is right.
    answers: the answers that were read.
Examples:
    >>> metric = evaluate.load("eval/metrics/answer_match")
    >>> metric.compute(predictions=["2 + 2 is 4.\\nAnswer: 4."], references=["4"])["answer_match"]
    1.0
"""

MARKS = ("Answer:", "答案：")


def normal(answer):
    """An answer without what makes no difference."""
    return re.sub(r"\s+", " ", re.sub(r"[.。\s]+$", "", unicodedata.normalize("NFKC", answer))).strip()


def read_answer(response, marks):
    """The answer in a response: after the last mark, on one line."""
    paragraph = response.strip().split("\n\n")[0]
    ends = [paragraph.rfind(mark) + len(mark) for mark in marks if mark in paragraph]
    return normal(paragraph[max(ends) :].strip().split("\n")[0] if ends else paragraph)


class AnswerMatch(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=[
                datasets.Features({"predictions": text, "references": text}),
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
            ],
        )

    def _compute(self, predictions, references, marks=MARKS):
        if not marks or "" in marks:
            raise ValueError(f"marks {list(marks)}: expected at least one, and none of them empty")
        accepted = [[answers] if isinstance(answers, str) else answers for answers in references]
        answers = [read_answer(response, marks) for response in predictions]
        matches = [answer in map(normal, right) for answer, right in zip(answers, accepted, strict=True)]
        return {"answer_match": sum(matches) / len(matches), "matches": matches, "answers": answers}
