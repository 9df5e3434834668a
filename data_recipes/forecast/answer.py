"""A forecast as an answer: the figures for a program, the sources summed by place, and what to do first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data_recipes.forecast.forecast import Forecast, SourceForecast
from data_recipes.forecast.sights import ON_THE_HUB
from data_recipes.packing.stream import LONG_HORIZON
from data_recipes.recipes.shares import ACCESS_MEANS

# What can be done about a source that cannot be read as its entry stands, in the order in which to do it.
FIRST = {
    "missing": "not there",
    "no files": "no file there fits the entry",
    "gone": "gone from the Hub, or private",
    "gated": "accept its terms on the Hub and log in with 'hf auth login'",
    "script-based": "behind a loading script that no longer runs, and the entry names no files: fetch it, give a path",
    **{access: ACCESS_MEANS[access] for access in ("ids-only", "off-hub", "not-public")},
    "after scoring": "the published rows lack the scores that a filter needs: score them first",
}
UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def amount(count: float, units: Sequence[str] = UNITS) -> str:
    """`1.47 TB`: three digits and a unit of 1,000s."""
    place = 0
    while abs(count) >= 999.5 and place < len(units) - 1:
        count, place = count / 1000, place + 1
    return f"{count:.3g} {units[place]}".rstrip()


def tokens(count: float) -> str:
    """`40.2B` tokens."""
    return amount(count, ("", "K", "M", "B", "T")).replace(" ", "")


def hours(seconds: float) -> str:
    """`22 min`, `6.7 h`, `31.0 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


@dataclass
class PlaceForecast:
    """What comes from a dataset on the Hub, a site, or a folder."""

    place: str
    state: str
    sources: list[SourceForecast] = field(default_factory=list)

    def total(self, name: str) -> int:
        return sum(getattr(one, name) for one in self.sources)

    @property
    def epochs(self) -> float | None:
        """The most of its sources."""
        return max((one.epochs for one in self.sources if one.epochs is not None), default=None)


def state_of(one: SourceForecast) -> str:
    """What stands between the source and a build; `readable` and `on the Hub` are nothing."""
    sight = one.expected.sight
    if sight.readable and one.expected.source.readable == "after scoring":
        return "after scoring"
    return sight.state


def by_place(found: Forecast) -> list[PlaceForecast]:
    """The sources summed by place and state, the largest first."""
    places: dict[tuple[str, str], PlaceForecast] = {}
    for one in found.sources:
        source = one.expected.source
        place = source.hub or source.url or source.path or "no public place"
        key = (place, state_of(one))
        places.setdefault(key, PlaceForecast(*key)).sources.append(one)
    return sorted(places.values(), key=lambda item: -item.total("drawn"))


def states(found: Forecast) -> dict[str, dict[str, float]]:
    """Tokens, and their share, of the sources in each state."""
    total, sums = max(1, found.total("drawn")), dict[str, int]()
    for place in by_place(found):
        sums[place.state] = sums.get(place.state, 0) + place.total("drawn")
    return {state: {"tokens": drawn, "share": drawn / total} for state, drawn in sums.items()}


def disk(found: Forecast) -> dict[str, int]:
    """Bytes at the fullest moment: with everything kept; with the sources removed once they are tokenised; and with
    the rows of one phase at a time as well, removed when they are trained on."""
    download, store, rows = (found.total(name) for name in ("download_bytes", "store_bytes", "row_bytes"))
    largest = max(row_bytes_of(found, number) for number in range(len(found.mixes)))
    return {
        "all_kept": download + store + rows,
        "sources_removed": max(download + store, store + rows),
        "one_phase_of_rows": max(download + store, store + largest),
    }


def row_bytes_of(found: Forecast, number: int) -> int:
    """Bytes of one mix's rows, as its share of all rows."""
    share = sum(found.mixes[number].rows) * found.mixes[number].recipe.context_length / max(1, found.total("drawn"))
    return round(share * found.total("row_bytes"))


def before(found: Forecast) -> dict[str, Any] | None:
    """What comes before the mixes asked for, and what a build that does not leave it out tokenises more."""
    mine = {item.recipe.key for item in found.mixes}
    earlier = [item.recipe.key for item in found.chain if item.recipe.key not in mine]
    more = found.total("tokenised_with_before") - found.total("tokenised")
    if not earlier:
        return None
    return {
        "phases": earlier,
        "drawn_tokens": found.total("before"),
        "more_tokenised_tokens": more,
        "more_text_bytes": found.total("text_bytes_with_before") - found.total("text_bytes"),
        "more_store_bytes": found.total("store_bytes_with_before") - found.total("store_bytes"),
    }


def to_do(found: Forecast, *, asked_hub: bool) -> list[str]:
    """What to do before the build, the most tokens first, in sentences."""
    total = max(1, found.total("drawn"))
    lines = []
    for shortfall in found.shortfalls:
        lines.append(
            f"{shortfall['recipe']}, {shortfall['subset']}: {shortfall['tokens']:,} tokens wanted, about "
            f"{shortfall['left']:,} are left within its max_epochs: give more text, ask for less, or raise it."
        )
    for state, means in FIRST.items():
        places = [place for place in by_place(found) if place.state == state]
        drawn = sum(place.total("drawn") for place in places)
        if places:
            names = ", ".join(place.place for place in places[:3]) + (", ..." if len(places) > 3 else "")
            lines.append(f"{state}: {tokens(drawn)} tokens ({drawn / total:.1%}) of {names}: {means}.")
    if any(place.state in FIRST and place.state not in ("gated", "after scoring") for place in by_place(found)):
        lines.append(
            "What stays unreadable stops a build, unless it is told --missing skip (without it) or substitute (more "
            "of the same domain)."
        )
    if not asked_hub and any(one.expected.sight.state == ON_THE_HUB for one in found.sources):
        lines.append("The Hub was not asked: sizes there, and what has moved or gone, are not known (--online).")
    earlier = before(found)
    if earlier is not None:
        lines.append(
            f"Before it come {listed_phases(earlier['phases'])}, which are not counted here: a build that is not told "
            f"--alone tokenises what they draw too, {tokens(earlier['more_tokenised_tokens'])} tokens more "
            f"({amount(earlier['more_store_bytes'])} of store)."
        )
    return lines


def listed_phases(keys: Sequence[str]) -> str:
    """`1 to 25` for many."""
    return f"{keys[0]} to {keys[-1]}" if len(keys) > 3 else ", ".join(keys)


def as_json(found: Forecast, *, asked_hub: bool) -> dict[str, Any]:
    """Everything, as numbers."""
    names = ("drawn", "tokenised", "text_bytes", "download_bytes", "store_bytes", "row_bytes")
    network, reading = (found.figures.take("other", f"{name}_bytes_per_second") for name in ("network", "disk"))
    return {
        "phases": [
            {
                "recipe": item.recipe.key,
                "context_length": item.recipe.context_length,
                "tokens": sum(item.rows) * item.recipe.context_length,
                "rows": sum(item.rows),
                "row_bytes": row_bytes_of(found, number),
                "looks_ahead": LONG_HORIZON if item.long is not None else 0,
            }
            for number, item in enumerate(found.mixes)
        ],
        "before": before(found),
        "totals": {name: found.total(name) for name in names},
        "states": states(found),
        "disk": disk(found),
        "time": {
            "workers": found.workers,
            "encoder": found.encoder,
            "megabytes_per_second": found.rate,
            "seconds": round(found.seconds),
            "download_seconds": round(found.total("download_bytes") / network),
            "verify_seconds": round((found.total("store_bytes") + found.total("row_bytes")) / reading),
        },
        "bytes_per_token_id": found.token_bytes,
        "sources": [_source_json(one) for one in found.sources],
        "subsets": [
            {
                "recipe": item.recipe.key,
                "subset": subset.name,
                "domain": subset.domain,
                "source": store.source.label,
                "quota_tokens": subset.tokens,
                "rows": count,
            }
            for item in found.mixes
            for subset, store, count in zip(item.subsets, item.subset_stores, item.rows, strict=True)
        ],
        "missing": [{"recipe": item.recipe.key, **entry} for item in found.mixes for entry in item.left_out],
        "shortfalls": list(found.shortfalls),
        "to_do": to_do(found, asked_hub=asked_hub),
        "figures": {name: figure.model_dump() for name, figure in sorted(found.figures.used.items())},
    }


def _source_json(one: SourceForecast) -> dict[str, Any]:
    source, sight = one.expected.source, one.expected.sight
    return {
        "source": source.label,
        "place": source.hub or source.url or source.path,
        "access": source.access,
        "state": state_of(one),
        "message": sight.message,
        "domain": one.expected.domain,
        "subsets": list(one.expected.subsets),
        "phases": one.expected.phases,
        "files": sight.files,
        "selected_bytes": sight.bytes,
        "tokens": one.drawn,
        "tokenised_tokens": one.tokenised,
        "tokens_before": one.before,
        "source_tokens": one.size,
        "epochs": None if one.epochs is None else round(one.epochs, 4),
        "text_bytes": one.text_bytes,
        "download_bytes": one.download_bytes,
        "store_bytes": one.store_bytes,
        "row_bytes": one.row_bytes,
    }
