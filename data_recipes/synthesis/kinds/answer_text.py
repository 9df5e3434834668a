"""What every kind asks of an answer before it reads it: that it is whole, no refusal, and no copy of its prompt.

And what may be asked of its parts: their language by script, their length in words.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from data_recipes.endpoint.request import Answer, NoAnswer
from data_recipes.synthesis.kinds.base import Rejected

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
# Marks of chat templates and of thinking aloud, which a server takes out of answers when all is well.
_CHAT_MARKS = re.compile(r"<\|[\w▁]{1,40}\|>|<｜[\w▁]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?think>|</?tool_call>")
_APOSTROPHE = "['\u2019]"
_REFUSAL_START = re.compile(
    r"\W*(?:(?:i am|i[’']m|we are|my apologies|unfortunately|apologies|sorry)\b[^.\n]{0,20}?)?"
    rf"(?:i (?:really )?(?:cannot|can not|can{_APOSTROPHE}t|am (?:unable|not able)|won{_APOSTROPHE}t be able)"
    r"(?: to)? (?:assist|help|provide|create|generate|write|fulfil\w*|comply|complete|answer|do|solve|continue|produce)"
    rf"|i(?:{_APOSTROPHE}m| am) (?:very |so )?(?:sorry|unable|not able|afraid)\b"
    r"|sorry, but\b|i apologi[sz]e\b|(?:很|非常)?抱歉|对不起|我(?:无法|不能)(?:提供|协助|帮助|回答|完成|生成|满足)"
    r"|the (?:given |provided )?text (?:does not|doesn['’]t) (?:contain|provide|include)\b)",
    re.IGNORECASE,
)
_REFUSAL_ANYWHERE = re.compile(
    r"\bas an? (?:ai|artificial intelligence)(?: language)?(?: model| assistant)?\b(?=,| and| i\b)"
    r"|\bi(?:['’]m| am) (?:just |only )?an? (?:ai\b|(?:large )?language model)"
    r"|作为(?:一个|一名)?(?:AI|人工智能|语言模型)",
    re.IGNORECASE,
)
_TEX = re.compile(r"\$\$[^$]*\$\$|\$[^$\n]*\$|\\[(\[](?:[^\\]|\\[^()\[\]])*\\[)\]]|\\[A-Za-z]+")
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+")
_NUMBER_OR_WORD = re.compile(rf"\d+(?:[.,]\d+)*|{_WORD.pattern}")
_IDEOGRAPH_LETTERS = 3  # an ideograph says about as much as 3 letters
LEAST_LETTERS = 24
"""Fewer say nothing of a language."""


def whole_text(answer: Answer, echo: Sequence[str] = ()) -> str:
    """The text of a whole answer, lines ended by `\\n`.

    Raises `NoAnswer` where it was cut off or withheld, `Rejected` for an empty one, a refusal, marks of a chat
    template, and where it holds a line of `echo`, the prompt's instructions.
    """
    if answer.finish_reason == "length":
        raise NoAnswer("no end within max_tokens")
    if answer.finish_reason == "content_filter":
        raise NoAnswer("withheld by the server's content filter")
    text = answer.text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if answer.finish_reason == "tool_calls" or not text:
        raise Rejected("empty answer")
    if is_refusal(text) or _REFUSAL_ANYWHERE.search(text):
        raise Rejected("refusal")
    if _CHAT_MARKS.search(text):
        raise Rejected("marks of a chat in the text")
    if any(line in text for line in echo):
        raise Rejected("prompt echoed")
    return text


@dataclass(frozen=True)
class Block:
    """A fenced block of code: where it stands in its text with its fences, the language that it names, its content."""

    start: int
    end: int
    language: str
    content: str


def fenced_blocks(text: str) -> list[Block]:
    """The fenced blocks of a text as CommonMark reads them; `Rejected` where the last one is not closed."""
    found, opened = [], None
    for fence in _FENCE.finditer(text):
        if opened is None:
            if fence[1][0] == "`" and "`" in fence[2]:  # ```code``` on one line opens nothing
                continue
            opened = fence
        elif fence[1][0] == opened[1][0] and len(fence[1]) >= len(opened[1]) and not fence[2].strip():
            language = opened[2].split()[0].lower() if opened[2].strip() else ""
            found.append(Block(opened.start(), fence.end(), language, text[opened.end() + 1 : fence.start()]))
            opened = None
    if opened is not None:
        raise Rejected("a block of code without an end")
    return found


def without_code(text: str) -> str:
    """`text` with every fenced block of code blank, place by place; `Rejected` where one is not closed."""
    parts, end = [], 0
    for block in fenced_blocks(text):
        parts += [text[end : block.start], re.sub(r"[^\n]", " ", text[block.start : block.end])]
        end = block.end
    return "".join(parts) + text[end:]


def is_refusal(text: str) -> bool:
    """Whether a text begins as one that refuses to answer."""
    return _REFUSAL_START.match(text) is not None


def script(text: str) -> str | None:
    """The script of most letters outside of code and TeX (`LATIN`, `CJK`, ...); None for too few letters."""
    counts: Counter[str] = Counter()
    for character, count in Counter(_TEX.sub(" ", text)).items():
        if name := _script_of(character):
            counts[name] += count * (_IDEOGRAPH_LETTERS if name == "CJK" else 1)
    if counts.total() < LEAST_LETTERS:
        return None
    return max(counts, key=lambda name: (counts[name], name))


@cache
def _script_of(character: str) -> str:
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").partition(" ")[0]
    return {"HIRAGANA": "JAPANESE", "KATAKANA": "JAPANESE"}.get(name, name)


def check_script(seed: str, text: str) -> None:
    """`Rejected` where a text is not in the script of its seed; languages of one script are for the cleaning steps."""
    expected, found = script(without_code_or_all(seed)), script(without_code(text))
    if expected and found and expected != found and {expected, found} != {"CJK", "JAPANESE"}:
        raise Rejected("wrong language")


def without_code_or_all(text: str) -> str:
    """As `without_code`, for text that was cut anywhere."""
    try:
        return without_code(text)
    except Rejected:
        return text


def words(text: str) -> int:
    """Words of a text; an ideograph is one, as it takes about as many of them to say the same."""
    return len(_WORD.findall(text))


def check_length(part: str, text: str, least: int, most: int) -> None:
    """`Rejected` for a part of fewer or more words."""
    count = words(text)
    if count < least:
        raise Rejected(f"{part} too short")
    if count > most:
        raise Rejected(f"{part} too long")


# Words that say nothing of a subject; a list for telling whether two short texts speak of the same.
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "from",
        "by",
        "with",
        "and",
        "or",
        "but",
        "nor",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "there",
        "which",
        "who",
        "whom",
        "whose",
        "what",
        "when",
        "where",
        "how",
        "why",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "not",
        "no",
        "so",
        "than",
        "then",
        "into",
        "about",
        "can",
        "could",
        "may",
        "might",
        "will",
        "would",
        "shall",
        "should",
        "must",
        "also",
        "very",
        "such",
        "的",
        "了",
        "是",
        "在",
        "和",
        "与",
        "或",
        "也",
        "都",
        "就",
        "而",
        "及",
        "着",
        "之",
        "这",
        "那",
        "它",
    ]
)


def content_words(text: str) -> list[str]:
    """The words of a text in lower case, without those that say nothing of a subject."""
    return [
        word for word in (found.casefold() for found in _NUMBER_OR_WORD.findall(text)) if word not in _FUNCTION_WORDS
    ]
