"""Near-zero γ by the sign of β: with γ = 0 and β > 0 a channel is a constant, not an absent feature."""

import pandas as pd

from onlybn.drawing.summaries import networks, over_seeds, per_run
from onlybn.papers.only_batchnorm.figures.shares import THRESHOLD

WORDS = ("architecture", "regime")
SHARES = ("near_zero", "beta_negative", "beta_zero", "beta_positive", "near_zero_without_shortcuts")


def numbers(affine: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: percentages of all BatchNorm channels.

    `near_zero` is the share with |γ| < 0.01, the next three its parts by the sign of β (zero: |β| < 0.01),
    and the last the share among the channels that are not on shortcuts.
    """

    def measure(rows: pd.DataFrame) -> dict[str, float]:
        rows = rows.dropna(subset="gamma")  # which a network without normalisation lacks
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
            # No bars for the absolute value: they end a cell of Markdown.
            "γ within 0.01 of 0": numbers["near_zero"],
            "and β below that": numbers["beta_negative"],
            "β within 0.01 of 0": numbers["beta_zero"],
            "β above that": numbers["beta_positive"],
            "without shortcuts": numbers["near_zero_without_shortcuts"],
            "n": numbers["n"],
        }
    )


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        f"Channels with |γ| < {THRESHOLD}, in percent of all BatchNorm channels, split by the sign of β, and"
        " the share without the shortcuts' channels. With γ = 0 a channel is the constant β: an absent"
        " feature where a ReLU of its own makes 0 of it (β ≤ 0), and not with β > 0, or where it is added to"
        " another before a ReLU. The split is not in the paper."
    )
