"""Accuracy by initialisation: Appendices E.1 and E.2."""

from dataclasses import dataclass
from itertools import cycle

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.looks import OTHER_MARKS
from onlybn.drawing.summaries import finals, over_seeds, stuck
from onlybn.papers.only_batchnorm.looks import LOOKS

# What the legend says for a name of γ's and β's draw; features are named as they are.
LABELS = {
    "gamma-uniform": "γ from U[0, 1], β = 0",
    "gamma-one": "γ = 1, β = 0",
    "gamma-symmetric": "γ from U[−1, 1], β = 0",
    "gamma-one-beta-one": "γ = 1, β = 1",
}


@dataclass(frozen=True)
class Initialisation:
    """A figure of accuracy by a part of the variant's name: 0 for the features, 1 for BatchNorm.

    `without_failed` adds the means without the runs that ended at chance.
    """

    part: int
    finds: str
    without_failed: bool = False

    def numbers(self, metrics: pd.DataFrame) -> pd.DataFrame:
        """Return a row per panel, regime, architecture and initialisation: mean top-1 `y`.

        `runs` is `all`, or `trained` for the mean without the runs that ended at chance. The latter is there
        with `without_failed`, for an initialisation that has such a run.
        """
        runs = finals(metrics)
        groups = {"all": runs}
        if self.without_failed:
            groups["trained"] = runs[~stuck(runs) | (runs["status"] == "diverged")]
        points = pd.concat(
            [over_seeds(group, values=["top_1"]).assign(runs=name) for name, group in groups.items()]
        )
        points["initialisation"] = points["variant"].str.split("_").str[self.part]
        failed = points.loc[points["at_chance"] > 0, "initialisation"]
        points = points[points["runs"].eq("all") | points["initialisation"].isin(failed)]
        return LOOKS.by_panel(points.rename(columns={"top_1": "y", "top_1_std": "std"}))

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw the panels of each regime, a line per initialisation; dotted without the failed runs."""
        names = list(dict.fromkeys(numbers["initialisation"]))
        colours = sns.color_palette("viridis", len(names))  # none of them means a regime

        def panel(axes: Axes, here: pd.DataFrame) -> None:
            lines = [
                style.Series(
                    here[(here["initialisation"] == name) & (here["runs"] == runs)],
                    _label(name) + (", runs that trained" if runs == "trained" else ""),
                    colour,
                    mark,
                    line,
                )
                for name, colour, mark in zip(names, colours, cycle(OTHER_MARKS), strict=False)
                for runs, line in (("all", "-"), ("trained", ":"))
            ]
            style.series(axes, lines, apart=3)
            style.chance_line(axes, here)

        return style.by_regime(numbers, panel, LOOKS, y_label="test accuracy (%)")

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say what the dotted lines are, if any, and what the paper finds."""
        dotted = numbers["runs"].nunique() > 1
        return ("Dotted: means without the runs that ended at chance. " if dotted else "") + self.finds


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("-", " "))


FEATURES = Initialisation(0, "γ is drawn from U[0, 1], and β starts at 0.")
BATCHNORM = Initialisation(
    1,
    "The paper finds γ = 1, β = 1 best if only BatchNorm trains, and worse if all parameters train.",
    without_failed=True,
)
