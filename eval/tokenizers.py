"""Compression of tokenizers by domain, as in the report's Table 2: UTF-8 bytes of text that a token stands for.

The report's text is not public, so its numbers stand beside ours for the order of tokenizers, not for their values.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_recipes.corpus.domain_texts import texts_by_domain
from data_recipes.errors import first_line
from data_recipes.files import write_whole
from data_recipes.manifest import claim_folder, fingerprint_of, folder_state
from eval import published_scores as published
from eval.errors import EvalError
from eval.published_table import Sheet
from eval.score_page import markdown
from eval.score_plots import OWN_COLOUR, PUBLISHED_COLOUR, YULAN_COLOUR, canvas, svg

KIND = "tokenizers"
RESULT, TABLE, FIGURE = "tokenizers.json", "tokenizers.md", "tokenizers.svg"
# Domains of a corpus folder (and what else people call them) that Table 2 has a column for.
TABLE_2 = {"web": "web", "web-en": "web", "web-zh": "chinese", "chinese": "chinese", "math": "math", "code": "code"}
NOTE = (
    "Bytes a token, higher is better. The text of Table 2 and its exact definition are not public: compare the order "
    "of tokenizers there, and numbers only among those measured here."
)
OWN_COLOURS = (OWN_COLOUR, "#0d9678", "#c060b8", "#8a6d1f", "#c23b3b")
MARKERS = "os*^v<>p"


@dataclass(frozen=True)
class Compression:
    """Of one tokenizer: `bytes_per_token` by domain, `unknown` tokens by domain that stand for text that is lost."""

    name: str
    vocabulary: int
    fingerprint: str
    bytes_per_token: dict[str, float]
    tokens: dict[str, int]
    unknown: dict[str, int]


@dataclass(frozen=True)
class Text:
    """What is tokenised: texts by domain, the first `bytes_per_domain` bytes of each."""

    texts: dict[str, list[str]]

    @classmethod
    def read(cls, place: Path, *, bytes_per_domain: int) -> "Text":
        return cls(texts_by_domain(place, bytes_per_domain=bytes_per_domain))

    @property
    def sizes(self) -> dict[str, int]:
        return {domain: sum(len(text.encode()) for text in texts) for domain, texts in self.texts.items()}


def measure(names: Sequence[str], text: Text, *, progress: bool = False) -> list[Compression]:
    """Each tokenizer, a folder or a Hub id, on the whole text; `EvalError` for one that cannot be loaded."""
    if not names:
        raise EvalError("no tokenizer given; name folders or Hub ids.")
    tokenizers = {name: load(name) for name in dict.fromkeys(names)}
    shown = short_names(list(tokenizers))
    found = []
    with tqdm(total=len(tokenizers) * len(text.texts), desc="tokenising", unit="domain", disable=not progress) as bar:
        for short, tokenizer in zip(shown, tokenizers.values(), strict=True):
            tokens, unknown = {}, {}
            for domain, texts in text.texts.items():
                # "<unk>" in a text is five characters like others.
                plain = {"add_special_tokens": False, "split_special_tokens": True}
                ids = [token for one in texts for token in tokenizer.encode(one, **plain)]
                tokens[domain] = len(ids)
                unknown[domain] = 0 if tokenizer.unk_token_id is None else ids.count(tokenizer.unk_token_id)
                bar.update()
            rates = {domain: size / max(tokens[domain], 1) for domain, size in text.sizes.items()}
            found.append(Compression(short, len(tokenizer), identity(tokenizer), rates, tokens, unknown))
    return found


def load(name: str) -> Any:
    """A tokenizer, without code of its own."""
    from transformers import AutoTokenizer

    folder = Path(name)
    if folder.is_file():
        raise EvalError(f"{name}: a file, expected the folder with tokenizer.json, or a Hub id.")
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise EvalError(f"{name}: no such folder. Give a folder with tokenizer.json, or a Hub id (owner/name).")
    try:
        # No length to warn about: texts are tokenised whole.
        return AutoTokenizer.from_pretrained(name, model_max_length=10**12)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EvalError(f"{name}: its tokenizer cannot be loaded ({first_line(error)}).") from error
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise EvalError(f"{name}: its tokenizer cannot be read ({first_line(error)}).") from error


def identity(tokenizer: Any) -> str:
    """A hash of what decides the tokens: the tokenizer's own JSON where it has one, else its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return fingerprint_of(tokenizer.get_vocab() if backend is None else backend.to_str())


