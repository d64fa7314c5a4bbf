"""What BatchNorm subtracts from the gradient that it passes on (Santurkar et al., Theorem 4.1, exactly)."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing.looks import COLOURS
from onlybn.papers.batchnorm_mechanisms.arms import counts, described, identified, over_time
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, Row, panels

BY_LAYER, OVER_TIME, ERROR = (
    "share of ‖g‖², mean over steps",
    "share of ‖g‖², mean over layers",
    "relative error",
)
SHARES = {"mean_share": "(Σg)² / m", "normalised_share": "(Σg·ŷ)² / m"}
LARGEST = "largest of all layers"
COLOURED = {"(Σg)² / m": COLOURS[0], "(Σg·ŷ)² / m": COLOURS[1], LARGEST: "0.25"}
TOLERANCE = 1e-10


def numbers(identity: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure, `line` and x (layer, or step): mean `y` over seeds, `std`, n."""
    table = described(identity)
    table["x"] = table["number"] + 1
    counted, known = counts(table), table.dropna(subset="number")
    runs = identified(table)
    by_layer = known.groupby([*runs, "x"], sort=False, dropna=False)[[*SHARES]].mean().reset_index()
    by_step = known.groupby([*runs, "step"], sort=False, dropna=False)
    shares, errors = by_step[[*SHARES]].mean().reset_index(), by_step[["error"]].max().reset_index()
    parts = [over_time(errors.assign(line=LARGEST), {"error": ERROR}, counted, by=["line"], log=True)]
    for column, name in SHARES.items():
        parts.append(over_time(by_layer.assign(line=name), {column: BY_LAYER}, counted, x="x", by=["line"]))
        parts.append(over_time(shares.assign(line=name), {column: OVER_TIME}, counted, by=["line"]))
    found = pd.concat(parts, ignore_index=True).assign(largest=table["error"].max())
    several = found["normalisation"].nunique() > 1
    return found.assign(panel=found["setting"] + (", " + found["arm"] if several else ""))


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw the shares by layer and over time, and the error; a column per setting and normalisation."""
    rows = (
        Row(BY_LAYER, _lines, x_label="layer"),
        Row(OVER_TIME, _lines),
        Row(ERROR, _lines, log=True, at=lambda here: TOLERANCE),
    )
    return panels(numbers, rows, column="panel")


def _lines(axes: Axes, here: pd.DataFrame) -> None:
    for name, rows in here[here["seed"].isna()].groupby("line"):
        rows = rows.sort_values("x")
        axes.plot(rows["x"], rows["y"], color=COLOURED[name], label=name)
        axes.fill_between(rows["x"], rows["low"], rows["high"], color=COLOURED[name], alpha=0.18, linewidth=0)


def caption(numbers: pd.DataFrame) -> str:
    """State the identity, and what its error is."""
    largest = numbers["largest"].max()
    unit = 10.0 ** math.floor(math.log10(largest)) if largest > 0 else 1.0
    return (
        "For z = γŷ + β with ŷ = (y − μ)/σ over m examples, and g = ∂L/∂z: ‖∂L/∂y‖² = γ²/σ² · (‖g‖² −"
        " (Σg)²/m − (Σg·ŷ)²/m). Shares: the two subtracted terms, as a share of ‖g‖². Error: between the two"
        f" sides, in float64, at most {math.ceil(largest / unit) * unit:.0e}; dotted: 1e-10.{LOGARITHMS}"
    )
