"""What packed phases say of the text in them: by domain, language and source, with what was dropped and left out.

Every function takes the manifests of the phases by their names, as `mixes` finds them.
"""

from collections.abc import Collection, Iterator
from typing import Any

from data_recipes.manifest import MANIFEST_NAME
from data_recipes.recipes.phases import phase_key
from hub_cards.cards.evidence import Figures, Operand, join
from hub_cards.cards.page import Name, Table

# What the Hub calls the languages of sources; where a source names none, its domain decides.
LANGUAGES = {"en": "en", "zh": "zh", "code": "code", "multi": "multilingual"}
NOT_STATED = "not stated"
LANGUAGE_OF_DOMAIN = {"web-en": "en", "web-zh": "zh", "code": "code"}
NO_DOMAIN = "no domain"
# The domains of the published mixes, as a reader would say them.
DOMAINS = {
    "web-en": "web pages, English",
    "web-zh": "web pages, Chinese",
    "code": "code",
    "math": "mathematics",
    "books-papers-encyclopedia": "books, papers, encyclopedias",
    "instruction-synthetic": "instructions and made-up text",
}
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese", "code": "code"}
Mixes = dict[str, str]


def mixes(figures: Figures, phases: Collection[str] | None = None) -> Mixes:
    """The manifest of each phase by its name, in training order; with `phases` of those only."""
    found = {mix.name: f"{figures.run.data}/{mix.name}/{MANIFEST_NAME}" for mix in figures.run.phase_folders()}
    if phases is not None:
        found = {name: file for name, file in found.items() if phase_key(name) in phases}
    for file in found.values():
        figures.value(file)
    return found


def domain_name(domain: str) -> Name:
    """What a reader calls a domain."""
    return Name(DOMAINS.get(domain, domain))


def subsets(figures: Figures, file: str) -> Iterator[tuple[Operand, dict[str, Any]]]:
    """The place of the tokens of each subset of a phase, and the subset."""
    for index, subset in enumerate(figures.value(file, "/subsets")):
        yield (file, join("subsets", index, "tokens")), subset


def all_tokens(phases: Mixes) -> Operand:
    """The tokens of all phases."""
    return "sum", [(file, "/counts/tokens") for file in phases.values()]


def sources(figures: Figures, phases: Mixes) -> list[dict[str, Any]]:
    """Each source once, as the last phase that drew from it records it, with where that is (`file`, `at`) and the
    places of all tokens drawn from it (`tokens`)."""
    found: dict[str, dict[str, Any]] = {}
    tokens: dict[str, list[Operand]] = {}
    for file in phases.values():
        names = {}
        for index, source in enumerate(figures.value(file, "/sources")):
            found[source["fingerprint"]] = {**source, "file": file, "at": join("sources", index)}
            names[source["name"]] = source["fingerprint"]
        for at, subset in subsets(figures, file):
            if subset["tokens"]:
                tokens.setdefault(names[subset["source"]], []).append(at)
    return [{**source, "tokens": tokens.get(key, [])} for key, source in found.items()]


def source_table(figures: Figures, phases: Mixes) -> Table:
    """Each source with its licence and its share."""
    whole = all_tokens(phases)
    rows = []
    for source in sources(figures, phases):
        epochs = figures.figure(source["file"], f"{source['at']}/epochs", ".2f") if source["epochs"] else "below one"
        names = (source["name"], source["revision"] or "local files", source["licence"] or NOT_STATED)
        share = figures.derived("ratio", [("sum", source["tokens"]), whole], ".1%")
        rows.append([*map(Name, names), share, epochs, Name(f"`{source['fingerprint'][:16]}`")])
    headers = ["source", "revision", "licence", "share of the tokens", "epochs", "content fingerprint"]
    return {"headers": headers, "rows": rows, "left": ["revision", "licence"]}


