"""Table 1: accuracy on a grid of a and b, by which the paper chose them."""

import pandas as pd

from onlybn.drawing.summaries import finals, over_seeds
from onlybn.papers.weight_compander.arms import FUNCTION, labels, with_function
from onlybn.papers.weight_compander.functions import parsed

WORDS = ("network", "a")


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network, a and b: mean top-1 in percent of the split that chooses, and n.

    `split` is `validation`, at the test of each run's final row, where runs hold images out; else `test`.
    """
    split = "validation" if (metrics["split"] == "validation").any() else "test"
    points = with_function(over_seeds(finals(metrics, split), values=["top_1"], by=["split"]))
    functions = points[FUNCTION].map(parsed)
    chosen = points[[of.method == "arctan" and not of.part for of in functions]]
    numbers = pd.DataFrame([parsed(name).numbers for name in chosen[FUNCTION]], columns=["a", "b"])
    return chosen.assign(network=labels(chosen), **numbers.set_index(chosen.index).to_dict("series"))


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network and a, and a column per b."""
    told = numbers["top_1"].map("{:.2f}".format, na_action="ignore").fillna("diverged")
    wide = numbers.assign(told=told).pivot(index=["network", "a"], columns="b", values="told").reset_index()
    cells = {f"b = {b:g}": wide[b].fillna("") for b in wide.columns[2:]}
    return pd.DataFrame({"network": wide["network"], "a": wide["a"].map("{:g}".format), **cells})


def caption(numbers: pd.DataFrame) -> str:
    """Say what was measured, and the best cell of each network."""
    split = numbers["split"].iloc[0] if len(numbers) else "test"
    best = numbers[numbers["top_1"] == numbers.groupby("network")["top_1"].transform("max")]
    told = []
    for network, rows in best.groupby("network", sort=False):
        places = " and ".join(f"a = {row.a:g}, b = {row.b:g}" for row in rows.itertuples())
        told.append(f"{network} at {places} ({rows['top_1'].max():.2f} %)")
    return (
        f"Accuracy in percent on the {split} images, which the choice is made by. Best:"
        f" {'; '.join(told) or 'none'}. The best of many cells is above its own mean by chance, so these"
        " seeds are in no other table."
    )
