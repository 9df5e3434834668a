"""Formal mathematics in Lean: tactics explained, states before and after them predicted, tactics chosen.

The five tasks and the sampling are the report's (temperature 0.3, top_p 0.4, 400 to 600 new tokens; DeepSeek-Prover
V1.5-RL and Qwen2.5-Math-7B-Instruct): deduction, abduction and induction as in LIME. Prompts are ours. What is written
in Lean's form is checked by rule, and by `lean` itself where there is one (`lean_binary`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import xxhash

from data_recipes.errors import DataError, nearest
from data_recipes.synthesis.kinds.answer_text import check_length, script, whole_text
from data_recipes.synthesis.kinds.base import AskModel, Checks, Kind, Rejected, Sample, Unusable
from data_recipes.synthesis.kinds.form import Form
from data_recipes.synthesis.kinds.lean_binary import effect_of
from data_recipes.synthesis.kinds.lean_states import check_tactic, same_state, state_goals
from data_recipes.synthesis.kinds.seeds import text_of, whole_seed_text
from data_recipes.synthesis.prompts import instruction_lines, prompt

Result = Literal["explanation", "state_after", "state_before", "tactic"]
COLUMNS = ("statement", "state_before", "tactic", "state_after")
TITLES = {"statement": "Statement", "state_before": "State before", "tactic": "Tactic", "state_after": "State after"}


@dataclass(frozen=True)
class Task:
    """`given`: the columns that are shown; `result`: the one that is asked for."""

    given: tuple[str, ...]
    result: Result
    form: Form


TASKS: Mapping[str, Task] = {
    "explain-from-statement": Task(("statement", "state_before", "tactic"), "explanation", Form(["Explanation"])),
    "explain": Task(("state_before", "tactic"), "explanation", Form(["Explanation"])),
    "next-state": Task(("state_before", "tactic"), "state_after", Form(["Explanation", "State"])),
    "earlier-state": Task(("tactic", "state_after"), "state_before", Form(["Explanation", "State"])),
    "next-tactic": Task(("state_before",), "tactic", Form(["Explanation", "Tactic"])),
}
ROTATION = "rotation"


class Lean(Kind):
    name = "lean"
    summary = "a step of a Lean proof: its tactic explained or chosen, the state before or after it"
    columns: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] = (*COLUMNS, "header")
    fields = ("task", "question", "explanation", *COLUMNS, "answer", "header")
    settings: ClassVar = {"temperature": 0.3, "top_p": 0.4, "max_tokens": 600}
    options: ClassVar = {"task": ROTATION}
    template = "lean-step"
    text_fields = ("question", "answer")

    def __init__(self, **chosen: Any) -> None:
        super().__init__(**chosen)
        task = self.chosen["task"]
        if task not in (ROTATION, *TASKS):
            raise DataError(f"lean: no task '{task}'.{nearest(task, (ROTATION, *TASKS))}")
        if task != ROTATION:
            self.columns = TASKS[task].given
            self.optional_columns = tuple(name for name in (*COLUMNS, "header") if name not in self.columns)

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        name = self.task_of(seed)
        task = TASKS[name]
        given = {column: whole_seed_text(seed, column) for column in task.given}
        for column in ("state_before", "state_after"):
            if column in given:
                try:
                    state_goals(given[column])
                except Rejected:
                    raise Unusable(f"{column} is no state of Lean 4") from None
        asked = prompt(f"lean/{name}", **given)
        answer = await ask(asked)
        parts = task.form.parse(whole_text(answer, instruction_lines(self.name)))
        check_length("explanation", parts["explanation"], 8, 400)
        if script(parts["explanation"]) not in (None, "LATIN"):
            raise Rejected("wrong language")
        result = without_fence(parts.get("state", parts.get("tactic", "")))
        fields = {**given, "task": name, "explanation": parts["explanation"]}
        if task.result != "explanation":
            fields[task.result] = result
        if header := text_of(seed.get("header")):
            fields["header"] = header
        check_form(task.result, fields)
        fields["question"] = "\n\n".join(f"{TITLES[column]}:\n{given[column]}" for column in task.given)
        fields["answer"] = answer_text(task.result, fields)
        known = text_of(seed.get("state_after")) if task.result == "state_after" else ""
        sample = Sample(asked, answer.text, answer.finish_reason, fields, checked=bool(known))
        if known and not same_state(known, result):
            raise Rejected("not the state after the tactic")
        return sample

    def task_of(self, seed: Mapping[str, Any]) -> str:
        """The task of a seed: the chosen one, or in rotation one that it has all columns for, by its content."""
        if self.chosen["task"] != ROTATION:
            return self.chosen["task"]
        present = {column for column in COLUMNS if text_of(seed.get(column))}
        able = [name for name, task in TASKS.items() if present >= set(task.given)]
        if not able:
            raise Unusable("no state or tactic")
        content = "\0".join(text_of(seed.get(column)) for column in COLUMNS)
        return able[xxhash.xxh3_64_intdigest(content.encode("utf-8", "surrogatepass")) % len(able)]

    def verify(self, sample: Sample, checks: Checks) -> Sample:
        fields = sample.fields
        task = TASKS[fields["task"]]
        if sample.checked or checks.lean is None:
            return sample
        effect = effect_of(checks.lean, fields["state_before"], fields["tactic"], fields.get("header", ""))
        if effect is None:
            return sample
        if effect.error:
            # A step of the seed that fails says nothing of what the model wrote.
            if task.result == "explanation":
                return sample
            raise Rejected("the tactic fails in Lean")
        if "state_after" in fields and not same_state(effect.state_after, fields["state_after"]):
            raise Rejected("not the state after the tactic")
        # An explanation is words, which Lean does not judge.
        return replace(sample, checked=task.result != "explanation")


def check_form(result: Result, fields: Mapping[str, str]) -> None:
    """`Rejected` where what is asked for is not in Lean's form, or only repeats what was given."""
    if result == "tactic":
        check_tactic(fields["tactic"])
    elif result == "state_after":
        state_goals(fields["state_after"])
        if same_state(fields["state_before"], fields["state_after"]):
            raise Rejected("state repeated")
    elif result == "state_before":
        if not state_goals(fields["state_before"]):
            raise Rejected("no goals before the tactic")
        if same_state(fields["state_before"], fields["state_after"]):
            raise Rejected("state repeated")


def answer_text(result: Result, fields: Mapping[str, str]) -> str:
    """What training text says after the question: a tactic has its explanation as a comment before it."""
    if result == "explanation":
        return fields["explanation"]
    if result == "tactic":
        comment = "\n".join(f"-- {line}" for line in fields["explanation"].splitlines() if line.strip())
        return f"{TITLES['tactic']}:\n{comment}\n{fields['tactic']}"
    return f"{fields['explanation']}\n\n{TITLES[result]}:\n{fields[result]}"


def without_fence(part: str) -> str:
    """What stands in a part's fenced block where the part is one."""
    lines = part.splitlines()
    if len(lines) > 2 and lines[0].lstrip().startswith("```") and lines[-1].strip() == "```":
        return "\n".join(lines[1:-1]).strip("\n")
    return part
