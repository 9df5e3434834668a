"""Figures of a built phase: tokens, documents, fill, shares by domain and subset, lengths; and a plot of them."""

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


def plot_stats(stats: dict[str, Any], path: Path) -> None:
    """Shares by domain, largest subsets and piece lengths as one picture; the suffix says SVG or PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    domains = stats["domains"]
    axes[0].barh(list(domains), [100 * entry["share"] for entry in domains.values()], color="tab:blue")
    axes[0].invert_yaxis()
    axes[0].set_xlabel("% of tokens")
    axes[0].set_title("Domains")
    largest = sorted(stats["subsets"], key=lambda subset: -subset["tokens"])[:15]
    axes[1].barh([subset["name"][-32:] for subset in largest], [100 * subset["share"] for subset in largest])
    axes[1].invert_yaxis()
    axes[1].tick_params(axis="y", labelsize=7)
    axes[1].set_xlabel("% of tokens")
    axes[1].set_title("Largest subsets")
    lengths = stats["piece_lengths"]
    axes[2].bar(list(lengths), list(lengths.values()), color="tab:green")
    axes[2].tick_params(axis="x", rotation=60)
    axes[2].set_ylabel("pieces")
    axes[2].set_title("Tokens of a document in a row")
    figure.suptitle(
        f"{stats['name']}: {stats['tokens']:,} tokens in {stats['rows']:,} rows of {stats['context_length']:,}, "
        f"{stats['documents']:,} documents, fill {stats['fill']:.2%}"
    )
    figure.savefig(path)
    plt.close(figure)
