"""The deep linear network: loss, effective β and gradient shift (Santurkar et al., Figures 3b, 10 and 13)."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import at_places, counts, described, over_time
from onlybn.papers.batchnorm_mechanisms.figures.gradient_shift import PLACES
from onlybn.papers.batchnorm_mechanisms.figures.landscape import BETA, STABLE
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, Row, panels
from onlybn.papers.batchnorm_mechanisms.measures import effective_beta

LOSS = "training loss"


def numbers(curve: pd.DataFrame, landscape: pd.DataFrame, gradient_shift: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure and step: loss of the batch, effective β, and cosines in two layers."""
    shifts = described(gradient_shift)
    counted = counts(described(curve))
    parts = [
        over_time(described(curve), {"loss": LOSS}, counted, log=True),
        over_time(described(effective_beta(landscape)), {"beta": BETA}, counted, log=True),
    ]
    cosines = over_time(at_places(shifts, PLACES), {"cosine": ""}, counted, by=["layer"])
    parts.append(cosines.assign(measure="cos(G, G′), " + cosines["layer"]))
    return pd.concat(parts, ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw loss, effective β and the cosines below each other, a column per setting."""
    cosines = [name for name in dict.fromkeys(numbers["measure"]) if name not in (LOSS, BETA)]
    rows = [Row(LOSS, log=True), Row(BETA, log=True, at=lambda here: STABLE / here["rate"].iloc[0])]
    return panels(numbers, [*rows, *(Row(name, limits=(-1.05, 1.05)) for name in cosines)])


def caption(numbers: pd.DataFrame) -> str:
    """Say what the loss is, and what the dotted line is."""
    return (
        "The loss is half the sum of squares over the batch. The effective β is the largest ‖∇L(W − ηg) − g‖"
        " / (η‖g‖) over the probed η. Dotted: 2 / rate, the edge of stability. G is the gradient of a"
        " layer's weight, and G′ the same with all earlier layers at their next values." + LOGARITHMS
    )
