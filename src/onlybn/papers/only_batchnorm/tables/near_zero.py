"""Near-zero γ by the sign of β: a channel with γ = 0 and β > 0 is a constant, not an absent feature."""

import pandas as pd

from onlybn.drawing.summaries import networks, over_seeds, per_run
from onlybn.papers.only_batchnorm.figures.shares import THRESHOLD

WORDS = ("architecture", "regime")
SHARES = ("near_zero", "beta_negative", "beta_zero", "beta_positive", "near_zero_without_shortcuts")


def numbers(affine: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: percentages of all BatchNorm channels.

    `near_zero` is the share with |γ| < 0.01. The next three are its parts by the sign of β (zero: |β| <
    0.01), and the last is the share among the channels that are not on shortcuts.
    """

    def measure(rows: pd.DataFrame) -> dict[str, float]:
        rows = rows.dropna(subset="gamma")  # missing in a network without normalisation
        small, beta = rows["gamma"].abs() < THRESHOLD, rows["beta"]
        zero = beta.abs() < THRESHOLD
        shares = (small, small & ~zero & (beta < 0), small & zero, small & ~zero & (beta > 0))
        inner = small[rows["position"] != "shortcut"]
        return dict(zip(SHARES, [100 * share.mean() for share in (*shares, inner)], strict=True))

    return over_seeds(per_run(affine, measure), values=SHARES)


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network and regime, in percent of all channels."""
    return numbers.assign(architecture=networks(numbers))[["architecture", "regime"]].assign(
        **{
            # No bars for an absolute value: they would end a cell of Markdown.
            "γ within 0.01 of 0": numbers["near_zero"],
            "and β below that": numbers["beta_negative"],
            "β within 0.01 of 0": numbers["beta_zero"],
            "β above that": numbers["beta_positive"],
            "without shortcuts": numbers["near_zero_without_shortcuts"],
            "n": numbers["n"],
        }
    )


def caption(numbers: pd.DataFrame) -> str:
    """Say what the columns are, and why the sign of β matters."""
    return (
        f"Channels with |γ| < {THRESHOLD}, in percent of all BatchNorm channels; the last share leaves out"
        " the shortcuts' channels. A channel with γ = 0 is the constant β. The feature is absent only if a"
        " ReLU follows directly and β ≤ 0. The split is not in the paper."
    )
