"""Texts of the miniature before anything else is asked of them: tidy line ends, and how much of them is Chinese."""

import re

CHINESE = re.compile("[\u3400-\u9fff]")


def chinese_share(text: str) -> float:
    """Share of Chinese characters among the letters of the first 4,000 characters."""
    sample = text[:4000]
    letters = sum(map(str.isalpha, sample))
    return len(CHINESE.findall(sample)) / letters if letters else 0.0


def clean_text(text: str) -> str:
    """Line ends as \\n, no byte-order mark, NUL or trailing spaces, at most two empty lines in a row."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\x00", "")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n").rstrip()
