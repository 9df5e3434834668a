"""What the stores that are there tell: tokens of a document, characters and bytes of a token, by source and domain."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from data_recipes.forecast.assumptions import OTHER, Figure, all_figures
from data_recipes.recipes.source import Source
from data_recipes.tokens.store import store_label
from data_recipes.tokens.units import read_record

# A store of the published size has thousands of units, all of about the same text.
UNITS_READ = 64


def measured_figures(root: Path, sources: Sequence[tuple[Source, str | None]]) -> dict[tuple[str, str], Figure]:
    """Figures of the stores in `root`, under the label of each source and under its domain; `sources`: each with its
    domain. A store is found by its name, so one whose name fits two sources tells nothing of either."""
    labels: dict[str, list[tuple[Source, str | None]]] = defaultdict(list)
    for source, domain in sources:
        labels[store_label(source)].append((source, domain))
    found: dict[tuple[str, str], Figure] = {}
    by_domain: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for folder in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        fitting = labels.get(folder.name.rpartition("-")[0], [])
        if len(fitting) != 1:
            continue
        records = [read_record(path) for path in islice(sorted(folder.glob("unit-*.json")), UNITS_READ)]
        counts = [(one.tokens, one.documents, one.characters) for one in records if one is not None and one.documents]
        if not counts:
            continue
        source, domain = fitting[0]
        found |= _figures(counts, source.label, domain or OTHER, f"{len(counts)} units of {folder}")
        by_domain[domain or OTHER] += counts
    for domain, counts in by_domain.items():
        found |= _figures(counts, domain, domain, f"{len(counts)} units of stores in {root}")
    return found


def _figures(counts: list[tuple[int, int, int]], key: str, domain: str, where: str) -> dict[tuple[str, str], Figure]:
    tokens, documents, characters = (sum(column) for column in zip(*counts, strict=True))
    widths = all_figures()["bytes_per_character"]
    width = widths.get(domain, widths[OTHER]).value
    values = {"tokens_per_document": tokens / documents, "bytes_per_token": width * characters / tokens}
    return {(topic, key): Figure(value=value, basis="measured", source=where) for topic, value in values.items()}
