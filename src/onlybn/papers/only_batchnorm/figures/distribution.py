"""Histograms over channels, a panel per network: Figure 4, Appendices G, H and I."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, per_run, point
from onlybn.papers.only_batchnorm.looks import LOOKS
from onlybn.papers.only_batchnorm.reach import decay_reach

MOMENTS = ["mean", "deviation", "negative"]


def moments(numbers: pd.DataFrame, symbol: str) -> str:
    """Say each regime's mean, deviation and negative share, averaged over the networks."""
    phrases = []
    for regime in LOOKS.of_regimes(numbers):
        points = numbers[numbers["regime"] == regime].dropna(subset="mean")
        points = points.drop_duplicates(point(points))
        if len(points):
            mean, deviation, negative = points[MOMENTS].mean()
            phrases.append(
                f"{regime}: {symbol} = {style.signed(mean, 2)} ± {deviation:.2f} over channels,"
                f" {negative:.0f} % negative"
            )
    over = " (averaged over the networks)" if numbers["architecture"].nunique() > 1 else ""
    return f"{'; '.join(phrases)}{over}. " if phrases else ""


@dataclass(frozen=True)
class Distribution:
    """A figure of a table's `column`; `finds` is what the paper finds.

    Without `edges` there are about 80 bins over the middle 99.8 % of all values. 0 is in the middle of a
    bin, since an edge there would halve a spike of values of both signs. `log` draws the shares on a
    logarithmic axis.
    """

    column: str
    label: str
    finds: str = ""
    edges: tuple[float, ...] | None = None
    log: bool = False
    CROSSES: ClassVar = False
    remark = staticmethod(decay_reach)

    def numbers(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a row per architecture, regime and bin: the mean over seeds of its share of channels.

        `share` is in percent, and the bin is from `left` to `right`; the outermost bins also count the values
        beyond them. Each row also has the `mean` and `deviation` of the values and the percentage that is
        `negative`, each computed over the channels of a run and averaged over runs.
        """
        edges = self.edges
        if edges is None:
            measured = table.loc[table["status"] == "finished", self.column].dropna()
            low, high = measured.quantile([0.001, 0.999]) if len(measured) else (0.0, 1.0)
            width = (high - low) / 80 or 1.0
            edges = width * (np.arange(round(low / width), round(high / width) + 2) - 0.5)
        bins = len(edges) - 1

        def measure(rows: pd.DataFrame) -> dict[str, float]:
            values = rows[self.column].dropna().to_numpy(float)
            counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
            facts = dict.fromkeys(MOMENTS, np.nan)
            if len(values):
                found = (values.mean(), values.std(ddof=1), 100 * (values < 0).mean())
                facts = dict(zip(MOMENTS, found, strict=True))
            shares = 100 * counts / (len(values) or np.nan)
            return facts | {f"bin_{place}": share for place, share in enumerate(shares)}

        values = [*MOMENTS, *(f"bin_{place}" for place in range(bins))]
        points = over_seeds(per_run(table, measure), values=values)
        kept = [name for name in points.columns if not name.startswith("bin_") and not name.endswith("_std")]
        return pd.concat(
            [
                points[kept].assign(left=edges[place], right=edges[place + 1], share=points[f"bin_{place}"])
                for place in range(bins)
            ]
        ).sort_values(["architecture", "regime", "left"], ignore_index=True)

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw a panel per network, a filled outline per regime."""

        def panel(axes: Axes, network: pd.DataFrame) -> None:
            for regime, look in LOOKS.of_regimes(network).items():
                here = network[network["regime"] == regime]
                if here["share"].notna().any():
                    edges = [*here["left"], here["right"].iloc[-1]]
                    axes.stairs(here["share"], edges, color=look.colour, label=look.label, linewidth=1)
                    axes.stairs(here["share"], edges, color=look.colour, fill=True, alpha=0.18)
            if self.log:
                axes.set_yscale("log")

        return style.network_panels(numbers, panel, x_label=self.label, y_label="channels (%)", share_x=True)

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say the moments, what the outermost bins and the axis are, and what the paper finds."""
        bins = "" if self.edges else "The outermost bins also count the values beyond them. "
        axis = "The vertical axis is logarithmic. " if self.log else ""
        measured = "" if self.edges else moments(numbers, self.label)
        return f"{measured}{bins}{axis}{self.finds}".rstrip()


GAMMA = Distribution(
    "gamma",
    "γ",
    "The paper finds a wider spread of γ, with a spike at 0, if only BatchNorm trains.",
)
BETA = Distribution(
    "beta",
    "β",
    "The paper finds many β near 0 if only BatchNorm trains.",
)
OFF = Distribution(
    "off",
    "Pr[activation = 0]",
    edges=tuple(np.linspace(0, 1, 41)),
    log=True,
)
