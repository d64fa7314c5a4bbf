"""The deep linear network: loss, landscape and gradient shift (Santurkar et al., Figures 3b, 10 and 13)."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import at_places, counts, described, over_time
from onlybn.papers.batchnorm_mechanisms.figures import landscape as probed
from onlybn.papers.batchnorm_mechanisms.figures.gradient_shift import COSINE, PLACES, SHIFT
from onlybn.papers.batchnorm_mechanisms.figures.landscape import BETA, CHANGE, STABLE
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, Row, edges, panels

LOSS, PROBED = "training loss", "loss at W − ηg"


def numbers(curve: pd.DataFrame, landscape: pd.DataFrame, gradient_shift: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure and step, and per `edge` of a band: mean `y`, `std`, n; diverged runs.

    The measures: loss of the batch; along the gradient, the bands of loss and of the gradient's change and
    the effective β; and in two layers the distance of G and G′ and their cosine.
    """
    counted, bands = counts(described(curve)), probed.numbers(landscape).drop(columns="panel")
    drawn = bands["measure"].isin([probed.LOSS, CHANGE, BETA]) & bands["edge"].isin(["", "low", "high"])
    along = bands[drawn & (bands["direction"] == "gradient")]
    parts = [
        over_time(described(curve), {"loss": LOSS}, counted, log=True),
        along.assign(measure=along["measure"].replace(probed.LOSS, PROBED)),
    ]
    layers = at_places(described(gradient_shift), PLACES)
    for column, measure in (("shift", SHIFT), ("cosine", COSINE)):
        found = over_time(layers, {column: measure}, counted, by=["layer"], log=measure == SHIFT)
        layer = found["layer"].str.replace(" ", "\N{NO-BREAK SPACE}")
        parts.append(found.assign(measure=found["measure"] + ", " + layer))
    return pd.concat(parts, ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw loss, landscape and gradient shift below each other, a column per setting."""
    rows = [
        Row(LOSS, log=True),
        Row(PROBED, edges, log=True),
        Row(CHANGE, edges, log=True),
        Row(BETA, log=True, at=lambda here: STABLE / here["rate"].iloc[0]),
    ]
    for name in dict.fromkeys(numbers["measure"]):
        if name.startswith(SHIFT):
            rows.append(Row(name, log=True))
        if name.startswith(COSINE):
            rows.append(Row(name, limits=(-1.05, 1.05)))
    return panels(numbers, rows)


def caption(numbers: pd.DataFrame) -> str:
    """Say what the loss is, and what the bands and the dotted line are."""
    return (
        "The loss is half the sum of squares over the batch. η is the learning rate times each probed factor;"
        " in the panels of the loss at W − ηg and of ‖Δg‖, bands reach from the smallest to the largest value"
        " over η, means over seeds; elsewhere shading is one standard deviation. ‖Δg‖ = ‖∇L(W − ηg) − g‖, and"
        " the effective β is the largest ‖Δg‖ / (η‖g‖). Dotted: 2 / rate, the edge of stability. G is the"
        " gradient of a layer's weight, and G′ the same with all earlier layers at their next values."
        f"{LOGARITHMS} What is not finite is not drawn."
    )
