"""Finished networks tested with other statistics, on clean and on shifted images."""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.looks import COLOURS
from onlybn.drawing.summaries import over_seeds, run
from onlybn.papers.batchnorm_mechanisms.arms import counts, described, points
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, PERCENT, Row, arms, panels

BY_SHIFT, BY_SIZE, LARGEST = (
    "test accuracy (%) by statistics",
    "test accuracy (%)",
    "largest, shifted ÷ clean",
)
CLEAN = "clean"
# The orders of the figure; others follow.
SHIFTS = (CLEAN, "contrast-0.3", "contrast-3", "brightness", "blur", "noise", "inversion")
STATISTICS = (
    *("running", "batch-1", "batch-2", "batch-8", "batch-32", "batch-128", "batch-1000"),
    *("cumulative", "pooled", "pooled-shifted"),
)


def tests(statistics: pd.DataFrame) -> pd.DataFrame:
    """Return a described row per run, shift and statistics, with the loss and accuracy of the test."""
    table = described(statistics)
    return table.dropna(subset="shift").drop_duplicates([*run(table), "shift", "statistics"])


def explosions(statistics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run, shift but clean, and layer: `ratio` of the largest activations, shifted ÷ clean.

    They are those of a layer's normalised activations with running statistics. A shift that changes no
    image of a dataset is left out: its ratio is 1 in every layer of every run.
    """
    table = described(statistics)
    table = table[(table["statistics"] == "running") & (table["layer"] >= 0)]
    clean = table[table["shift"] == CLEAN].set_index([*run(table), "layer"])["largest"].rename("clean")
    table = table[table["shift"] != CLEAN].merge(clean.reset_index(), on=[*run(table), "layer"])
    table = table.assign(ratio=table["largest"] / table["clean"])
    moves = (table["ratio"] != 1).groupby([table["dataset"], table["shift"]]).transform("any")
    return table[moves.astype(bool)]


def by_network(statistics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, shift and statistics: mean test accuracy `y` in percent, `std`, n."""
    found = over_seeds(tests(statistics), values=["top_1"], by=["shift", "statistics"])
    return found.rename(columns={"top_1": "y", "top_1_std": "std"})


def numbers(statistics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure, and shift with statistics, or size of a batch, or layer: mean `y`, n."""
    table = described(statistics)
    every = table[points(table)].drop_duplicates()
    clean = tests(statistics)
    clean = clean[(clean["shift"] == CLEAN) & (clean["statistics"] == "running")]
    accuracies = by_network(statistics).drop(columns=["n", "diverged", "at_chance"])
    sizes = accuracies["statistics"].str.extract(r"^batch-(\d+)$")[0].astype(float)
    by_size = accuracies.assign(measure=BY_SIZE, x=sizes)[(accuracies["shift"] == CLEAN) & sizes.notna()]
    ratios = explosions(statistics)
    logs = ratios.assign(log=np.log(ratios["ratio"]))
    ratios = over_seeds(logs, values=["log"], by=["shift", "layer"])
    edges = {
        name: np.exp(ratios["log"] + sign * ratios["log_std"]) for name, sign in (("low", -1), ("high", 1))
    }
    ratios = ratios.assign(measure=LARGEST, x=ratios["layer"] + 1, y=np.exp(ratios["log"]), **edges)
    ratios = ratios.drop(columns=["n", "diverged", "at_chance", "layer", "log", "log_std"])
    found = pd.concat([accuracies.assign(measure=BY_SHIFT), by_size, ratios], ignore_index=True)
    found = found.merge(every, how="left").astype({"y": float, "std": float})
    lost = every.merge(found[points(table)].drop_duplicates(), how="left", indicator="of")
    lost = lost[lost["of"] == "left_only"].drop(columns="of")  # arms of which every run diverged
    lost = lost.assign(measure=BY_SHIFT, shift=CLEAN, statistics="running")
    found = pd.concat([found, lost], ignore_index=True).merge(counts(table, clean), how="left")
    several = found["normalisation"].nunique() > 1
    return found.assign(panel=found["setting"] + (", " + found["arm"] if several else ""))


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw accuracy by shift and statistics, by size of the batch, and activations; a column per network."""
    cells = numbers[numbers["measure"] == BY_SHIFT]
    shifted = set(cells.loc[cells["shift"] != CLEAN, "statistics"])
    shown = in_order(STATISTICS, cells["statistics"])
    shown = [name for name in shown if name in shifted or not name.startswith("batch-")]
    shifts = in_order(SHIFTS, cells["shift"])
    rows = (
        Row(BY_SHIFT, partial(_cells, statistics=shown, shifts=shifts), x_label="", height=1.9),
        Row(BY_SIZE, _sizes, limits=PERCENT, x_label="images in the batch"),
        Row(LARGEST, partial(_ratios, shifts=shifts), log=True, x_label="layer"),
    )
    return panels(numbers, rows, column="panel")


def in_order(order: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return names, once each, in an order that others follow."""
    present = dict.fromkeys(names)
    return [name for name in order if name in present] + [name for name in present if name not in order]


def _cells(axes: Axes, here: pd.DataFrame, statistics: Sequence[str], shifts: Sequence[str]) -> None:
    """Draw a cell per statistics and shift, with its accuracy."""
    wide = here.pivot(index="statistics", columns="shift", values="y").reindex(
        index=statistics, columns=shifts
    )
    axes.imshow(wide, cmap="Blues", vmin=0, vmax=130, aspect="auto")
    for (row, column), value in np.ndenumerate(wide.to_numpy()):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6)
    axes.set_xticks(range(len(shifts)), shifts, rotation=90, fontsize=6)
    first = axes.get_subplotspec().is_first_col()
    axes.set_yticks(range(len(statistics)), statistics if first else [], fontsize=6)
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _sizes(axes: Axes, here: pd.DataFrame) -> None:
    for look, _, _, rows in arms(here):
        axes.errorbar(rows["x"], rows["y"], rows["std"], color=look.colour, marker=look.mark)
    axes.set_xscale("log")
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1k"])


def _ratios(axes: Axes, here: pd.DataFrame, shifts: Sequence[str]) -> None:
    for place, name in enumerate(shifts[1:]):
        rows = here[here["shift"] == name].sort_values("x")
        look = {"color": COLOURS[place % len(COLOURS)], "label": name}
        reach = [rows["y"] - rows["low"], rows["high"] - rows["y"]]
        axes.errorbar(rows["x"], rows["y"], reach, marker=".", linewidth=0.9, **look)
    axes.axhline(1, color="0.4", linestyle=":", linewidth=0.9, zorder=style.ABOVE_GRID)


def caption(numbers: pd.DataFrame) -> str:
    """Say what the statistics and the shifts are, and which shifts change no image."""
    shifts = {measure: set(its["shift"]) for measure, its in numbers.groupby("measure")}
    still = in_order(SHIFTS, shifts.get(BY_SHIFT, set()) - shifts.get(LARGEST, set()) - {CLEAN})
    left_out = f" Not below, since they change no image: {', '.join(still)}." if still else ""
    return (
        "Running: the averages that training keeps; batch-N: those of a batch of N test images; cumulative"
        " and pooled: re-estimated on training images, on shifted ones in pooled-shifted. Batches of other"
        " sizes are of clean images; one larger than the test split is that split. Below: the largest"
        " normalised activation of a layer on shifted images, with running statistics, divided by that on"
        f" clean ones; the dotted line is at 1, and what is not finite is not drawn.{left_out}{LOGARITHMS} A"
        " network without running statistics has the same accuracy with all. White cells were not measured."
        " Contrast is multiplied by 0.3 or 3, brightness by 1.5; blur has a deviation of 1 pixel, and noise"
        " of 0.1 of the range."
    )
