"""Histograms over channels, a panel per network: what Figure 4 and Appendices G, H and I share."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, per_run, point
from onlybn.papers.only_batchnorm.looks import LOOKS


def numbers(table: pd.DataFrame, column: str, edges: Sequence[float] | None = None) -> pd.DataFrame:
    """Return a row per architecture, regime and bin: the mean over seeds of its share of channels.

    `share` is in percent, the bin from `left` to `right`; values beyond the outer edges count in the
    outermost bins. Each row also holds, as means over runs of what is computed over a run's channels, the
    `mean` and `deviation` of the values and the percentage that is `negative`. Without `edges` there are
    some 80 bins over the middle 99.8 % of all values, 0 in the middle of one: an edge there would halve a
    spike of values of both signs.
    """
    measured = table.loc[table["status"] == "finished", column].dropna()
    if edges is None:
        low, high = measured.quantile([0.001, 0.999]) if len(measured) else (0.0, 1.0)
        width = (high - low) / 80 or 1.0
        edges = width * (np.arange(round(low / width), round(high / width) + 2) - 0.5)
    edges = np.asarray(edges)
    bins = len(edges) - 1

    def measure(rows: pd.DataFrame) -> dict[str, float]:
        values = rows[column].dropna().to_numpy(float)
        counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
        facts = {"mean": np.nan, "deviation": np.nan, "negative": np.nan}
        if len(values):
            facts = {
                "mean": values.mean(),
                "deviation": values.std(ddof=1),
                "negative": 100 * (values < 0).mean(),
            }
        shares = 100 * counts / (len(values) or np.nan)
        return facts | {f"bin_{place}": share for place, share in enumerate(shares)}

    values = ["mean", "deviation", "negative", *(f"bin_{place}" for place in range(bins))]
    points = over_seeds(per_run(table, measure), values=values)
    kept = [name for name in points.columns if not name.startswith("bin_") and not name.endswith("_std")]
    return pd.concat(
        [
            points[kept].assign(left=edges[place], right=edges[place + 1], share=points[f"bin_{place}"])
            for place in range(bins)
        ]
    ).sort_values(["architecture", "regime", "left"], ignore_index=True)


def draw(numbers: pd.DataFrame, label: str, *, log: bool = False) -> Figure:
    """Draw a panel per network, with a filled outline per regime."""

    def panel(axes: Axes, network: pd.DataFrame) -> None:
        for regime, look in LOOKS.of_regimes(network).items():
            here = network[network["regime"] == regime]
            if here["share"].notna().any():
                edges = [*here["left"], here["right"].iloc[-1]]
                axes.stairs(here["share"], edges, color=look.colour, label=look.label, linewidth=1)
                axes.stairs(here["share"], edges, color=look.colour, fill=True, alpha=0.18)
        if log:
            axes.set_yscale("log")

    return style.network_panels(numbers, panel, x_label=label, y_label="channels (%)", share_x=True)


def moments(numbers: pd.DataFrame, symbol: str) -> str:
    """Say each regime's mean, deviation and negative share, of one network or averaged over several."""
    phrases = []
    for regime in LOOKS.of_regimes(numbers):
        points = numbers[numbers["regime"] == regime]
        points = points.drop_duplicates(point(points))
        points = points.dropna(subset="mean")
        if len(points):
            mean, deviation, negative = points[["mean", "deviation", "negative"]].mean()
            phrases.append(
                f"{regime}: {symbol} {mean:.2f} ± {deviation:.2f} over channels, {negative:.0f} % negative"
            )
    over = " (averaged over the networks)" if numbers["architecture"].nunique() > 1 else ""
    return "; ".join(phrases) + over + ". The outermost bins hold what lies beyond them too."