def short_names(names: Sequence[str]) -> list[str]:
    """The last part of each name where these differ, else the whole names."""
    short = [Path(name).resolve().name if Path(name).is_dir() else name.rpartition("/")[2] for name in names]
    return short if len(set(short)) == len(short) else list(names)


def sheet_of(found: Sequence[Compression]) -> Sheet:
    """Table 2 with the measured tokenizers below it."""
    domains = list(found[0].bytes_per_token)
    made = Sheet("Tokenizers, beside Table 2", ["tokenizer", "vocabulary", *domains])
    (table,) = published.tables(published.TOKENIZERS)
    for name, row in table.scores.items():
        cells = dict(zip(table.columns, row, strict=True))
        rates = [cells.get(TABLE_2.get(domain, "")) for domain in domains]
        made.rows.append(
            [name, f"{cells['vocabulary']:,.0f}", *("" if rate is None else f"{rate:.3f}" for rate in rates)]
        )
        made.measured.append(False)
    for one in found:
        rates_of = [f"{one.bytes_per_token[domain]:.3f}" for domain in domains]
        made.rows.append([one.name, f"{one.vocabulary:,}", *rates_of])
        made.measured.append(True)
    made.notes = [NOTE, f"Published numbers: {table.source}."]
    for one in found:
        if lost := {domain: count / one.tokens[domain] for domain, count in one.unknown.items() if count}:
            listed = ", ".join(f"{domain} {share:.2%}" for domain, share in lost.items())
            made.notes.append(
                f"{one.name} does not know some text: unknown tokens, {listed}. That looks like compression."
            )
    return made


def draw(found: Sequence[Compression]) -> str:
    """Bytes a token by domain, a point a tokenizer; those of Table 2 pale, where it has the domain."""
    domains = list(found[0].bytes_per_token)
    (table,) = published.tables(published.TOKENIZERS)
    height = 1.6 + 0.62 * len(domains)
    with canvas(7.6, max(height, 3.4)) as (figure, axis):
        for marker, (name, row) in zip(MARKERS, table.scores.items(), strict=False):
            cells = dict(zip(table.columns, row, strict=True))
            points = [
                (float(rate), place + 0.17)
                for place, domain in enumerate(domains)
                if (rate := cells.get(TABLE_2.get(domain, ""))) is not None
            ]
            if points:
                label = f"{name} (Table 2)"
                colour = YULAN_COLOUR if "YuLan" in name else PUBLISHED_COLOUR
                style = {"markerfacecolor": "none", "markersize": 5, "color": colour, "linestyle": ""}
                axis.plot(*zip(*points, strict=True), marker=marker, label=label, **style)
        for index, one in enumerate(found):
            rates = [one.bytes_per_token[domain] for domain in domains]
            places = [place - 0.17 for place in range(len(domains))]
            colour = OWN_COLOURS[index % len(OWN_COLOURS)]
            axis.plot(rates, places, marker="D", linestyle="", color=colour, label=one.name)
        axis.set_yticks(range(len(domains)), domains)
        axis.set_ylim(len(domains) - 0.5, -0.5)
        axis.set_xlabel("UTF-8 bytes a token")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(figure)


def write(out: Path, found: Sequence[Compression], text: Text, *, bytes_per_domain: int) -> dict[str, Any]:
    """Write `out`/tokenizers.json, .md and .svg; returns what is in the first."""
    result = as_json(found, text)
    claim_folder(out, kind=KIND, made_from=made_from(text, bytes_per_domain=bytes_per_domain))
    write_whole(out / RESULT, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    write_whole(out / TABLE, markdown([sheet_of(found)]))
    write_whole(out / FIGURE, draw(found))
    return result


def check_out(out: Path, text: Text, *, bytes_per_domain: int) -> None:
    """`DataError` for a folder that holds something else, before anything is tokenised."""
    folder_state(out, kind=KIND, made_from=made_from(text, bytes_per_domain=bytes_per_domain))


def made_from(text: Text, *, bytes_per_domain: int) -> Mapping[str, Any]:
    return {"text": fingerprint_of(text.texts), "bytes_per_domain": bytes_per_domain}


def as_json(found: Sequence[Compression], text: Text) -> dict[str, Any]:
    """Everything measured, with the published numbers and their source."""
    return {
        "measure": "UTF-8 bytes a token",
        "text": {"fingerprint": fingerprint_of(text.texts), "bytes": text.sizes},
        "tokenizers": [asdict(one) for one in found],
        "published": published.as_json(published.TOKENIZERS),
    }
