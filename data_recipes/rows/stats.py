"""Figures of a built phase: tokens, documents, fill, shares by domain and subset, lengths of the pieces."""

from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.rows.reader import PackedRows, piece_lengths

# Pieces of documents in rows, by length: upper bounds of the classes, in tokens.
LENGTH_CLASSES = tuple(2**power for power in range(4, 16))


def phase_stats(folder: Path) -> dict[str, Any]:
    """Counts, fill, shares and the histogram of piece lengths (read from the rows) of a built phase."""
    rows = PackedRows(folder)
    manifest = rows.manifest
    counts = manifest["counts"]
    histogram = np.zeros(len(LENGTH_CLASSES) + 1, dtype=np.int64)
    pieces = 0
    for batch in rows.scan():
        lengths = piece_lengths(batch)
        histogram += np.bincount(np.searchsorted(LENGTH_CLASSES, lengths, side="left"), minlength=len(histogram))
        pieces += len(lengths)
    domains: dict[str, int] = {}
    for subset in manifest["subsets"]:
        name = subset["domain"] or "(none)"
        domains[name] = domains.get(name, 0) + subset["tokens"]
    bounds = [*(f"<={bound}" for bound in LENGTH_CLASSES), f">{LENGTH_CLASSES[-1]}"]
    return {
        "name": manifest["name"],
        "rows": rows.num_rows,
        "context_length": rows.context_length,
        "tokens": counts["tokens"],
        "documents": counts["documents"],
        "pieces": pieces,
        "fill": 1 - counts["padding"] / counts["tokens"],
        "domains": {
            name: {"tokens": tokens, "share": tokens / counts["tokens"]}
            for name, tokens in sorted(domains.items(), key=lambda item: -item[1])
        },
        "subsets": [
            {
                key: subset[key]
                for key in ("name", "domain", "source", "quota_tokens", "rows", "tokens", "documents", "epochs")
            }
            | {"share": subset["tokens"] / counts["tokens"]}
            for subset in manifest["subsets"]
        ],
        "piece_lengths": {bound: count for bound, count in zip(bounds, histogram.tolist(), strict=True) if count},
        "drops": {source["name"]: source["drops"] for source in manifest["sources"]},
        "missing": manifest["config"]["missing"],
    }


def continued_share(rows: PackedRows, *, last: float = 0.2) -> float:
    """Of the tokens in the last part of a phase, the share whose document has a piece in an earlier row of the phase.

    Rows are mixed within a phase, so by then a model has read other parts of that very document.
    """
    seen: set[tuple[int, int, int]] = set()
    start = int(rows.num_rows * (1 - last))
    counted = continued = 0
    for row in range(rows.num_rows):
        pieces = rows.documents(row)
        names = [(piece["source"], piece["file"], piece["row"]) for piece in pieces]
        if row >= start:
            lengths = [piece["end"] - piece["start"] for piece in pieces]
            counted += sum(lengths)
            continued += sum(length for length, name in zip(lengths, names, strict=True) if name in seen)
        seen.update(names)
    return continued / max(counted, 1)
