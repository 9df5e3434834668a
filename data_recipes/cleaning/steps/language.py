"""The language of a text, and how much of the text is in it.

Pieces of some lines, spread evenly over the text, are identified one by one. The language that most of their letters
are in is that of the text, and the share of letters in it its `language_share`: a page of two languages has one of
about a half. Text by script alone (Chinese, Japanese, Korean) needs no model; the rest is py3langid's, which knows 142
languages and calls what is none (code, tables of numbers) `zxx`.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numba
import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.steps.base import Batch, Step, StepSettings, Threshold
from data_recipes.errors import DataError

UNKNOWN = "und"
"""No letters, or a language that the model is not sure of."""
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
# A Chinese text names firms and units in Latin letters. Japanese is at least a fifth kana outside of lists of names.
_SCRIPT_SHARE, _KANA_SHARE = 0.5, 0.1
# An ideograph says about as much as 3 letters.
_IDEOGRAPH_LETTERS = 3


Code = Annotated[str, Field(pattern="^[a-z]{2,3}$")]


class LanguageSettings(StepSettings):
    step: Literal["language"] = "language"
    pieces: int = Field(5, ge=1)
    piece_characters: int = Field(200, ge=20)
    """5 pieces of 200 characters tell languages apart as well as the whole text (`benchmarks/cleaning_rules.py`)."""
    languages: Annotated[tuple[Code, ...] | None, Threshold()] = None
    """ISO 639 codes that are kept; null: any."""
    min_share: Annotated[float | None, Field(ge=0, le=1), Threshold()] = 0.65
    """FineWeb asks fastText for a probability of 0.65; ours is a share of the text, at the same figure."""


class Language(Step[LanguageSettings]):
    name: ClassVar[str] = "language"
    Settings = LanguageSettings

    def inputs(self) -> dict[str, str]:
        """The model's version. `DataError` for a language that is never found, which would drop every document."""
        known = [*_model().languages, "zh", "ja", "ko", UNKNOWN]
        for code in self.settings.languages or ():
            if code not in known:
                raise DataError(f"step 'language': no language '{code}'; expected ISO 639-1 codes such as en, zh, ja.")
        return {"py3langid": version("py3langid"), "Unicode": unicodedata.unidata_version}

    def schema(self) -> pa.Schema:
        return pa.schema([("language", pa.string()), ("language_share", pa.float64())])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        cut = [spread_pieces(text, self.settings.pieces, self.settings.piece_characters) for text in batch.texts]
        found = iter(identify([piece for pieces in cut for piece in pieces]))
        main = [_main_language([next(found) for _ in pieces]) for pieces in cut]
        return {"language": [language for language, _ in main], "language_share": [share for _, share in main]}

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        wanted, least = self.settings.languages, self.settings.min_share
        names = " or ".join(wanted or ())
        reasons: list[str | None] = []
        for language, share in zip(signals["language"].to_pylist(), signals["language_share"].to_pylist(), strict=True):
            if wanted is not None and language not in wanted:
                reasons.append(f"not in {names}")
            elif least is not None and share < least:
                reasons.append(f"less than {least:.0%} in one language")
            else:
                reasons.append(None)
        return reasons

    def limits(self) -> dict[str, list[float]]:
        return {} if self.settings.min_share is None else {"language_share": [self.settings.min_share]}


def spread_pieces(text: str, pieces: int, characters: int) -> list[str]:
    """At most `pieces` parts of a text, evenly spread, of about `characters`; all of it if that is no more."""
    if len(text) <= pieces * characters:
        return [text[start : start + characters] for start in range(0, len(text), characters)]
    step = (len(text) - characters) / max(pieces - 1, 1)
    return [text[start : start + characters] for start in (int(step * piece) for piece in range(pieces))]


def _main_language(found: Sequence[tuple[str, int]]) -> tuple[str, float]:
    """The language of most letters and its share of them, of (language, letters) by piece."""
    letters: dict[str, int] = {}
    for language, weight in found:
        letters[language] = letters.get(language, 0) + weight
    total = sum(letters.values())
    if not total:
        return UNKNOWN, 0.0
    language, most = max(letters.items(), key=lambda item: (item[1], item[0]))
    return language, most / total


