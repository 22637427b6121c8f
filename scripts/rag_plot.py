"""Draw a choice: recall at the budget of every arm on both halves, with intervals on the reporting half.

python -m scripts.rag_plot .slipway/choice/KEY/choice.json docs/rag.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLOURS = {"bm25": "#8c6d31", "dense": "#3182bd", "hybrid": "#31a354"}


def draw(document: dict[str, Any], out: Path) -> None:
    """Write the plot of a choice document as SVG."""
    plt.rcParams["svg.hashsalt"] = "slipway"
    arms = document["arms"]
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(arms) + 1.2), layout="constrained")
    for row, arm in enumerate(reversed(arms)):
        report, colour = arm["report"], COLOURS[arm["arm"].rpartition("/")[2]]
        axes.plot([report["low"], report["high"]], [row, row], color=colour, linewidth=2)
        axes.plot(report["value"], row, "o", color=colour)
        axes.plot(arm["choose"], row, "|", color=colour, markersize=11)
    axes.set_yticks(range(len(arms)), [_label(arm, document) for arm in reversed(arms)])
    axes.set_xlabel("share of the gold text within the budget: dot and 95% interval report, | chose")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(out, metadata={"Date": None})


def _label(arm: dict[str, Any], document: dict[str, Any]) -> str:
    return f"{arm['arm']}{' (chosen)' if arm['arm'] == document['winner'] else ''}"


def main() -> None:
    """Read the choice and write the plot."""
    source, out = sys.argv[1:]
    draw(json.loads(Path(source).read_text(encoding="utf-8")), Path(out))


if __name__ == "__main__":
    main()
