"""Texts for the data room's tests: several scripts, many lengths, every one different."""

import json
from pathlib import Path

WORDS = {
    "web-en": [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "a",
        "lazy",
        "dog",
        "while",
        "seven",
        "wizards",
        "quietly",
        "boil",
        "water",
        "and",
        "count",
        "stars",
    ],
    "web-zh": list("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"),
    "code": [
        "def",
        "return",
        "if",
        "else",
        "for",
        "in",
        "range",
        "print",
        "import",
        "class",
        "self",
        "None",
        "True",
        "lambda",
        "yield",
    ],
}


def make_documents(domain: str, count: int, *, longest: int = 120) -> list[str]:
    """`count` different texts of 1 to `longest` words, the same every time."""
    words = WORDS[domain]
    joint = "" if domain == "web-zh" else " "
    texts = []
    for number in range(count):
        length = 1 + (number * 7919) % longest
        texts.append(f"{number}:" + joint.join(words[(number * 31 + k * k) % len(words)] for k in range(length)))
    return texts


def write_corpus(folder: Path) -> Path:
    """700 texts of each of three domains, one file a domain."""
    for domain in ("web-en", "web-zh", "code"):
        write_jsonl(folder / f"{domain}.jsonl", make_documents(domain, 700, longest=200))
    return folder


def write_jsonl(path: Path, texts: list[str], *, column: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({column: text, "id": number}, ensure_ascii=False) for number, text in enumerate(texts))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
