"""Proof states and tactics of Lean 4 as text: their form, and whether two states are the same."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_recipes.synthesis.kinds.base import Rejected

NO_GOALS = "no goals"
_NAME = r"[^\W\d][\w'.!?₀-₉✝¹²³⁴⁵⁶⁷⁸⁹⁰]*"
_HYPOTHESIS = re.compile(rf"(?P<names>{_NAME}(?:\s+{_NAME})*)\s+:\s+(?P<type>\S.*)", re.DOTALL)
_MOST_CHARACTERS = 4000
_PAIRS = {")": "(", "]": "[", "}": "{", "⟩": "⟨"}
_UNPROVED = re.compile(r"\b(?:sorry|admit|sorryAx|stop)\b|\bnative_decide\b")
_COMMENT = re.compile(r"--[^\n]*|/-.*?-/", re.DOTALL)
_COMMANDS = re.compile(
    r"^\s*(?:theorem|lemma|example|def|instance|axiom|import|namespace|end|section|open)\b", re.MULTILINE
)
# What a tactic begins with: its name, a bullet, a group, or a term in brackets.
_TACTIC_START = re.compile(r"[a-z][\w!?']*|[·.⟨({<|]|all_goals\b")
_PROSE = re.compile(
    r"^(?:the|an?)\s|^(?:we|this|first|then|use the|to prove|here|note|let us|it)\s+[a-z]+\s+[a-z]+\s+[a-z]+\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Goal:
    """`hypotheses` are (names, type), a type as it stands there."""

    hypotheses: Sequence[tuple[tuple[str, ...], str]]
    target: str
    case: str = ""


def state_goals(state: str) -> list[Goal]:
    """The goals of a state, none where nothing is left to prove. `Rejected` for what is no state in Lean's form."""
    text = state.strip()
    if text.lower().strip(" .!") in (NO_GOALS, "goals accomplished"):
        return []
    if re.search(r"\bsorry", text):
        raise Rejected("sorry in the state")
    goals = [_goal(part) for part in re.split(r"\n[ \t]*\n", text)]
    if not goals:
        raise Rejected("no goal in the state")
    return goals


def _goal(text: str) -> Goal:
    lines = text.split("\n")
    case = ""
    if lines[0].startswith("case "):
        case = lines.pop(0).removeprefix("case ").strip()
    elif re.fullmatch(r"\d+ goals?", lines[0].strip()):  # "2 goals", as editors show it
        lines.pop(0)
        if lines and lines[0].startswith("case "):
            case = lines.pop(0).removeprefix("case ").strip()
    entries: list[str] = []
    for line in lines:
        if line.startswith((" ", "\t")) and entries:  # a long type goes on, indented
            entries[-1] += f"\n{line}"
        elif line.strip():
            entries.append(line)
    if not entries or not entries[-1].startswith("⊢"):
        raise Rejected("no goal in the state")
    if any(entry.startswith("⊢") for entry in entries[:-1]):
        raise Rejected("two goals in one paragraph of the state")
    target = entries[-1].removeprefix("⊢").strip()
    if not target:
        raise Rejected("empty goal in the state")
    hypotheses = []
    for entry in entries[:-1]:
        found = _HYPOTHESIS.fullmatch(entry)
        if found is None:
            raise Rejected("a line of the state is no hypothesis")
        hypotheses.append((tuple(found["names"].split()), found["type"]))
    for part in (target, *(kind for _, kind in hypotheses)):
        if not is_balanced(part):
            raise Rejected("brackets of the state are not closed")
    return Goal(tuple(hypotheses), target, case)


def shown_state(goals: Sequence[Goal]) -> str:
    """Goals as Lean shows them."""
    return "\n\n".join(map(_shown, goals)) or NO_GOALS


def _shown(goal: Goal) -> str:
    hypotheses = (f"{' '.join(names)} : {kind}" for names, kind in goal.hypotheses)
    return "\n".join([*([f"case {goal.case}"] if goal.case else []), *hypotheses, f"⊢ {goal.target}"])


def same_state(first: str, second: str) -> bool:
    """Whether two states are the same but for white space, names of cases, and how hypotheses are grouped in lines."""
    try:
        return [_plain(goal) for goal in state_goals(first)] == [_plain(goal) for goal in state_goals(second)]
    except Rejected:
        return False


def _plain(goal: Goal) -> tuple[list[tuple[str, str]], str]:
    single = [(name, _spaces(kind)) for names, kind in goal.hypotheses for name in names]
    return single, _spaces(goal.target)


def _spaces(text: str) -> str:
    return " ".join(text.split())


def check_tactic(tactic: str) -> None:
    """`Rejected` for what is no tactic, or one that proves nothing (`sorry`)."""
    code = _COMMENT.sub(" ", tactic[:_MOST_CHARACTERS]).strip()
    if not code:
        raise Rejected("no tactic")
    if len(tactic) > _MOST_CHARACTERS:
        raise Rejected("tactic too long")
    if _UNPROVED.search(code):
        raise Rejected("sorry in the tactic")
    if _COMMANDS.search(code):
        raise Rejected("a command in place of a tactic")
    if "⊢" in code.split("\n")[0] and not re.search(r"\bat\b", code):
        raise Rejected("a state in place of a tactic")
    if not _TACTIC_START.match(code) or _PROSE.match(code):
        raise Rejected("not a tactic in form")
    if not is_balanced(code):
        raise Rejected("brackets of the tactic are not closed")


def is_balanced(text: str) -> bool:
    opened: list[str] = []
    for sign in re.sub(r'"(?:[^"\\]|\\.)*"', '""', text):
        if sign in _PAIRS.values():
            opened.append(sign)
        elif sign in _PAIRS and (not opened or opened.pop() != _PAIRS[sign]):
            return False
    return not opened
