"""The learned a and b by layer (beyond the paper, which tells their ranges)."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, run
from onlybn.papers.weight_compander.arms import FUNCTION, labels, with_function
from onlybn.papers.weight_compander.functions import LEARNED, parsed
from onlybn.papers.weight_compander.looks import looks

CROSSES = False


def numbers(weights: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network, learned function, parameter and layer: mean size `y`, `std`, n.

    They are those after training. `x` counts the layers from 1, the output layer last; `start` is where the
    parameter starts.
    """
    table = with_function(weights)
    table = table[[parsed(name).method in LEARNED for name in table[FUNCTION]]]
    if table.empty:
        return table
    table = table[table["step"] == table.groupby(run(table), dropna=False)["step"].transform("max")]
    table = table.assign(a=table["a"].abs(), b=table["b"].abs())
    points = over_seeds(table, values=["a", "b"], by=["number"])
    starts = pd.DataFrame([parsed(name).numbers for name in points[FUNCTION]], columns=["a", "b"])
    kept = points.drop(columns=["a", "a_std", "b", "b_std", "number"])
    return pd.concat(
        [
            kept.assign(
                network=labels(points),
                parameter=name,
                x=points["number"] + 1,
                y=points[name],
                std=points[f"{name}_std"],
                start=starts[name].to_numpy(),
            )
            for name in ("a", "b")
        ],
        ignore_index=True,
    ).sort_values(["family", "depth", "network", FUNCTION, "parameter", "x"], ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a row of panels for each of a and b, a panel per network, a line per function."""
    shown = list(dict.fromkeys(numbers["network"]))
    figure, grid = plt.subplots(
        2,
        len(shown),
        figsize=(max(3.4, 2.3 * len(shown)), 3.6),
        squeeze=False,
        sharey="row",
        sharex="col",
        layout="constrained",
    )
    title = known(numbers["dataset"].iloc[0]).title
    for line, parameter in zip(grid, ("a", "b"), strict=True):
        for axes, network in zip(line, shown, strict=True):
            here = numbers[(numbers["network"] == network) & (numbers["parameter"] == parameter)]
            for name, look in looks(here[FUNCTION]).items():
                rows = here[here[FUNCTION] == name]
                axes.errorbar(
                    rows["x"], rows["y"], rows["std"], color=look.colour, marker=look.mark, label=look.label
                )
                axes.axhline(rows["start"].iloc[0], color=look.colour, linestyle=":", linewidth=0.9)
        line[0].set_ylabel(f"|{parameter}|")
    for axes, network in zip(grid[0], shown, strict=True):
        axes.set_title(f"{title}, {network}")
    for axes in grid[1]:
        axes.set_xlabel("layer")
    style.legend_below(figure, list(grid.flat))
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what the lines are, and what the paper tells."""
    return (
        "Sizes of the learned a and b of each layer after training, the output layer last. Dotted: where they"
        " start. A sign is free, since −a with −v is the same function. The paper tells that a of a"
        " convolution stays within 0.35 of its start and that of the last layer reaches 8.5 and more, and"
        " that b is larger in early layers, up to 11.15 in the last."
    )
