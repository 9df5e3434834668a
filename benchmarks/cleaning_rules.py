"""The heuristic filters of cleaning: documents a second on one core, beside datatrove's; how well languages are told.

    python benchmarks/cleaning_rules.py rules
    python benchmarks/cleaning_rules.py languages

`rules`: the steps on texts of web length, and datatrove's Gopher and FineWeb filters on the same (extra `cluster`), its
English word splitter, spaCy, replaced by splitting at white space; then both on the same words, for agreement.
`languages`: on the message catalogues of this machine, beside py3langid, whose model it is. Each part writes its
results into results/cleaning_rules.json.
"""

import argparse
import gettext
import json
import random
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cleaning import MEAN_CHARACTERS, pages, seconds

RESULTS = Path(__file__).with_name("results") / "cleaning_rules.json"


def lines_of(text: str) -> str:
    """A page as paragraphs: a line of some sentences, as extraction from HTML gives."""
    sentences_of = re.split(r"(?<=[.:]) ", text)
    return "\n".join(" ".join(sentences_of[first : first + 4]) for first in range(0, len(sentences_of), 4))


def measure_rules(arguments: argparse.Namespace) -> dict[str, Any]:
    import pyarrow as pa

    from data_recipes.cleaning.config import load_cleaning_config, step_kinds
    from data_recipes.cleaning.steps.base import Batch, Rewrite

    texts = [lines_of(text) for text in pages(arguments.documents, mean=MEAN_CHARACTERS, seed=1)]
    filters = {step.settings.step: step for step in load_cleaning_config("web-en").steps}
    names = ("tidy-text", "web-lines", "language", "web-rules")
    others = {name: step_kinds()[name] for name in ("web-rules-zh", "code-rules", "math-rules", "book-rules", "kind")}
    chosen = {name: filters[name] for name in names}
    chosen |= {name: kind(kind.Settings(step=name)) for name, kind in others.items()}

    def batch_of(some: list[str]) -> Any:
        return Batch("web", ["page.py"] * len(some), some, {})

    def act(step: Any) -> None:
        for start in range(0, len(texts), 1000):
            batch = batch_of(texts[start : start + 1000])
            step.rewrite(batch) if isinstance(step, Rewrite) else step.signals(batch)

    found: dict[str, Any] = {}
    for name, step in chosen.items():
        (step.rewrite if isinstance(step, Rewrite) else step.signals)(batch_of(texts[:10]))
        found[name] = {"seconds": seconds(lambda step=step: act(step))}
    rules = chosen["web-rules"]
    table = pa.table(rules.signals(batch_of(texts)), schema=rules.schema())
    found["verdicts of web-rules"] = {"seconds": seconds(lambda: rules.reasons("web", table))}
    found["together, as web-en"] = {
        "seconds": sum(found[name]["seconds"] for name in (*names, "verdicts of web-rules"))
    }
    judges = datatrove_filters(str.split)
    some = texts[: len(texts) // 4]
    found["datatrove Gopher and FineWeb"] = {"seconds": 4 * seconds(lambda: datatrove_verdicts(judges, some))}
    only_rules = found["web-rules"]["seconds"] + found["verdicts of web-rules"]["seconds"]
    ratio = found["datatrove Gopher and FineWeb"]["seconds"] / only_rules
    for entry in found.values():
        entry["documents/s"] = round(len(texts) / entry["seconds"])
        entry["seconds"] = round(entry["seconds"], 3)
    return {
        "documents": len(texts),
        "mean characters": round(statistics.mean(map(len, texts))),
        "what": found,
        "web-rules over datatrove": round(ratio, 1),
        "agreement on the same words": agreement_of_rules(some),
    }


def datatrove_filters(split: Callable[[str], list[str]]) -> list[Any]:
    """Its three filters, words split by `split` in the place of spaCy."""
    from datatrove.pipeline.filters import fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter

    for module in (fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter):
        module.split_into_words = lambda text, language: split(text)
    return [
        gopher_quality_filter.GopherQualityFilter(),
        gopher_repetition_filter.GopherRepetitionFilter(),
        fineweb_quality_filter.FineWebQualityFilter(),
    ]


def datatrove_verdicts(judges: list[Any], texts: list[str]) -> list[bool]:
    """Whether all keep each text; the first that does not is the last that is asked."""
    from datatrove.data import Document

    return [all(judge.filter(Document(text, "x")) is True for judge in judges) for text in texts]


def agreement_of_rules(texts: list[str]) -> dict[str, Any]:
    """Verdicts of ours, at datatrove's limits, and of datatrove on our words."""
    import pyarrow as pa

    from data_recipes.cleaning.steps.base import Batch
    from data_recipes.cleaning.steps.web_rules import WebRules, WebRulesSettings
    from data_recipes.cleaning.words import split_words

    def our_words(text: str) -> list[str]:
        words = split_words([text])
        return [text[start:end].lower() for start, end in zip(words.starts, words.ends, strict=True)]

    c4 = dict.fromkeys(("max_lorem_ipsum", "max_curly_per_word", "min_sentences"))
    step = WebRules(WebRulesSettings(max_copied_line_characters=0.01, **c4))
    signals = pa.table(step.signals(Batch("web", [""] * len(texts), texts, {})), schema=step.schema())
    ours = [reason is None for reason in step.reasons("web", signals)]
    theirs = datatrove_verdicts(datatrove_filters(our_words), texts)
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return {"documents": len(texts), "kept by datatrove": sum(theirs), "same verdict": same}


def measure_languages(arguments: argparse.Namespace) -> dict[str, Any]:
    """On texts of 1,500 characters of messages whose catalogue says their language."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    from data_recipes.cleaning.steps.base import Batch
    from data_recipes.cleaning.steps.language import Language, LanguageSettings

    theirs = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    texts = [(code, text) for code, text in catalogue_texts() if code in theirs.labels]
    step = Language(LanguageSettings())
    batch = Batch("s", [""] * len(texts), [text for _, text in texts], {})
    told = step.signals(batch)["language"]
    some = texts[::10]
    ours, reference = seconds(lambda: step.signals(batch)), seconds(lambda: [theirs.classify(text) for _, text in some])
    right = {code: 0 for code, _ in texts}
    for (code, _), language in zip(texts, told, strict=True):
        right[code] += code == language
    wrong = {code: sum(one == code for one, _ in texts) - count for code, count in right.items()}
    return {
        "documents": len(texts),
        "languages": len(right),
        "right": round(sum(right.values()) / len(texts), 4),
        "wrong of 20 by language": {code: count for code, count in sorted(wrong.items()) if count},
        "documents/s": round(len(texts) / ours),
        "documents/s of py3langid on the whole text": round(len(some) / reference),
    }


def catalogue_texts() -> Iterator[tuple[str, str]]:
    """(ISO 639 code, text of about 1,500 characters) from the message catalogues of this machine, 20 a language."""
    messages: dict[str, dict[str, None]] = {}
    for path in sorted(Path("/usr/share/locale").glob("*/LC_MESSAGES/*.mo")):
        try:
            with path.open("rb") as file:
                catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        except (OSError, ValueError, LookupError):
            continue
        code = re.split("[_@]", path.parts[-3])[0]
        for message, text in catalogue.items():
            if isinstance(text, str) and message and text != message and len(text) > 40:
                messages.setdefault(code, {})[text] = None
    for code, texts in messages.items():
        shuffled = random.Random(1).sample(list(texts), len(texts))
        text, count = "", 0
        for message in shuffled:
            text += message + "\n"
            if len(text) > 1500 and count < 20:
                yield code, text
                text, count = "", count + 1


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "rules": measure_rules,
    "languages": measure_languages,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--documents", type=int, default=4000)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from data_recipes.machine import this_machine

    result = {**PARTS[arguments.part](arguments), "machine": this_machine()}
    print(json.dumps(result, indent=2))
    whole = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    RESULTS.write_text(json.dumps({**whole, arguments.part: result}, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
