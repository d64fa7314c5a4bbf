"""How a paper's regimes and families look: labels, colours and marks, and the panels of figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pandas as pd
import seaborn as sns

from onlybn import custom
from onlybn.drawing.summaries import differs

COLOURS = sns.color_palette("colorblind")
# For regimes and families that the paper lacks, such as custom ones and `random-K` for other K, in turn.
OTHER_COLOURS = (COLOURS[8], COLOURS[4], COLOURS[5], COLOURS[1], COLOURS[6])
OTHER_MARKS = "Xphd8"


@dataclass(frozen=True)
class Look:
    """The label of a regime, its colour (any that matplotlib accepts) and its mark."""

    label: str
    colour: Any
    mark: str


@dataclass(frozen=True)
class Panel:
    """The panel of a family; its name ends in the column of its x-axis, `depth` or `width`.

    `too` are networks of other families that it also shows, if it shows any of its own family.
    """

    name: str
    family: str
    colour: Any
    mark: str
    too: Sequence[str] = ()


def x_column(panel: str) -> str:
    """Return the column of a panel's x-axis."""
    return panel.split()[-1]


@dataclass(frozen=True)
class Looks:
    """The looks of regimes by name, and the panels, both in the order of the figures."""

    regimes: Mapping[str, Look]
    panels: Sequence[Panel]

    def of_regimes(self, numbers: pd.DataFrame) -> dict[str, Look]:
        """Return the look of each regime in the numbers, the paper's regimes first.

        A regime looks the same in every panel of a figure, since `named` keeps all regimes of the figure.
        """
        present = set(numbers["regime"])
        others = [name for name in named(numbers).cat.categories if name not in self.regimes]
        looks = zip(others, cycle(OTHER_COLOURS), cycle(OTHER_MARKS), strict=False)
        every = {**self.regimes, **{name: Look(_label(name), *look) for name, *look in looks}}
        return {name: look for name, look in every.items() if name in present}

    def of_panels(self, numbers: pd.DataFrame) -> dict[str, Look]:
        """Return the look of each panel in the numbers, those of the paper's families first."""
        present = dict.fromkeys(numbers["panel"])
        first = {p.name: Look(p.name, p.colour, p.mark) for p in self.panels if p.name in present}
        others = [name for name in present if name not in first]
        looks = zip(others, cycle(OTHER_COLOURS), cycle(OTHER_MARKS), strict=False)
        return first | {name: Look(name, *look) for name, *look in looks}

    def by_panel(self, points: pd.DataFrame) -> pd.DataFrame:
        """Add the columns `panel` and `x`, the value on its x-axis; a point may be in several panels.

        A family without a panel gets one by depth, or by width if all its networks have one depth.
        """
        panels, families = list(self.panels), {panel.family for panel in self.panels}
        for family, members in points.groupby("family", sort=False):
            if family not in families:
                by = "width" if members["depth"].nunique() == 1 < members["width"].nunique() else "depth"
                panels.append(Panel(f"{family} {by}", family, None, ""))
        placed = []
        # Points that are not neutral on an optional axis get panels of their own.
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
    """Return the regime of each row as a categorical with all regimes of the figure, in their order."""
    regimes = numbers["regime"]
    if isinstance(regimes.dtype, pd.CategoricalDtype):
        return regimes
    return regimes.astype(pd.CategoricalDtype(list(dict.fromkeys(regimes))))


def _label(regime: str) -> str:
    """Return the label of a regime that the paper lacks."""
    if custom.is_custom(regime):
        return regime.split(":")[1]
    number = regime.removeprefix("random-")
    if number == regime:
        return regime
    return f"{number} random weight{'s' * (number != '1')} per channel"
