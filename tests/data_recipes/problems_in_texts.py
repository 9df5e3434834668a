"""Reads generated problems of levels 1 to 3 back from texts, knowing the forms but nothing of who wrote them.

A problem counts as read when a form fits the question and the kind's answer to the operands read is the answer that
stands there; so every block of a generated document is read or the reader fails.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache

from data_recipes.synthesis.programs.draw import all_kinds
from data_recipes.synthesis.programs.problem import ANSWER_MARK, LANGUAGES, words
from data_recipes.synthesis.programs.problems.basic import WEEKDAYS

DATE = r"\d+ [A-Z][a-z]+ \d+|\d+年\d+月\d+日"
QUESTION_MARKS = ("Question: ", "Q: ", "问：", "问题：", "Problem: ", "题目：")
ANSWER_LINES = ("\nAnswer:\n", "\nA:\n", "\n答：\n", "\n回答：\n", "\nSolution:\n", "\n解：\n")
EXAMPLE_MARKS = ("Example. ", "例：")


def pattern_of(name: str, language: str) -> str:
    groups = {"name": "names", "thing": "goods", "vehicle": "vehicles", "target": "things"}
    lists = {place: words(group, language) for place, group in groups.items()} | {"day": WEEKDAYS[language]}
    if name in lists:
        return "|".join(map(re.escape, lists[name]))
    if name == "items":
        return r"(?s:.+)"
    return rf"\d\d:\d\d|{DATE}" if name in ("start", "end", "date") else r"\d+"


@cache
def patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    """(kind, language, what its questions look like) of each form."""
    found = []
    for kind in all_kinds().values():
        for language in LANGUAGES if kind.level <= 3 else ():
            for form in kind.forms[language]:
                seen: set[str] = set()
                text = ""
                for piece in re.split(r"(\{\w+\})", form):
                    name = piece[1:-1]
                    if not piece.startswith("{"):
                        text += re.escape(piece)
                    elif name in seen:
                        text += f"(?P={name})"
                    else:
                        seen.add(name)
                        text += f"(?P<{name}>{pattern_of(name, language)})"
                found.append((kind.name, language, re.compile(text)))
    return found


def day_of(text: str):
    return datetime.strptime(text, "%Y年%m月%d日" if "年" in text else "%d %B %Y").date()


def operands_of(kind: str, language: str, found: dict[str, str]):
    """The operands of a question, from what stands in its places."""
    values = {name: int(value) for name, value in found.items() if value.isdigit()}
    if "items" in found and kind in ("repeat", "reverse"):
        listed = re.findall("|".join(words("things", language)), found["items"])
        return tuple(words("things", language).index(one) for one in listed)
    if "items" in found:
        listed = [one for one in re.split(r"\n|, |、", found["items"]) if one]
        if kind in ("first-item", "last-item", "count"):
            listed = [found["target"], *listed] if kind == "count" else listed
            return tuple(words("things", language).index(one) for one in listed)
        numbers = tuple(map(int, listed))
        return (numbers[0], numbers[1] - numbers[0]) if kind == "sequence" else numbers
    if kind == "shopping":
        return 0, 0, values["n"], values["price"], values["paid"]
    if kind == "travel":
        return 0, 0, values["speed"], values["hours"]
    if kind == "clock":
        hour, minute = map(int, found["start"].split(":"))
        return hour, minute, values["minutes"]
    if kind == "date-weekday":
        day = day_of(found["date"])
        return day.year, day.month, day.day
    if kind == "days-between":
        start, end = day_of(found["start"]).toordinal(), day_of(found["end"]).toordinal()
        return 0, start, end - start
    if kind == "weekday-after":
        return WEEKDAYS[language].index(found["day"]), values["n"]
    return tuple(values[name] for name in ("p", "a", "n", "b", "c", "d") if name in values)


def read_problem(question: str, answer: str):
    """(kind, operands) of a question with this answer, or None."""
    for kind, language, pattern in patterns():
        found = pattern.fullmatch(question)
        if found is None:
            continue
        try:
            operands = operands_of(kind, language, found.groupdict())
            right = all_kinds()[kind].write(all_kinds()[kind].solve(operands), language)
        except (ValueError, IndexError, ZeroDivisionError):
            continue
        if right == answer:
            return all_kinds()[kind], operands
    return None


def read_block(block: str):
    """(kind, operands, question) of a worked or answered problem as it stands in a document."""
    last = block.rsplit("\n", 1)[-1]
    answer = last
    for mark in ANSWER_MARK.values():
        answer = answer.removeprefix(mark)
    candidates = []
    for mark in QUESTION_MARKS:
        if block.startswith(mark):
            candidates += [block[len(mark) :].split(line, 1)[0] for line in ANSWER_LINES if line in block]
    for mark in EXAMPLE_MARKS:
        block = block.removeprefix(mark)
    lines = block.split("\n")
    candidates += ["\n".join(lines[:count]) for count in range(len(lines) - 1, 0, -1)]
    for question in candidates:
        found = read_problem(question, answer)
        if found is not None:
            return *found, question
    raise AssertionError(f"no generated problem: {block!r}")


def problems_of_document(text: str) -> Iterator:
    return map(read_block, text.split("\n\n"))


def problems_of_dialogue(messages: list[dict[str, str]]) -> Iterator:
    turns = [message["content"] for message in messages if message["role"] != "system"]
    for question, response in zip(turns[::2], turns[1::2], strict=True):
        yield read_block(f"{question}\n{response}")


def normalized(question: str) -> str:
    """Without what does not change what is asked: capitals, spaces, punctuation."""
    return re.sub(r"[^\w+×÷=/%-]+", " ", question.lower()).strip()
