"""Where a text can be cut so that its parts encode to the very ids of the whole.

A seam is between a letter and a white space or sign. Two kinds of tokenizer are known to have one there, whatever
stands before and after. Others, and texts without such a place, are encoded whole.

- The pre-tokenizer is that of `train.py` or one of `WORDS`: none of their alternatives has a letter followed by one
  of `SIGNS`, none looks back, and none that ends at the letter looks further ahead than to the end of the letters.
- There is no pre-tokenizer (Llama's kind): BPE cannot join two characters when no merge has a left side that ends in
  the one and a right side that begins with the other. The mark that such a tokenizer puts before a text is cut off
  the parts that follow the first, where it cannot join either.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# Letters of every version of Unicode: an engine that did not know one would take it for a sign.
LETTERS = "A-Za-z\u0391-\u03a1\u03b1-\u03c9\u0410-\u044f\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3"
# No apostrophe (don't is one word to some), no hyphen, no underscore, no digits.
SIGNS = ' \t\r\n,.;:!?()[]{}<>=+*/"，。；：！？、（）《》「」“”'
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
WORDS = (GPT2, LLAMA3, LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"))
# Letters, signs and what may follow, in all combinations; each place where it is cut is compared with the whole.
PROBE = "".join(
    f"{a}{sign}{b}" for sign in SIGNS for a in "aZ天" for b in ("b", "天", "1", "  c", "\r\n\r\nd", "..", "'s")
)


@dataclass(frozen=True)
class Seams:
    """`pattern` matches, without a width, where a text can be cut; so many of the first ids of each part but the
    first are not the text's; `between_words`: each word is encoded on its own."""

    pattern: re.Pattern[str]
    extra_ids: int
    between_words: bool

    def parts(self, chunks: Iterable[str]) -> Iterator[str]:
        """The text of `chunks` cut at seams, at the last one of each chunk that has any."""
        held: list[str] = []
        for chunk in filter(None, chunks):
            before = held[-1][-1:] if held else ""
            cut = self._last(before + chunk)
            if cut:
                yield "".join([*held, chunk[: cut - len(before)]])
                held = []
            held.append(chunk[cut - len(before) if cut else 0 :])
        if held:
            yield "".join(held)

    def _last(self, text: str) -> int:
        """Where the last seam is; 0 if there is none. Most often the end of the text has one."""
        for start in (max(0, len(text) - 2_000), 0):
            seams = [seam.start() for seam in self.pattern.finditer(text, start)]
            if seams:
                return seams[-1]
        return 0


def seams_of(backend: Any) -> Seams | None:
    """The seams of a `tokenizers.Tokenizer`; None if it is of no kind that is known to have any."""
    described = json.loads(backend.to_str())
    added = [token for token in described["added_tokens"] if not token["special"]]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
        return None
    within = "".join(token["content"] for token in added)
    normalizers = members(described["normalizer"], "normalizers")
    pre_tokenizers = members(described["pre_tokenizer"], "pretokenizers")
    prefix, replaced = "", {}
    for one in normalizers:
        if one["type"] == "Prepend":
            prefix = one["prepend"]
        elif one["type"] == "Replace" and len(one["pattern"].get("String", "")) == 1:
            replaced[one["pattern"]["String"]] = one["content"]
        elif one["type"] != "NFC":
            return None
    if len(pre_tokenizers) == 1 and pre_tokenizers[0]["type"] == "Metaspace" and not pre_tokenizers[0]["split"]:
        mark = pre_tokenizers[0]["replacement"]
        prefix, replaced = "" if pre_tokenizers[0]["prepend_scheme"] == "never" else mark, {**replaced, " ": mark}
        pre_tokenizers = []
    signs = [sign for sign in SIGNS if sign not in within and sign not in replaced]
    if not pre_tokenizers:
        pattern = _unjoinable(described["model"], signs, prefix)
    elif _cuts_into_words(pre_tokenizers) and not prefix and not re.search(f"[{LETTERS}]", "".join(replaced)):
        pattern = f"(?<=[{LETTERS}])(?=[{re.escape(''.join(signs))}])" if signs else ""
    else:
        return None
    if not pattern:
        return None
    seams = Seams(re.compile(pattern), len(prefix), bool(pre_tokenizers))
    return seams if _holds(seams, backend) else None


def members(described: Any, key: str) -> list[dict[str, Any]]:
    """The normalisers or pre-tokenizers that one of tokenizer.json is made of."""
    if described is None:
        return []
    return described[key] if described["type"] == "Sequence" else [described]


def _cuts_into_words(pre_tokenizers: Sequence[dict[str, Any]]) -> bool:
    """Whether all of them are known, and one of them cuts between words."""
    from data_recipes.tokens.train import PIECES

    found = False
    for one in pre_tokenizers:
        if one["type"] == "Split":
            if one["pattern"].get("Regex") not in (PIECES, *WORDS) or one["behavior"] != "Isolated" or one["invert"]:
                return False
            found = True
        elif one["type"] == "ByteLevel":
            if one["add_prefix_space"]:
                return False
            found = found or one["use_regex"]
        elif one["type"] != "Digits":
            return False
    return found


def _unjoinable(model: dict[str, Any], signs: Sequence[str], prefix: str) -> str:
    """A pattern of the places between a letter and a sign that BPE never joins, nor the prefix with the sign."""
    if model["type"] != "BPE" or len(prefix) > 1 or (prefix and prefix not in model["vocab"]):
        return ""
    if any(model.get(key) for key in ("dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")):
        return ""
    vocabulary = model["vocab"]
    merges = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
    bytes_join = any(BYTE.match(side) for merge in merges for side in merge)
    before: dict[str, set[str]] = {sign: set() for sign in signs}
    for left, right in merges:
        if right[0] in before:
            before[right[0]].add(left[-1])
    letters = {token for token in vocabulary if re.fullmatch(f"[{LETTERS}]", token)}
    patterns = []
    for sign, joined in before.items():
        as_byte = model.get("byte_fallback") and not bytes_join and f"<0x{ord(sign):02X}>" in vocabulary
        if letters - joined and not (prefix and prefix in joined) and (sign in vocabulary or as_byte):
            patterns.append(f"(?<=[{''.join(sorted(letters - joined))}])(?={re.escape(sign)})")
    return "|".join(patterns)


def _holds(seams: Seams, backend: Any) -> bool:
    """Whether the ids of a text cut wherever it can be are those of the whole."""
    whole = backend.encode(PROBE, add_special_tokens=False).ids
    cuts = [0, *(seam.start() for seam in seams.pattern.finditer(PROBE)), len(PROBE)]
    ids: list[int] = []
    for start, stop in pairwise(cuts):
        ids += backend.encode(PROBE[start:stop], add_special_tokens=False).ids[seams.extra_ids if start else 0 :]
    return ids == whole
