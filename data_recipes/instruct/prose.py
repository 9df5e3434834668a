"""What the rule penalties ask of a text, in English and Chinese: does it end, which languages are in it, is it filler.

Every rule errs on the side of not finding anything: a penalty for a good answer teaches the policy a habit, one that
is missed costs nothing. `benchmarks/reward_rules.py` measures both rates on this machine's text.
"""

import re
import unicodedata
from functools import cache
from importlib.resources import files

HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Scripts that neither English nor Chinese is written in: Cyrillic, Hebrew, Arabic, Devanagari, Thai, kana, Hangul.
FOREIGN = re.compile("[\u0400-\u052f\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\uac00-\ud7af]")
CHINESE = re.compile(f"[{HAN}]")
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
FENCE = re.compile(r"^\s*(```|~~~)", re.MULTILINE)
# What is no prose of the answer: code, formulas, links, tags, quoted file names.
NOT_PROSE = re.compile(
    r"(?P<fence>```|~~~).*?(?:(?P=fence)|\Z)|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|\\\[.*?\\\]|\\\(.*?\\\)"
    r"|https?://\S+|<[^<>\n]{1,200}>",
    re.DOTALL,
)
LINK_AT_THE_END = re.compile(r"https?://\S+\Z")
CLOSERS = "\"'”’»)）]】》」』}*_`~"
ENDS = ".!?…。！？；;︒｡$"
# After these more must come, whatever the line is.
OPEN_ENDS = ",，、:：(（[【「『“‘《—–&+=/\\"
OPEN_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the and or nor but of to with for by from into onto that which who whose when where because although if
        as than is are was were be has have had will would can could should must may might its their our your my""",
    )
)
OPEN_CHINESE = re.compile(
    r"(?:[和与及或但而且并把被从向在是将使让为对于以因若虽则]|然后|接着|例如|比如|如果|其中|通过|根据|关于|包括|以便|即使|尽管)\Z"
)
# The rest of a line without a full stop is taken for a sentence only from this length on; titles and items are shorter.
SENTENCE_WORDS = 14
SENTENCE_CHARACTERS = 24
# An item, a quotation, a row, a heading, a field of a description: these need no end mark.
MARKED_LINE = re.compile(
    r"^\s*(?:[-*+•·>|#:@]|\d+[.)、．]|[(（]?[a-zA-Z一二三四五六七八九十]{1,2}[)）、.．]"
    r"|[\w()*`.-]+(?: [\w()*`.-]+){0,3} ?[:：])"
)
ASKS_FOR_ANOTHER = re.compile(
    r"translat|bilingual|\b(?:in|into|from|to|the|of)\s+(?:[a-z]+\s+){0,2}(?:english|chinese|mandarin|cantonese|japanese|"
    r"korean|russian|arabic|hebrew|hindi|thai)\b|翻译|译成|译为|双语|[英中日韩俄]文|[英汉日韩俄]语|普通话",
    re.IGNORECASE,
)


def is_unfinished(text: str) -> bool:
    """Whether a text stops in the middle: an open code block, a word or sign that asks for more, or a long line of
    prose without an end mark. An empty text is unfinished too."""
    if len(FENCE.findall(text)) % 2 or text.count("$$") % 2:
        return True
    if FENCE.match(text.rpartition("\n")[2]):
        return False
    bare = text.rstrip().rstrip(CLOSERS).rstrip()
    if not bare:
        return not text.strip()
    last = bare[-1]
    if LINK_AT_THE_END.search(bare):
        return False
    if last in ENDS or unicodedata.category(last) == "So" or bare != text.rstrip():
        return False  # a closed bracket or quotation, or emphasis: nobody stops there by accident
    if last in OPEN_ENDS:
        return True
    paragraph = last_paragraph(bare)
    line = paragraph.rpartition("\n")[2]
    words = WORD.findall(line)
    if CHINESE.match(last):
        if OPEN_CHINESE.search(bare):
            return True
    elif words and line.endswith(words[-1]) and words[-1] in OPEN_WORDS and len(words) > 2:
        return True
    if MARKED_LINE.match(paragraph) or paragraph.startswith(("    ", "\t")):
        return False
    prose = NOT_PROSE.sub(" ", paragraph)
    return len(WORD.findall(prose)) >= SENTENCE_WORDS or len(CHINESE.findall(prose)) >= SENTENCE_CHARACTERS


def last_paragraph(text: str) -> str:
    """The last lines of a text, from the last empty or marked one on."""
    lines = text.split("\n")
    start = len(lines) - 1
    while start and lines[start - 1].strip() and not MARKED_LINE.match(lines[start]):
        start -= 1
    return "\n".join(lines[start:])


def language_of(text: str) -> str | None:
    """`zh` or `en`, whichever most of the prose is in; None where there is next to none."""
    prose = NOT_PROSE.sub(" ", text)
    chinese, words = len(CHINESE.findall(prose)), len(WORD.findall(prose))
    if chinese + words < 3:
        return None
    # A Chinese word has some 1.7 characters; foreign names and terms are common in Chinese, the reverse is not.
    return "zh" if chinese >= words else "en"


ENGLISH_IN_CHINESE = 10
"""Words between two Chinese characters or line ends, some of them such as only grammar needs: more than a name has."""
CHINESE_SHARE_IN_ENGLISH = 0.03
CHINESE_IN_ENGLISH = 6
CHINESE_OR_END = re.compile(f"[{HAN}。，；：！？、（）《》「」“”\n]+")


def mixes_languages(question: str, text: str) -> bool:
    """Whether prose of an answer is in a language that the question neither uses nor asks for."""
    if ASKS_FOR_ANOTHER.search(question):
        return False
    prose = NOT_PROSE.sub(" ", text)
    if not FOREIGN.search(question) and len(FOREIGN.findall(prose)) > 3:
        return True
    asked = language_of(question)
    if asked == "zh":
        return has_english_prose(prose) and not has_english_prose(question)
    if asked == "en" and not CHINESE.search(question):
        chinese = len(CHINESE.findall(prose))
        return chinese >= CHINESE_IN_ENGLISH and chinese > CHINESE_SHARE_IN_ENGLISH * sum(map(str.isalpha, prose))
    return False


def has_english_prose(text: str) -> bool:
    """Whether a text, Chinese for the rest, has an English sentence: not a list of names, which has no small words."""
    for part in CHINESE_OR_END.split(text):
        words = [word.lower() for word in WORD.findall(part)]
        if len(words) >= ENGLISH_IN_CHINESE and sum(word in OPEN_WORDS for word in words) >= max(2, len(words) // 8):
            return True
    return False


LONGEST_FILLER = 400
"""Characters."""
BETWEEN_MARKS = re.compile(
    r"[\s,.;:!?~…—，。；：！？、～]*(?:[,.;:!?~…—，。；：！？、～]|\Z)[\s,.;:!?~…—，。；：！？、～]*|\s+-\s+"
)


def is_one_line_filler(question: str, text: str) -> bool:
    """Whether an answer is one line that says nothing: stock phrases only, or the question again."""
    line = text.strip()
    if "\n" in line or len(line) > LONGEST_FILLER:
        return False
    said = _letters(line)
    if not said:
        return True
    asked = _letters(question)
    if said == asked and len(said) >= 12:
        return True
    parts = [part.strip() for part in BETWEEN_MARKS.split(line) if part.strip()]
    return all(any(phrase.fullmatch(part) for phrase in filler_phrases()) for part in parts)


@cache
def filler_phrases() -> list[re.Pattern[str]]:
    """Sentences that are only manners, of filler.txt, as patterns of all that stands between two marks."""
    lines = files(__package__).joinpath("filler.txt").read_text(encoding="utf-8").splitlines()
    return [re.compile(line, re.IGNORECASE) for line in lines if line and not line.startswith("#")]


def _letters(text: str) -> str:
    """Letters and digits only, in one case and width."""
    return "".join(character for character in unicodedata.normalize("NFKC", text).lower() if character.isalnum())
