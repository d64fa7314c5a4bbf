"""A table of final test accuracy: a row per network, and a column per value of one of the axes."""

import pandas as pd

from onlybn.drawing.summaries import differing, finals, networks, over_seeds

WORDS = ("network",)


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per point, such as architecture, regime and variant: top-1 and top-5 in percent, n."""
    return over_seeds(finals(metrics))


def shown(numbers: pd.DataFrame, columns: str = "regime", rows: pd.Series | None = None) -> pd.DataFrame:
    """Return a row per network and a column per regime: mean ± standard deviation (n) of top-1.

    The columns may be another axis; `rows` are then the labels of the networks without it.
    """
    cells = numbers.assign(cell=[cell(row) for row in numbers.itertuples()])
    cells["network"] = networks(cells) if rows is None else rows
    if "training" in cells and rows is None:
        cells["network"] = (cells["network"] + " " + differing(cells["training"])).str.rstrip()
    wide = cells.pivot(index="network", columns=columns, values="cell").fillna("")
    wide = wide.reindex(index=cells["network"].unique(), columns=numbers[columns].unique())
    return wide.reset_index()


def cell(point, digits: int = 1) -> str:
    """Return a point's mean ± standard deviation (n) of top-1, with its diverged runs.

    A dataset whose targets are numbers has a dash in place of the accuracy.
    """
    if point.n == 0:
        return f"diverged ({point.diverged})"
    spread = f" ± {point.top_1_std:.{digits}f}" if point.n > 1 else ""
    lost = f", {point.diverged} diverged" if point.diverged else ""
    if pd.isna(point.top_1):
        return f"– (n = {point.n}{lost})"
    return f"{point.top_1:.{digits}f}{spread} (n = {point.n}{lost})"
