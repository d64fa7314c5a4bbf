"""Accuracy by initialisation: what Appendices E.1 and E.2 share."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.looks import COLOURS
from onlybn.drawing.summaries import finals, over_seeds, stuck
from onlybn.papers.only_batchnorm.looks import LOOKS

_MARKERS = ("o", "s", "^", "D")


def numbers(metrics: pd.DataFrame, part: int, *, without_failed: bool = False) -> pd.DataFrame:
    """Return a row per panel, regime, architecture and initialisation: mean top-1 `y`.

    `initialisation` is that part of the variant's name: 0 the features', 1 BatchNorm's. `runs` says whether
    the mean is over `all` runs or, with `without_failed`, and for an initialisation of which any run ended
    at chance, over those that `trained`.
    """
    runs = finals(metrics)
    taken = {"all": runs}
    if without_failed:
        taken["trained"] = runs[~stuck(runs) | (runs["status"] == "diverged")]
    points = pd.concat(
        [over_seeds(chosen, values=["top_1"]).assign(runs=name) for name, chosen in taken.items()]
    )
    points["initialisation"] = points["variant"].str.split("_").str[part]
    failed = points.loc[points["at_chance"] > 0, "initialisation"]
    points = points[points["runs"].eq("all") | points["initialisation"].isin(failed)]
    return LOOKS.by_panel(points.rename(columns={"top_1": "y", "top_1_std": "std"}))


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a row of panels per regime, a line per initialisation; dotted is without the runs that failed."""
    names = list(dict.fromkeys(numbers["initialisation"]))

    def panel(axes: Axes, here: pd.DataFrame) -> None:
        for name, colour, marker in zip(names, COLOURS, _MARKERS, strict=False):
            for runs, line in (("all", "-"), ("trained", ":")):
                shown = here[(here["initialisation"] == name) & (here["runs"] == runs)]
                if len(shown):
                    label = name if runs == "all" else f"{name}, runs that trained"
                    style.points(axes, shown, label=label, colour=colour, marker=marker, line=line)
        style.chance_line(axes, here)

    return style.accuracies_by_regime(numbers, panel, LOOKS)
