"""The comparison as bars: what is caught, and what is rejected that is right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

GOOD, BAD, FAINT = "#2f6f9f", "#b8442f", "#9db8c9"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Two panels side by side, one bar a way of judging; written as SVG, the same for the same numbers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "strength", "svg.fonttype": "path", "font.size": 10})
    rows = results["comparison"]
    places = range(len(rows))
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    caught, rejected = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    bugs, faults, controls = results["totals"]["bugs"], results["faults"], results["controls"]
    for shift, key, total, color, label in (
        (-0.2, "published", bugs, GOOD, f"published bugs ({bugs})"),
        (0.2, "faults", faults, FAINT, f"all faults of the catalogue ({faults})"),
    ):
        shares = [100 * row[key] / total for row in rows]
        bars = caught.barh([place + shift for place in places], shares, 0.38, color=color, label=label)
        caught.bar_label(bars, [str(row[key]) for row in rows], padding=3)
    bars = rejected.barh(list(places), [row["rejected"] for row in rows], 0.5, color=BAD)
    rejected.bar_label(bars, [str(row["rejected"]) for row in rows], padding=3)
    caught.set(title="wrong implementations caught, %", xlim=(0, 112), xticks=range(0, 101, 25))
    caught.set_yticks(list(places), [row["way"] for row in rows])
    rejected.set(
        title=f"right ones rejected, of {controls}", xlim=(0, controls), xticks=range(0, controls + 1, 4)
    )
    caught.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    for axes in (caught, rejected):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
    figure.savefig(path, metadata={"Date": None})
