"""Quantiles over the channels of each layer, a panel per network: Appendices G, H and I layer by layer."""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from onlybn.drawing import style
from onlybn.drawing.summaries import by_run, over_seeds, per_run, point
from onlybn.papers.only_batchnorm.looks import LOOKS
from onlybn.papers.only_batchnorm.reach import decay_reach

QUANTILES = {"low": 0.1, "median": 0.5, "high": 0.9}


@dataclass(frozen=True)
class Layers:
    """A figure of a table's `column`; its column `layer` counts the layers from 0."""

    column: str
    layer: str
    label: str
    CROSSES: ClassVar = False
    remark = staticmethod(decay_reach)

    def numbers(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a row per architecture, regime and layer; `x` counts layers from 1, in forward order.

        `low`, `median` and `high` are the 10, 50 and 90 % quantiles over the layer's channels of each run,
        averaged over seeds.
        """
        points = over_seeds(per_run(table, lambda rows: {}), values=[])
        names = point(table)
        each = [points[names].head(0).assign(x=table[self.layer].head(0), **dict.fromkeys(QUANTILES, 0.0))]
        measured = table[(table["status"] == "finished") & table[self.layer].notna()]
        for (*run, _), rows in by_run(measured, [*names, "seed"]):
            found = rows.groupby(self.layer)[self.column].quantile(list(QUANTILES.values())).unstack()
            found.columns = list(QUANTILES)
            each.append(found.reset_index(names="x").assign(**dict(zip(names, run, strict=True))))
        means = pd.concat(each).groupby([*names, "x"], sort=False).mean().reset_index()
        means["x"] += 1
        return points.merge(means, on=names, how="left").sort_values(
            ["family", "depth", "width", "regime", "x"], ignore_index=True
        )

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw a panel per network: the medians of each regime, and a band from low to high quantile."""

        def panel(axes: Axes, here: pd.DataFrame) -> None:
            for regime, look in LOOKS.of_regimes(here).items():
                line = here[here["regime"] == regime]
                if line["median"].notna().any():
                    axes.plot(line["x"], line["median"], color=look.colour, label=look.label, linewidth=1)
                    band = {"color": look.colour, "alpha": 0.18, "linewidth": 0}
                    axes.fill_between(line["x"], line["low"], line["high"], **band)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

        return style.network_panels(numbers, panel, x_label="layer", y_label=self.label, share_x=False)

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say what line and band are."""
        return (
            "Line: median over a layer's channels; band: 10 % to 90 % quantile. Layers are in forward order."
        )


GAMMA = Layers("gamma", "layer", "γ")
BETA = Layers("beta", "layer", "β")
OFF = Layers("off", "relu", "Pr[activation = 0]")
