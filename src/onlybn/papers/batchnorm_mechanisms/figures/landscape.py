"""The loss and its gradient along the gradient while networks train (Santurkar et al., Figures 4 and 11)."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import counts, described, over_time
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, Row, edges, panels
from onlybn.papers.batchnorm_mechanisms.measures import bands

LOSS, CHANGE, RELATIVE, BETA, RATE_BETA = "loss", "‖Δg‖", "largest ‖Δg‖ / ‖g‖", "effective β", "rate · β"
# The measure and the edge of a band, by column of `bands`.
BANDS = {
    "loss_low": (LOSS, "low"),
    "loss_high": (LOSS, "high"),
    "decayed_low": (LOSS, "decayed low"),
    "decayed_high": (LOSS, "decayed high"),
    "change_low": (CHANGE, "low"),
    "change_high": (CHANGE, "high"),
}
LINES = {"relative_change": RELATIVE, "beta": BETA, "rate_beta": RATE_BETA}
STABLE = 2.0  # of rate · β: the edge of stability
ROWS = (
    Row(LOSS, edges, log=True),
    Row(CHANGE, edges, log=True),
    Row(RELATIVE, log=True),
    Row(BETA, log=True),
    Row(RATE_BETA, log=True, at=lambda here: STABLE),
)


def numbers(landscape: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, direction, measure, `edge` of a band and step: mean `y`, `std`, n; diverged runs.

    Where a probe's loss is not finite, `y` is infinite.
    """
    counted, table = counts(described(landscape)), described(bands(landscape))
    of = ["direction", "edge"]
    parts = [
        over_time(table.assign(edge=edge), {column: measure}, counted, by=of, log=True)
        for column, (measure, edge) in BANDS.items()
    ]
    parts.append(over_time(table.assign(edge=""), LINES, counted, by=of, log=True))
    found = pd.concat(parts, ignore_index=True)
    decays = found["edge"].str.startswith("decayed")
    if found.loc[decays, "y"].tolist() == found.loc[found["measure"].eq(LOSS) & ~decays, "y"].tolist():
        found = found[~decays]  # no run has a decay term
    along = found["direction"].map({"gradient": "", "random": ", random directions"})
    return found.assign(panel=found["setting"] + along)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw the bands of loss and gradient, and effective β; a column per setting and kind of direction."""
    return panels(numbers, ROWS, column="panel")


def caption(numbers: pd.DataFrame) -> str:
    """Say what was probed, and what the bands and lines are."""
    random = " or a random direction of its length" if numbers["direction"].eq("random").any() else ""
    dashed = " Dashed: with the decay term." if numbers["edge"].str.startswith("decayed").any() else ""
    return (
        f"The loss of the batch and its gradient at W − ηd, where d is the gradient g{random} and η is the"
        " learning rate times each probed factor. In the panels of loss and ‖Δg‖, bands reach from the"
        " smallest to the largest value over η, means over seeds; elsewhere shading is one standard"
        " deviation. ‖Δg‖ = ‖∇L(W − ηd) − g‖, and the effective β is the largest ‖Δg‖ / (η‖d‖)."
        f"{dashed} Dotted: rate · β = 2, the edge of stability.{LOGARITHMS} What is not finite is not drawn."
    )
