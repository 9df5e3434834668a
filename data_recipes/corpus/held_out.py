"""Held-out text: whole groups set aside by a hash of their content, and training text that repeats it dropped."""

import re
from collections.abc import Iterable
from hashlib import sha256

from data_recipes.corpus.installed import Document, size
from data_recipes.corpus.tidy_text import CHINESE

HELDOUT_BYTES = 80_000
HELDOUT_SHARE = 0.08
# A training text is dropped when more than this share of its sentences and lines (by characters) is held-out text.
HELDOUT_COPY_SHARE = 0.2
# Kept apart by how they are made, not by their text.
GENERATED = ("math", "instruction-synthetic")
UNIT_ENDS = re.compile(r"\n+|(?<=[.!?])\s+|(?<=[。！？；])")


def heldout_size(budget: int) -> int:
    return int(min(HELDOUT_BYTES, HELDOUT_SHARE * budget))


def split(documents: list[Document], *, seed: int) -> tuple[list[Document], list[Document]]:
    """(held out, train): whole groups in the order of their content's hash until the held-out part is full.

    A domain with one group only is cut between two lines of its last document.
    """
    if not documents:
        return [], []
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(document.group, []).append(document)
    if len(groups) == 1:
        *train, last = documents
        beginning, ending = cut(last)
        return ending, train + beginning
    limit = heldout_size(size(documents))
    heldout: set[str] = set()
    left = limit
    queue = sorted(groups, key=lambda name: group_order((text.text for text in groups[name]), seed=seed))
    fitting = [name for name in queue if size(groups[name]) <= max(limit, 1)]
    for name in fitting or sorted(queue, key=lambda name: size(groups[name]))[:1]:
        if left <= 0:
            break
        heldout.add(name)
        left -= size(groups[name])
    return (
        [document for document in documents if document.group in heldout],
        [document for document in documents if document.group not in heldout],
    )


def group_order(texts: Iterable[str], *, seed: int) -> bytes:
    """Where a group stands in the queue for the held-out side: a hash of its content, not of its name."""
    digest = sha256(f"{seed}".encode())
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()


def cut(document: Document) -> tuple[list[Document], list[Document]]:
    """A document as its beginning and its last lines, about a tenth of it; one line cannot be cut."""
    lines = document.text.splitlines(keepends=True)
    ending = max(1, len(lines) // 10)
    if len(lines) < 2:
        return [document], []
    return tuple(  # type: ignore[return-value]
        [Document("".join(part).strip("\n"), document.origin, document.language, group=document.group)]
        for part in (lines[:-ending], lines[-ending:])
    )


def keep_apart(sides: dict[str, tuple[list[Document], list[Document]]]) -> int:
    """Drop training texts of which more than a fifth is held-out text of any domain; returns how many."""
    heldout = {hash_unit(unit) for pair in sides.values() for document in pair[0] for unit in units(document.text)}
    dropped = 0
    for domain, (_, train) in sides.items():
        kept = []
        for document in train:
            # Generated problems are kept apart by their operands; their short lines may coincide.
            pieces = [] if document.origin.startswith("generated:") and domain in GENERATED else units(document.text)
            shared = sum(len(piece) for piece in pieces if hash_unit(piece) in heldout)
            if shared > HELDOUT_COPY_SHARE * sum(map(len, pieces)):
                dropped += 1
            else:
                kept.append(document)
        train[:] = kept
    return dropped


def units(text: str) -> list[str]:
    """Lines and sentences long enough to distinguish texts, in lower case without runs of spaces."""
    pieces = (re.sub(r"\s+", " ", piece).strip().lower() for piece in UNIT_ENDS.split(text))
    return [piece for piece in pieces if len(piece) >= 20 or (len(piece) >= 8 and CHINESE.search(piece))]


def hash_unit(piece: str) -> int:
    """A 64-bit hash that does not change from one process to the next."""
    return int.from_bytes(sha256(piece.encode("utf-8", "surrogatepass")).digest()[:8], "big")
