"""Figure 2: the functions Ψ through which weights train, and their slopes Ψ′."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import point
from onlybn.papers.weight_compander.arms import FUNCTION, with_function
from onlybn.papers.weight_compander.functions import curve, parsed
from onlybn.papers.weight_compander.looks import looks, ordered

V = np.linspace(-2, 2, 241)
# Of the functions of one method, which have one colour.
LINES = ("-", ":", "-.", (0, (5, 1)), (0, (1, 4)))


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per function of the study and v from −2 to 2: `weight` Ψ(v) and `slope` Ψ′(v).

    Functions that are learned, or not of a single weight, are left out. The other columns are those of the
    function's first run.
    """
    runs = with_function(metrics)
    found = {name: curve(name, V) for name in ordered(runs[FUNCTION]) if not parsed(name).part}
    curves = {name: values for name, values in found.items() if values is not None}
    if not curves:
        return pd.DataFrame()
    firsts = runs.drop_duplicates(FUNCTION).set_index(FUNCTION, drop=False)[point(runs)]
    return pd.concat(
        [
            pd.DataFrame([firsts.loc[name]] * len(V)).assign(v=V, weight=weight, slope=slope)
            for name, (weight, slope) in curves.items()
        ],
        ignore_index=True,
    )


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw Ψ on the left, and Ψ′ on the right."""
    figure, grid = plt.subplots(1, 2, figsize=(5.6, 2.4), layout="constrained")
    for axes, column, label in zip(grid, ("weight", "slope"), ("Ψ(v)", "Ψ′(v)"), strict=True):
        alike: dict[str, int] = {}
        for name, look in looks(numbers[FUNCTION]).items():
            here = numbers[numbers[FUNCTION] == name]
            place = alike[look.colour] = alike.get(look.colour, -1) + 1
            line = "--" if name == "none" else LINES[place % len(LINES)]
            axes.plot(here["v"], here[column], linestyle=line, color=look.colour, label=look.label)
        axes.set_xlabel("v")
        axes.set_ylabel(label)
        axes.axvline(0, color="0.85", linewidth=0.6, zorder=0)
    at_0 = numbers.loc[numbers["v"] == 0, "slope"].max() or numbers["slope"].max()
    grid[0].set_ylim(V[0], V[-1])
    grid[1].set_ylim(0, 1.25 * at_0)
    style.legend_below(figure, list(grid))
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what the slope does, and what is left out."""
    return (
        "SGD moves a weight in proportion to Ψ′(v)², so small weights move more where Ψ′ is largest at 0."
        " Larger values are cut off. Computed from the functions of the study's runs, without learned ones"
        " and weight normalisation."
    )
