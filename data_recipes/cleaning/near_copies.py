"""Normalised text, and the filter that keeps each text once: no exact copies, no near copies by sentences and lines."""

import re
from hashlib import sha256

# A document is a near-copy when more than this share of its sentences and lines (by characters) was seen before.
NEAR_COPY_SHARE = 0.5
UNIT_ENDS = re.compile(r"\n+|(?<=[.!?])\s+|(?<=[。！？；])")
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


def units(text: str) -> list[str]:
    """Lines and sentences long enough to distinguish texts, in lower case without runs of spaces."""
    pieces = (re.sub(r"\s+", " ", piece).strip().lower() for piece in UNIT_ENDS.split(text))
    return [piece for piece in pieces if len(piece) >= 20 or (len(piece) >= 8 and CHINESE.search(piece))]


class CopyFilter:
    """Remembers the sentences and lines of what was kept, to recognise exact and near copies."""

    def __init__(self) -> None:
        self.documents: set[int] = set()
        self.seen: set[int] = set()
        self.dropped = {"too_short": 0, "exact_copies": 0, "near_copies": 0}

    def admit(self, text: str) -> bool:
        """Whether a text is new; remembers it when it is."""
        if len(text) < 20:
            self.dropped["too_short"] += 1
            return False
        digest = hash_unit(text)
        if digest in self.documents:
            self.dropped["exact_copies"] += 1
            return False
        pieces = {hash_unit(piece): len(piece) for piece in units(text)}
        known = sum(length for number, length in pieces.items() if number in self.seen)
        if known > NEAR_COPY_SHARE * sum(pieces.values()):
            self.dropped["near_copies"] += 1
            return False
        self.documents.add(digest)
        self.seen.update(pieces)
        return True


def hash_unit(piece: str) -> int:
    """A 64-bit hash that does not change from one process to the next."""
    return int.from_bytes(sha256(piece.encode("utf-8", "surrogatepass")).digest()[:8], "big")
