"""What the back ends are compared with `tokenizers` on: hard texts before a build, and a sample of every unit."""

from collections.abc import Iterator, Sequence

from data_recipes.reading.documents import LongText, chunks_of
from data_recipes.tokens.tokenizer import LoadedTokenizer

# From each unit about so many characters of whole documents are encoded twice; `tokenizers` does 2 MB/s a core.
CHECKED_CHARACTERS = 8_000
PROBES = [
    "The price rose from 1,024.5 to 98765;  naïve café 天地玄黄，宇宙洪荒。 🙂\n\tdef f(x):\n        return x ** 2\n",
    "  leading and trailing  \n\n\n\ttabs\t\t",
    "don't I'll we've they'RE 'tis",
    "x" * 300 + "0" * 300,
    "ﬁ Ａ１ é é ̈ \u200b\u200d\u3000。 नमस्ते สวัสดี مرحبا 👩‍👩‍👧‍👦 🇨🇳",
    "\r\n\r\nline\rend\x0b\x0c\x85\u2028\u2029",
    "a\x00b\x01\x7f\ufffd\U0010ffff",
    "1234567890 3.14159 1e-15 0x1F ½ ² ٣",
]


class Mismatch(Exception):
    """A back end's ids differ from those of `tokenizers`."""


def probes_of(tokenizer: LoadedTokenizer) -> list[str]:
    """Texts that a back end is tried on before anything: hard ones, and control tokens in the middle of others."""
    return [*PROBES, *(f"a{token}b {token}" for token in tokenizer.control_tokens)]


def sample_places(texts: Sequence[str]) -> Iterator[int]:
    """Documents from all over a batch, of `CHECKED_CHARACTERS` together, each of a quarter of that at most."""
    held = 0
    for place in range(0, len(texts), max(1, len(texts) // 16)):
        if len(texts[place]) <= CHECKED_CHARACTERS // 4:
            yield place
            held += len(texts[place])
        if held >= CHECKED_CHARACTERS:
            return


def sample_of(text: str | LongText) -> list[str]:
    """What a long document begins with, as texts short enough to be compared."""
    head = next(iter(chunks_of(text)))[:CHECKED_CHARACTERS]
    size = CHECKED_CHARACTERS // 4
    return [head[start : start + size] for start in range(0, len(head), size)]
