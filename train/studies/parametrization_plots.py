"""The figure of the study of parametrizations: how far each column's held-out loss lies from the standard one's."""

from pathlib import Path
from typing import Any

from train.studies.plots import NAMES, make_panels, save, shades, styled

KINDS = {"equal_steps": ("as many steps", "o", 0.14), "equal_time": ("as much time", "s", -0.14)}


def plot_parametrizations(result: dict[str, Any], path: Path) -> None:
    """A panel a width, a line a column: the mean difference within seeds and its interval."""
    widths = result["widths"]
    columns = [column for column in result["settings"]["columns"] if column != "standard"]
    colours = shades(len(KINDS) + 1)
    with styled():
        figure, axes = make_panels(
            1, len(widths), width=3.1, height=0.8 + 0.42 * len(columns), sharex=True, sharey=True
        )
        for axis, (width, found) in zip(axes[0], widths.items(), strict=True):
            for (kind, (label, marker, shift)), colour in zip(KINDS.items(), colours, strict=False):
                for at, column in enumerate(columns):
                    change = found[kind]["heldout"]["over_standard"][column]
                    axis.plot([change["low"], change["high"]], [shift - at] * 2, color=colour, linewidth=2)
                    axis.plot(
                        change["value"], shift - at, color=colour, marker=marker, markersize=5, linestyle="",
                        label=None if at else label,
                    )  # fmt: skip
            axis.axvline(0, color="#888", linewidth=0.8)
            axis.set_title(f"width {width}")
            axis.set_xlabel("held-out loss less SI's (nats a token)", fontsize=8)
        axes[0, 0].set_yticks([-at for at in range(len(columns))], [NAMES[column] for column in columns])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        save(figure, path)
