"""How many tokens of a mix, or of the whole curriculum, come from where, and what access to it takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data_recipes.errors import DataError, nearest
from data_recipes.recipes.curriculum import domain_tokens
from data_recipes.recipes.recipe import Recipe, Subset, published_recipes
from data_recipes.recipes.source import Readable, Source, resolve_source

ACCESS_MEANS = {
    "open": "on the Hub, readable by anyone",
    "gated": "on the Hub after accepting its terms, with a token",
    "script-based": "on the Hub behind a loading script that no longer runs; files that the entry names are read",
    "ids-only": "the Hub has ids, the contents must be fetched elsewhere",
    "off-hub": "public, but not on the Hub: fetch it and give it as a path",
    "not-public": "no public source; substitute or leave out",
}

# Families of sources in the order of the picture, each under its domain; the first whose prefix fits a subset's source
# wins.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "FineWeb-Edu": ("web-en", ("fineweb-edu",)),
    "DCLM": ("web-en", ("dclm-baseline",)),
    "news, forums": ("web-en", ("",)),
    "Chinese FineWeb-Edu": ("web-zh", ("chinese-fineweb-edu",)),
    "other Chinese web": ("web-zh", ("",)),
    "the-stack-v2 Python": ("code", ("stack-v2-python",)),
    "the-stack-v2 notebooks": ("code", ("stack-v2-jupyter",)),
    "the-stack-v2 others": ("code", ("stack-v2",)),
    "StarCoder, python-edu": ("code", ("starcoder", "python-edu")),
    "MNBVC code": ("code", ("mnbvc",)),
    "OpenCoder, LongWanjuan": ("code", ("",)),
    "Proof-Pile-2, AutoMathText": ("math", ("proof-pile-2", "automathtext")),
    "InfiMM-WebMath": ("math", ("infimm",)),
    "other math pages": ("math", ("",)),
    "books": ("books-papers-encyclopedia", ("open-textbook", "project-gutenberg", "loc-", "cbook", "bestsellers")),
    "textbooks, exams (zh)": ("books-papers-encyclopedia", ("textbooks-zh", "exam-")),
    "papers": ("books-papers-encyclopedia", ("pes2o", "arxiv")),
    "encyclopedias": ("books-papers-encyclopedia", ("",)),
    "Cosmopedia": ("instruction-synthetic", ("cosmopedia",)),
    "own synthetic": ("instruction-synthetic", ("own-",)),
    "OpenCoder instructions": ("instruction-synthetic", ("opencoder",)),
    "other instructions": ("instruction-synthetic", ("",)),
}


@dataclass
class SubsetUse:
    """A subset name, its source, and its tokens summed over the given mixes."""

    name: str
    domain: str | None
    source_name: str
    source: Source
    tokens: int = 0


@dataclass
class PlaceUse:
    """A dataset on the Hub, a site, or an unpublished collection, with what is taken from it."""

    place: str
    access: str
    readable: Readable
    licences: list[str] = field(default_factory=list)
    subsets: list[str] = field(default_factory=list)
    tokens: int = 0


def trained_recipes() -> list[Recipe]:
    """The 27 mixes that YuLan-Mini was trained on: phase 26 in its 28K variant."""
    return [recipe for recipe in published_recipes() if recipe.variant is None]


def subset_uses(recipes: Sequence[Recipe]) -> list[SubsetUse]:
    """Every subset of the mixes, in the order of first mention; those of which nothing was taken have 0 tokens."""
    uses: dict[str, SubsetUse] = {}
    for recipe in recipes:
        for subset in recipe.subsets:
            if subset.name not in uses:
                source = resolve_source(subset.source, where=subset.name)
                uses[subset.name] = SubsetUse(subset.name, subset.domain, subset.source_name, source)
            uses[subset.name].tokens += subset.tokens
        for other in recipe.unselected:
            if other.name not in uses:
                uses[other.name] = SubsetUse(
                    other.name, other.domain, other.source, resolve_source(other.source, where=other.name)
                )
    return list(uses.values())


def place_uses(uses: Sequence[SubsetUse]) -> list[PlaceUse]:
    """The uses summed by place, access and whether a build can read it, largest first."""
    places: dict[tuple[str, str, str], PlaceUse] = {}
    for use in uses:
        source = use.source
        place = source.hub or source.url or source.path or use.source_name
        key = (place, source.access, source.readable)
        found = places.setdefault(key, PlaceUse(place, source.access, source.readable))
        found.tokens += use.tokens
        found.subsets.append(use.name)
        if source.licence and source.licence not in found.licences:
            found.licences.append(source.licence)
    return sorted(places.values(), key=lambda item: -item.tokens)


def tokens_by_access(uses: Sequence[SubsetUse]) -> dict[str, int]:
    """Tokens of each kind of access, in the order of `ACCESS_MEANS`."""
    sums = dict.fromkeys(ACCESS_MEANS, 0)
    for use in uses:
        sums[use.source.access] += use.tokens
    return sums


def tokens_by_readable(uses: Sequence[SubsetUse]) -> dict[Readable, int]:
    """Tokens that a build can read as the entries stand, those that must be scored first, and the others."""
    sums: dict[Readable, int] = {"yes": 0, "after scoring": 0, "no": 0}
    for use in uses:
        sums[use.source.readable] += use.tokens
    return sums


def as_json(uses: Sequence[SubsetUse]) -> dict[str, Any]:
    """What `data sources --json` prints."""
    total = sum(use.tokens for use in uses)
    access = {
        name: {"tokens": tokens, "share": round(tokens / total, 6), "means": ACCESS_MEANS[name]}
        for name, tokens in tokens_by_access(uses).items()
    }
    return {
        "tokens": total,
        "access": access,
        "readable": tokens_by_readable(uses),
        "places": [{**vars(item), "share": round(item.tokens / total, 6)} for item in place_uses(uses)],
        "subsets": [
            {
                "name": use.name,
                "domain": use.domain,
                "tokens": use.tokens,
                "share": round(use.tokens / total, 6),
                "source": use.source_name,
                **use.source.model_dump(mode="json", exclude_defaults=True),
                "access": use.source.access,
                "readable": use.source.readable,
            }
            for use in uses
        ],
    }


def family_of(subset: Subset) -> str:
    """The family of `FAMILIES` that a published subset belongs to."""
    for family, (domain, prefixes) in FAMILIES.items():
        if domain == subset.domain and subset.source_name.startswith(prefixes):
            return family
    raise DataError(f"subset '{subset.name}': belongs to no family of sources, so it cannot be plotted.")


def tokens_by_family(recipe: Recipe, *, by: str) -> dict[str, int]:
    """Tokens of a published mix by "domain", or by "source": each of `FAMILIES`."""
    if by == "domain":
        return domain_tokens(recipe)
    if by != "source":
        raise DataError(f"--by {by}: not a way to group.{nearest(by, ('domain', 'source'))}")
    sums = dict.fromkeys(FAMILIES, 0)
    for subset in recipe.subsets:
        sums[family_of(subset)] += subset.tokens
    return sums
