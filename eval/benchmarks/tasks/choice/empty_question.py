"""Multiple choice by how much the question raises the likelihood of an answer: LLMBox's way with ARC and RACE.

lm-eval's `acc_mutual_info` subtracts an answer's log-likelihood after nothing; LLMBox, the authors' tool, subtracts it
after the prompt of an empty question, which the task's YAML gives as `metadata: {empty_question: ...}`.
"""

from collections.abc import Mapping
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask


class EmptyQuestionTask(ConfigurableTask):
    """A multiple-choice task whose `acc_mutual_info` compares with the answers to an empty question."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = {key: value for key, value in config.items() if key != "class"}
        self.empty_question = settings["metadata"]["empty_question"]
        super().__init__(config=settings)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        requests = super().construct_requests(doc, ctx, **kwargs)
        # lm-eval appends one request an answer, with nothing before it.
        for request in requests[len(requests) // 2 :]:
            request.arguments = (self.empty_question, request.arguments[1])
        return requests
