"""OSS-Instruct: a problem, a solution and its tests, after a piece of code (Wei et al., 2023).

The report's were written by Qwen2.5-7B after files of the-stack-v2; its sampling is not published, so this is ours. A
sample is accepted when the solution passes its tests in the runner of programs, and the tests fail with its functions
emptied, whatever constant they return: so tests that test nothing are found.
"""

import ast
from collections.abc import Mapping
from typing import Any, ClassVar

from data_recipes.synthesis.kinds.answer_text import check_length, whole_text
from data_recipes.synthesis.kinds.base import AskModel, Checks, Kind, Rejected, Sample
from data_recipes.synthesis.kinds.form import Form
from data_recipes.synthesis.kinds.programs_run import ran
from data_recipes.synthesis.kinds.python_code import python_block, python_tree, stubs_program
from data_recipes.synthesis.kinds.seeds import seed_text
from data_recipes.synthesis.prompts import instruction_lines, prompt

LEAST_ASSERTIONS = 3


class OssInstruct(Kind):
    name = "oss-instruct"
    summary = "a programming problem, its solution and tests, after a piece of code"
    fields = ("problem", "solution", "code", "tests")
    settings: ClassVar = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 2048}
    template = "problem-solution"
    text_fields = ("problem", "solution")
    form = Form(["Problem", "Solution", "Tests"])

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        code_seed = seed_text(seed, characters=4000)
        question = prompt(self.name, code=code_seed)
        answer = await ask(question)
        fields = self.form.parse(whole_text(answer, instruction_lines(self.name)))
        check_length("problem", fields["problem"], 15, 600)
        check_length("solution", fields["solution"], 10, 1200)
        fields["code"] = python_block("solution", fields["solution"])
        fields["tests"] = python_block("tests", fields["tests"])
        if " ".join(fields["code"].split()) in " ".join(code_seed.split()):
            raise Rejected("solution copied from the seed")
        check_tests(fields["code"], fields["tests"])
        return Sample(question, answer.text, answer.finish_reason, fields)

    def verify(self, sample: Sample, checks: Checks) -> Sample:
        code, tests = sample.fields["code"], sample.fields["tests"]
        outcome = ran(sample, checks, code, tests=tests)
        if not outcome.sample.checked:
            return outcome.sample
        if outcome.status != "passed":
            raise Rejected("solution takes too long" if outcome.status == "timeout" else "solution fails its tests")
        if ran(sample, checks, stubs_program(code, tests)).status == "passed":
            raise Rejected("tests pass with an empty solution")
        return sample


def check_tests(code: str, tests: str) -> None:
    """`Rejected` for tests that cannot tell a solution from another: few assertions, or none of what it defines."""
    tree = python_tree("tests", tests)
    if sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) < LEAST_ASSERTIONS:
        raise Rejected("too few tests")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in python_tree("solution", code).body if isinstance(node, kinds)}
    if not defined:
        raise Rejected("solution defines nothing")
    if not defined & {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}:
        raise Rejected("tests do not use the solution")
    if defined & {node.name for node in ast.walk(tree) if isinstance(node, kinds)}:
        raise Rejected("tests define the solution anew")
