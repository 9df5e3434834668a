"""The answer that a worked solution ends in, as it is written there; any text is read in time that grows with it."""

import re

FINAL = "final answer is"
FURTHER_QUESTION = re.compile(
    r"\n\s*(?:question|q|problem|user)\s*\d*\s*:|answer the following question", re.IGNORECASE
)
# A last line such as "Answer: 5", "所以答案是 5。", "#### 5".
_LAST_LINE = re.compile(
    r"\W{0,4}(?:(?:final\s)?answer[\s*]*[:：]|(?:.*答案|答)[\s*]*[是为:：]|####)[*:：]*(.*)", re.IGNORECASE
)


def final_answer(text: str) -> str:
    """The answer in TeX: the last of a closed \\boxed{...} and what follows "final answer is"; else what follows the
    last "answer is", a mark on the last line, the last $...$, or the last line."""
    text = without_further_questions(text).replace("I hope it is correct.", "").strip()
    boxed, named = last_boxed(text), text.rfind(FINAL)
    if boxed and boxed[0] > named:
        return boxed[1].strip()
    if named < 0:
        named = text.lower().rfind("answer is")
    if named >= 0:
        line = text[named:].split("answer is", 1)[-1] if "answer is" in text[named:] else text[named + 9 :]
        line = line.strip(" :\n").split("\n")[0]
        inside = last_boxed(line)
        return inside[1] if inside else (dollars(line) or line.rstrip(". "))
    if boxed:
        return boxed[1].strip()
    last = text.splitlines()[-1] if text else ""
    if (marked := _LAST_LINE.match(last)) and marked[1].strip():
        last = marked[1].strip(" *")
        return dollars(last) or last.rstrip(".。 ")
    return dollars(text) or last.rstrip(".。 ")


def dollars(text: str) -> str:
    """What stands in the last pair of $; money, which has one $ only, is not TeX."""
    parts = text.replace("\\$", "").split("$")
    return parts[-2].strip() if len(parts) >= 3 and len(parts) % 2 else ""


def without_further_questions(text: str) -> str:
    """The text before the first further question; one with which the text begins is the model repeating its own."""
    start = len(text) - len(text.lstrip())
    found = FURTHER_QUESTION.search(text, start + 1)
    return text[: found.start()] if found else text


def last_boxed(text: str) -> tuple[int, str] | None:
    """Where the last closed \\boxed{...} starts, and what it holds; braces may be nested."""
    opened: list[re.Match[str]] = []
    last: tuple[int, int, int] | None = None
    for brace in re.finditer(r"(\\boxed\s*)?\{|\}", text):
        if brace[0] != "}":
            opened.append(brace)
        elif opened and (start := opened.pop())[1]:
            last = max(last or (-1, 0, 0), (start.start(), start.end(), brace.start()))
    return (last[0], text[last[1] : last[2]]) if last else None
