"""Internal covariate shift as change of gradient (Santurkar et al., Figure 3)."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import at_places, counts, described, over_time
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, Row, panels

SHIFT, RELATIVE, COSINE = "‖G − G′‖", "‖G − G′‖ / ‖G‖", "cos(G, G′)"
# The layers drawn: 5 and 10 of VGG-16's convolutions, 9 and 17 of the deep linear network's 25 layers.
PLACES = {"middle": 1 / 3, "late": 2 / 3}
ROWS = (
    Row(SHIFT, log=True, equal=True),
    Row(RELATIVE, log=True, equal=True),
    Row(COSINE, limits=(-1.05, 1.05)),
)


def numbers(gradient_shift: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, layer (middle, late), measure and step: mean `y`, `std`, n; and diverged runs."""
    table = described(gradient_shift)
    layers, counted, by = at_places(table, PLACES), counts(table), ["place", "layer"]
    sizes = over_time(layers, {"shift": SHIFT, "relative": RELATIVE}, counted, by=by, log=True)
    found = pd.concat([sizes, over_time(layers, {"cosine": COSINE}, counted, by=by)], ignore_index=True)
    panel = found["setting"] + ", " + found["layer"]
    return found.assign(panel=panel, block=found["dataset"] + " " + found["architecture"])


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw the shift, relative to the gradient, and the cosine; a column per setting and layer."""
    return panels(numbers, ROWS, column="panel")


def caption(numbers: pd.DataFrame) -> str:
    """Say what the shift is."""
    return (
        "G is the gradient of a layer's weight in a step. G′ is the same on the same batch, with all earlier"
        " layers at the values that the step gives them. A cosine of 1 and a distance of 0 mean that the"
        " earlier layers' step does not change what the layer learns." + LOGARITHMS
    )