def domain_table(figures: Figures, phases: Mixes) -> Table:
    """Tokens of each domain over all phases, and their share."""
    tokens: dict[str, list[Operand]] = {}
    for file in phases.values():
        for at, subset in subsets(figures, file):
            tokens.setdefault(subset["domain"] or NO_DOMAIN, []).append(at)
    whole = all_tokens(phases)
    rows = [
        [domain_name(domain), figures.derived("sum", at), figures.derived("ratio", [("sum", at), whole], ".1%")]
        for domain, at in tokens.items()
    ]
    return {"headers": ["kind of text", "tokens", "share"], "rows": rows}


def domain_shares(figures: Figures, phases: Mixes) -> dict[str, list[Operand]]:
    """The share of each domain in each phase."""
    found: dict[str, list[Operand]] = {}
    domains = dict.fromkeys(s["domain"] or NO_DOMAIN for file in phases.values() for _, s in subsets(figures, file))
    for file in phases.values():
        places = list(subsets(figures, file))
        for domain in domains:
            part = [at for at, subset in places if (subset["domain"] or NO_DOMAIN) == domain]
            found.setdefault(domain, []).append(("ratio", [("sum", part), (file, "/counts/tokens")]))
    return found


def mixture_table(figures: Figures, phases: Mixes) -> Table:
    """The shares of the domains, a line a phase."""
    shares = domain_shares(figures, phases)
    rows = [
        [Name(name), *(figures.of(places[index], ".1%") for places in shares.values())]
        for index, name in enumerate(phases)
    ]
    return {"headers": ["config", *map(domain_name, shares)], "rows": rows}


def tokens_by_language(figures: Figures, phases: Mixes) -> dict[str, list[Operand]]:
    """The places of the tokens of each language, the language with most first."""
    tokens: dict[str, list[Operand]] = {}
    for file in phases.values():
        languages = {source["name"]: source["entry"].get("language") for source in figures.value(file, "/sources")}
        for at, subset in subsets(figures, file):
            if subset["tokens"]:
                language = languages[subset["source"]] or LANGUAGE_OF_DOMAIN.get(subset["domain"] or "")
                tokens.setdefault(LANGUAGES[language] if language else NOT_STATED, []).append(at)
    return dict(sorted(tokens.items(), key=lambda item: -figures.evaluate(("sum", item[1]))))


def languages_in_words(figures: Figures, phases: Mixes) -> str:
    """Such as "English and Chinese text and code", by how much there is; "text" where no language is known."""
    names = [LANGUAGE_NAMES[one] for one in tokens_by_language(figures, phases) if one in LANGUAGE_NAMES]
    text = [name for name in names if name != "code"]
    return (" and ".join(text) + " text" if text else "text") + (" and code" if "code" in names else "")


def language_table(figures: Figures, phases: Mixes) -> Table:
    """Tokens of each language, and their share."""
    whole = all_tokens(phases)
    rows = [
        [language, figures.derived("sum", at), figures.derived("ratio", [("sum", at), whole], ".1%")]
        for language, at in tokens_by_language(figures, phases).items()
    ]
    return {"headers": ["language", "tokens", "share"], "rows": rows}


def drop_table(figures: Figures, phases: Mixes) -> Table:
    """Rows of the sources that gave no document, by reason."""
    drops: dict[tuple[str, str], list[Operand]] = {}
    for file in phases.values():
        for index, source in enumerate(figures.value(file, "/sources")):
            for reason in source["drops"]:
                at = (file, join("sources", index, "drops", reason))
                drops.setdefault((source["name"], reason), []).append(at)
    rows = [[Name(name), Name(reason), figures.derived("largest", at)] for (name, reason), at in sorted(drops.items())]
    return {"headers": ["source", "reason", "rows"], "rows": rows, "left": ["reason"]}


def missing_table(figures: Figures, phases: Mixes) -> Table:
    """Subsets of the recipes that are not in the rows."""
    rows = []
    for name, file in phases.items():
        for index, entry in enumerate(figures.value(file, "/config/missing")):
            tokens = figures.figure(file, join("config", "missing", index, "tokens"))
            rows.append([Name(name), Name(entry["subset"]), tokens, Name(entry["action"]), Name(entry["reason"])])
    headers = ["config", "subset", "tokens", "what was done", "reason"]
    return {"headers": headers, "rows": rows, "left": ["subset", *headers[-2:]]}