def identify(pieces: Sequence[str]) -> list[tuple[str, int]]:
    """The language of each piece of text, and the letters in it, ideographs counted as several."""
    found = [_by_script(piece) for piece in pieces]
    others = [place for place, (language, _) in enumerate(found) if language is None]
    languages = dict(zip(others, _by_model([pieces[place] for place in others]), strict=True))
    return [(language or languages[place], letters) for place, (language, letters) in enumerate(found)]


def _by_script(piece: str) -> tuple[str | None, int]:
    letters = sum(map(str.isalpha, piece))
    if not letters:
        return UNKNOWN, 0
    if piece.isascii():
        return None, letters
    chinese, kana, hangul = (len(pattern.findall(piece)) for pattern in (_CHINESE, _KANA, _HANGUL))
    letters += (_IDEOGRAPH_LETTERS - 1) * (chinese + kana + hangul)
    if _IDEOGRAPH_LETTERS * (chinese + kana) > _SCRIPT_SHARE * letters:
        return ("ja" if kana > _KANA_SHARE * (chinese + kana) else "zh"), letters
    if _IDEOGRAPH_LETTERS * hangul > _SCRIPT_SHARE * letters:
        return "ko", letters
    return None, letters


def _by_model(pieces: Sequence[str]) -> list[str]:
    """As `py3langid.classify` of each piece."""
    if not pieces:
        return []
    model = _model()
    # As py3langid prepares text.
    lower = (piece.lower() if piece.isupper() else piece for piece in pieces)
    encoded = [unicodedata.normalize("NFC", piece).encode("utf-8", "surrogatepass") for piece in lower]
    bounds = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in encoded], out=bounds[1:])
    scores = np.zeros((len(encoded), len(model.prior)), dtype=np.float32)
    known = _score(
        *(np.frombuffer(b"".join(encoded), dtype=np.uint8), bounds, model.moves, model.rows, model.features),
        *(model.weights, model.prior, scores),
    )
    # Languages that the model has once for each script count together, as probabilities.
    scores /= np.sqrt(np.maximum(np.diff(bounds), 1))[:, None]
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    for first, second in model.same:
        likely[:, first] += likely[:, second]
        likely[:, second] = 0
    best = likely.argmax(axis=1)
    return [model.languages[place] if some else UNKNOWN for place, some in zip(best, known, strict=True)]


class _Model(NamedTuple):
    moves: np.ndarray  # the next state, by row of a state and byte
    rows: np.ndarray  # the row of each state
    features: np.ndarray  # that a state completes, -1 if none
    weights: np.ndarray  # float32 [features, languages]
    prior: np.ndarray
    languages: list[str]
    same: list[tuple[int, int]]


@cache
def _model() -> _Model:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 0.5 s and 100 MB

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    places: dict[str, int] = {}
    same = [(places[name], n) for n, name in enumerate(model.nb_classes) if places.setdefault(name, n) != n]
    return _Model(
        moves=np.asarray(model.tk_nextmove),
        rows=np.asarray(model.tk_row).astype(np.int64),
        features=np.asarray(model.tk_output, dtype=np.int32),
        weights=np.ascontiguousarray(model.nb_ptc, dtype=np.float32),
        prior=np.asarray(model.nb_pc, dtype=np.float32),
        languages=model.nb_classes,
        same=same,
    )


@numba.njit(cache=True, nogil=True)
def _score(data, bounds, moves, rows, features, weights, prior, scores):  # pragma: no cover - compiled
    """Naive Bayes over the logarithms of counts of byte n-grams; returns whether a piece had any that is known."""
    known = np.zeros(len(bounds) - 1, dtype=np.bool_)
    counts = np.zeros(len(weights), dtype=np.int64)
    met = np.empty(len(weights), dtype=np.int64)
    for piece in range(len(bounds) - 1):
        state = 0
        kinds = 0
        for place in range(bounds[piece], bounds[piece + 1]):
            state = moves[(rows[state] << 8) + data[place]]
            feature = features[state]
            if feature >= 0:
                if counts[feature] == 0:
                    met[kinds] = feature
                    kinds += 1
                counts[feature] += 1
        known[piece] = kinds > 0
        scores[piece] = prior
        for kind in range(kinds):
            feature = met[kind]
            factor = np.float32(np.log1p(counts[feature]))
            for language in range(len(prior)):
                scores[piece, language] += factor * weights[feature, language]
            counts[feature] = 0
    return known
