"""Final test accuracy of every network and regime: mean ± standard deviation over seeds, with n."""

import pandas as pd

from onlybn.drawing.summaries import differing, finals, networks, over_seeds

WORDS = ("network",)


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: top-1 and top-5 in percent, n, failed runs."""
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
    """Say the measure, and what BatchNorm alone reaches."""
    top_1 = numbers.loc[numbers["regime"] == "batchnorm", "top_1"].dropna()
    ends = " to ".join(dict.fromkeys([f"{top_1.min():.1f}", f"{top_1.max():.1f}"]))
    return "Top-1 in percent." + (f" BatchNorm alone reaches {ends} %." if len(top_1) else "")


def _cell(point) -> str:
    if point.n == 0:
        return f"diverged ({point.diverged})"
    spread = f" ± {point.top_1_std:.1f}" if point.n > 1 else ""
    lost = f", {point.diverged} diverged" if point.diverged else ""
    return f"{point.top_1:.1f}{spread} (n = {point.n}{lost})"
