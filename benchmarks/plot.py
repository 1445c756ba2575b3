"""Bars as SVG, one file a figure."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figure import Figure

OURS, THEIRS, FLOOR = "#1f6feb", "#b8c0cc", "#57606a"


def draw(figure: Figure, folder: Path) -> Path | None:
    """Draw *figure* into *folder*; None if there is nothing to draw. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 10})
    from matplotlib import pyplot as plt

    if not figure.bars:
        return None
    labels, values = list(figure.bars)[::-1], list(figure.bars.values())[::-1]
    colours = [_colour(label) for label in labels]
    drawing, axes = plt.subplots(figsize=(8, 0.8 + 0.34 * len(labels)), layout="constrained")
    bars = axes.barh(labels, values, color=colours)
    axes.bar_label(bars, [f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in values], padding=4)
    axes.set_title(figure.title, loc="left")
    axes.set_xlabel(figure.bars_unit)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.margins(x=0.12)
    file = folder / f"benchmark-{figure.name}.svg"
    drawing.savefig(file, metadata={"Date": None})
    plt.close(drawing)
    return file


def _colour(label: str) -> str:
    if "testpress" in label:
        return OURS
    return FLOOR if "msgspec by hand" in label else THEIRS
