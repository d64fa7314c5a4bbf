"""Final test accuracy of every network and regime: mean ± standard deviation over seeds, with n."""

import pandas as pd

from onlybn.drawing.summaries import differing, finals, networks, over_seeds

WORDS = ("network",)


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: top-1 and top-5 in percent, n, what failed."""
    return over_seeds(finals(metrics))


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network and a column per regime: mean ± standard deviation (n) of top-1."""
    cells = numbers.assign(cell=[_cell(row) for row in numbers.itertuples()])
    cells["network"] = networks(cells)
    if "training" in cells:
        cells["network"] = (cells["network"] + " " + differing(cells["training"])).str.rstrip()
    wide = cells.pivot(index="network", columns="regime", values="cell").fillna("")
    wide = wide.reindex(index=cells["network"].unique(), columns=numbers["regime"].unique())
    return wide.reset_index()


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    top_1 = numbers.loc[numbers["regime"] == "batchnorm", "top_1"].dropna()
    ends = " to ".join(dict.fromkeys([f"{top_1.min():.1f}", f"{top_1.max():.1f}"]))
    climbs = f" BatchNorm alone reaches {ends} %." if len(top_1) else ""
    return f"Final test accuracy, top-1 in percent, by network and by what trains.{climbs}"


def _cell(point) -> str:
    if point.n == 0:
        return f"diverged ({point.diverged})"
    spread = f" ± {point.top_1_std:.1f}" if point.n > 1 else ""
    lost = f", {point.diverged} diverged" if point.diverged else ""
    return f"{point.top_1:.1f}{spread} (n = {point.n}{lost})"
