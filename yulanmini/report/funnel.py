"""What each step of a cleaning run left over, from its summary: over all sources, and by source."""

from collections.abc import Mapping
from typing import Any


def funnel(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each step over all sources: documents that reach it, dropped, the share of all that is left, reasons."""
    steps = {
        step: {"step": step, "reached": 0, "dropped": 0, "characters": 0, "reasons": {}} for step in summary["steps"]
    }
    for row in summary["funnel"]:
        step = steps[row["step"]]
        step["reached"] += row["documents_in"]
        step["dropped"] += row["documents_dropped"]
        step["characters"] += row["characters_dropped"]
        for reason, counts in row["reasons"].items():
            step["reasons"][reason] = step["reasons"].get(reason, 0) + counts["documents"]
    for step in steps.values():
        step["left"] = (step["reached"] - step["dropped"]) / (summary["documents"] or 1)
        step["reasons"] = sorted(step["reasons"].items(), key=lambda pair: (-pair[1], pair[0]))
    return list(steps.values())


def by_source(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each source: documents read and kept, and the share of it that each step dropped, of those that dropped any."""
    dropping = [row["step"] for row in funnel(summary) if row["dropped"]]
    shown = []
    for source in summary["sources"]:
        rows = [row for row in summary["funnel"] if row["source"] == source]
        read = rows[0]["documents_in"]
        shown.append(
            {
                "source": source,
                "read": read,
                "kept": rows[-1]["documents_kept"],
                "lost": {
                    row["step"]: row["documents_dropped"] / read if read else 0.0
                    for row in rows
                    if row["step"] in dropping
                },
            }
        )
    return shown
