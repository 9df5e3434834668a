"""How often the rule penalties are wrong on real text of this machine, English and Chinese, and what they find.

    python benchmarks/reward_rules.py [--half held-out] [--out FILE.json]

Whole texts, which no rule may touch: docstrings of installed packages and of Python's library; messages of installed
programs in Chinese whose English original ends in a full stop. Faults are planted in
them: cut at a random place, a sentence of the other language put in between. Files are halved by the hash of their
name; the rules were written with one half in view, and figures in the documentation are of the other.
"""

import argparse
import gettext
import json
import random
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from data_recipes.corpus.installed import docstrings, files_in_order, folders, is_prose, read_text
from data_recipes.corpus.tidy_text import chinese_share
from data_recipes.instruct.prose import is_one_line_filler, is_unfinished, mixes_languages

QUESTIONS = {"en": "What does this part of the program do?", "zh": "程序的这一部分是做什么用的？"}
HALVES = ("in view", "held-out")


def half_of(name: str) -> str:
    return HALVES[sha256(name.encode()).digest()[0] % 2]


def english_texts(half: str) -> Iterator[str]:
    """Docstrings, as their authors ended them."""
    for root in folders():
        for path in files_in_order(root, (".py",), seed=0):
            if half_of(path.parts[0]) != half:
                continue
            text = read_text(root / path)
            for _, documentation in docstrings(text) if text else ():
                if is_prose(documentation) and chinese_share(documentation) == 0:
                    yield documentation


def chinese_texts(half: str) -> Iterator[str]:
    """Messages of 30 characters and more that are whole sentences by their English originals."""
    for path in sorted(Path("/usr/share/locale").glob("zh_*/LC_MESSAGES/*.mo")):
        if half_of(path.stem) != half:
            continue
        with path.open("rb") as file:
            try:
                catalogue = gettext.GNUTranslations(file)._catalog
            except (ValueError, UnicodeDecodeError):
                continue
        whole = [
            target.strip()
            for source, target in catalogue.items()
            if isinstance(source, str) and source.strip().endswith((".", "!", "?")) and chinese_share(target) > 0.4
        ]
        yield from (text for text in whole if len(text) >= 30)


def cut(text: str, draw: random.Random) -> str | None:
    """A text that stops inside its last two thirds, not where a sentence or a line ends by itself."""
    for _ in range(20):
        place = draw.randrange(len(text) // 3, len(text))
        before, after = text[:place], text[place]
        if (before[-1].isalnum() or before[-1] in " ,，、") and (after.isalnum() or after == " "):
            return before
    return None


def mixed(text: str, other: str, draw: random.Random) -> str:
    """A text with a sentence of another one after one of its own lines."""
    sentence = " ".join(other.split("\n\n")[0].split())[:120]
    lines = text.split("\n")
    place = draw.randrange(len(lines))
    return "\n".join([*lines[: place + 1], sentence, *lines[place + 1 :]])


def measure(half: str, most: int) -> dict[str, dict[str, float]]:
    """Shares by rule and language, with how many texts they are of."""
    draw = random.Random(0)
    texts = {}
    for language, found in (("en", english_texts(half)), ("zh", chinese_texts(half))):
        every = list(dict.fromkeys(found))
        draw.shuffle(every)
        texts[language] = every[:most]
    result: dict[str, dict[str, float]] = {}
    for language, whole in texts.items():
        question, others = QUESTIONS[language], texts["en" if language == "zh" else "zh"]
        lines = [line.strip() for text in whole for line in text.split("\n") if any(map(str.isalnum, line))]
        stopped = [part for text in whole if (part := cut(text, draw))]
        planted = [mixed(text, draw.choice(others), draw) for text in whole]
        result[language] = {
            "texts": len(whole),
            "lines": len(lines),
            "whole called unfinished": share(map(is_unfinished, whole)),
            "cut called unfinished": share(map(is_unfinished, stopped)),
            "one language called mixed": share(mixes_languages(question, text) for text in whole),
            "another language found": share(mixes_languages(question, text) for text in planted),
            "line called filler": share(is_one_line_filler(question, line) for line in lines),
        }
    return result


def share(found) -> float:
    every = list(found)
    return round(sum(every) / max(1, len(every)), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=HALVES, default="held-out")
    parser.add_argument("--most", type=int, default=5000, help="texts of a language (default 5000)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.half, arguments.most)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
