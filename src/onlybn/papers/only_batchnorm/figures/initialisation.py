"""Accuracy by initialisation: Appendices E.1 and E.2."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.looks import COLOURS
from onlybn.drawing.summaries import finals, over_seeds, stuck
from onlybn.papers.only_batchnorm.looks import LOOKS

_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class Initialisation:
    """A figure of accuracy by a part of the variant's name: 0 the features' draw, 1 BatchNorm's.

    `without_failed` adds the means without the runs that failed.
    """

    part: int
    of: str
    finds: str = ""
    without_failed: bool = False

    def numbers(self, metrics: pd.DataFrame) -> pd.DataFrame:
        """Return a row per panel, regime, architecture and initialisation: mean top-1 `y`.

        `runs` says whether the mean is over `all` runs or, with `without_failed`, and for an initialisation
        of which any run ended at chance, over those that `trained`.
        """
        runs = finals(metrics)
        taken = {"all": runs}
        if self.without_failed:
            taken["trained"] = runs[~stuck(runs) | (runs["status"] == "diverged")]
        points = pd.concat(
            [over_seeds(chosen, values=["top_1"]).assign(runs=name) for name, chosen in taken.items()]
        )
        points["initialisation"] = points["variant"].str.split("_").str[self.part]
        failed = points.loc[points["at_chance"] > 0, "initialisation"]
        points = points[points["runs"].eq("all") | points["initialisation"].isin(failed)]
        return LOOKS.by_panel(points.rename(columns={"top_1": "y", "top_1_std": "std"}))

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw a row of panels per regime, a line per initialisation; dotted is without the failed runs."""
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

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say what to see."""
        dotted = numbers["runs"].nunique() > 1
        without = "; dotted, means without the runs that ended at chance" if dotted else ""
        return f"Test accuracy by the initialisation of {self.of}{without}.{self.finds}"


FEATURES = Initialisation(0, "convolutions and linear layer, γ drawn from U[0, 1], β = 0")
BATCHNORM = Initialisation(
    1,
    "γ and β",
    " The paper finds γ = 1, β = 1 best when BatchNorm alone trains, and worse when everything does.",
    without_failed=True,
)
