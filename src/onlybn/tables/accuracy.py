"""Final test accuracy of every network and regime: mean ± standard deviation over seeds, with n."""

import pandas as pd

from onlybn.summaries import finals, over_seeds
from onlybn.variants import DEFAULT


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: top-1 and top-5 in percent, n, what failed."""
    return over_seeds(finals(metrics))


def markdown(numbers: pd.DataFrame) -> str:
    """Return a row per network and a column per regime: mean ± standard deviation (n) of top-1."""
    cells = numbers.assign(cell=[_cell(row) for row in numbers.itertuples()])
    variant = numbers["variant"].ne(DEFAULT)
    cells["network"] = cells["architecture"] + (" " + cells["variant"]).where(variant, "")
    wide = cells.pivot(index="network", columns="regime", values="cell").fillna("")
    wide = wide.reindex(index=cells["network"].unique(), columns=numbers["regime"].unique())
    return wide.to_markdown(disable_numparse=True, colalign=("left", *["right"] * len(wide.columns)))


def _cell(point) -> str:
    if point.n == 0:
        return f"diverged ({point.diverged})"
    spread = f" ± {point.top_1_std:.1f}" if point.n > 1 else ""
    lost = f", {point.diverged} diverged" if point.diverged else ""
    return f"{point.top_1:.1f}{spread} (n = {point.n}{lost})"
