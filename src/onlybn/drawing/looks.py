"""How a paper's regimes and families look: their labels, colours and marks, and which panels there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pandas as pd
import seaborn as sns

from onlybn import custom
from onlybn.drawing.summaries import differs

COLOURS = sns.color_palette("colorblind")
# Of the user's families and regimes, and of `random-K` for other K, one after the other.
OWN_COLOURS = (COLOURS[8], COLOURS[4], COLOURS[5], COLOURS[1], COLOURS[6])
OWN_MARKS = "Xphd8"


@dataclass(frozen=True)
class Look:
    """What a reader calls a regime, its colour (as matplotlib takes it) and its mark."""

    label: str
    colour: Any
    mark: str


@dataclass(frozen=True)
class Panel:
    """Where a family is drawn; the panel's name ends in the column along its x-axis, `depth` or `width`.

    `too` are networks of other families that stand there besides, where the family has any.
    """

    name: str
    family: str
    colour: Any
    mark: str
    too: Sequence[str] = ()


def x_column(panel: str) -> str:
    """Return the column along a panel's x-axis."""
    return panel.split()[-1]


@dataclass(frozen=True)
class Looks:
    """The looks of regimes by name and the panels, both in the order in which figures show them."""

    regimes: Mapping[str, Look]
    panels: Sequence[Panel]

    def of_regimes(self, numbers: pd.DataFrame) -> dict[str, Look]:
        """Return the regimes that there are, those with a look first, each as there.

        The others look alike in every panel of a figure, since each panel knows all of its regimes.
        """
        there = set(numbers["regime"])
        others = [name for name in named(numbers).cat.categories if name not in self.regimes]
        own = zip(others, cycle(OWN_COLOURS), cycle(OWN_MARKS), strict=False)
        every = {**self.regimes, **{name: Look(_called(name), *look) for name, *look in own}}
        return {name: look for name, look in every.items() if name in there}

    def of_panels(self, numbers: pd.DataFrame) -> dict[str, Look]:
        """Return the panels that there are, those of the paper's families first, each as there."""
        there = dict.fromkeys(numbers["panel"])
        first = {p.name: Look(p.name, p.colour, p.mark) for p in self.panels if p.name in there}
        others = [name for name in there if name not in first]
        own = zip(others, cycle(OWN_COLOURS), cycle(OWN_MARKS), strict=False)
        return first | {name: Look(name, *look) for name, *look in own}

    def by_panel(self, points: pd.DataFrame) -> pd.DataFrame:
        """Place points in the panels of their families, `x` being their place along the axis.

        A family without a panel has one by depth, or by width where it has networks of one depth only.
        """
        panels, families = list(self.panels), {panel.family for panel in self.panels}
        for family, members in points.groupby("family", sort=False):
            if family not in families:
                by = "width" if members["depth"].nunique() == 1 < members["width"].nunique() else "depth"
                panels.append(Panel(f"{family} {by}", family, None, ""))
        placed = []
        # What is not neutral on an optional axis has panels of its own.
        for words, group in points.groupby(differs(points), sort=False):
            for panel in panels:
                members = group["family"] == panel.family
                if members.any():
                    members |= group["architecture"].isin(panel.too)
                name = f"{words}: {panel.name}" if words else panel.name
                placed.append(group[members].assign(panel=name, x=group.loc[members, x_column(name)]))
        whole = pd.concat(placed or [points.assign(panel="", x=0.0)]).reset_index(drop=True)
        return whole.sort_values(["panel", "regime", "x"], ignore_index=True)


def named(numbers: pd.DataFrame) -> pd.Series:
    """Return the regime of each row, which knows of all regimes of the figure, in their order."""
    regimes = numbers["regime"]
    if isinstance(regimes.dtype, pd.CategoricalDtype):
        return regimes
    return regimes.astype(pd.CategoricalDtype(list(dict.fromkeys(regimes))))


def _called(regime: str) -> str:
    """Return what a reader calls a regime that has no look."""
    if custom.is_custom(regime):
        return regime.split(":")[1]
    number = regime.removeprefix("random-")
    if number == regime:
        return regime
    return f"{number} random weight{'s' * (number != '1')} per channel"
