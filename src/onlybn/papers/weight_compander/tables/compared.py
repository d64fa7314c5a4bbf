"""Accuracy of methods side by side, ours beside the printed one: Tables 2 to 7."""

import math
from dataclasses import dataclass

import pandas as pd

from onlybn.drawing.accuracies import cell
from onlybn.drawing.summaries import finals, over_seeds
from onlybn.papers.weight_compander.arms import FUNCTION, labels, with_function
from onlybn.papers.weight_compander.functions import METHODS, parsed
from onlybn.papers.weight_compander.looks import ordered
from onlybn.papers.weight_compander.published import printed, schedules


@dataclass(frozen=True)
class Compared:
    """A table of test accuracy with a column for each of these methods, on the whole network."""

    methods: tuple[str, ...]
    WORDS: tuple[str, ...] = ("network",)

    def numbers(self, metrics: pd.DataFrame) -> pd.DataFrame:
        """Return a row per network and function: mean top-1 in percent, its deviation, n, and the printed.

        `printed` and `printed_std` are missing where the paper prints nothing of that network and dataset.
        """
        points = with_function(over_seeds(finals(metrics), values=["top_1"]))
        functions = points[FUNCTION].map(parsed)
        points = points.assign(method=[of.method for of in functions], network=labels(points))
        points = points[[of.method in self.methods and not of.part for of in functions]]
        nothing = (math.nan, math.nan)
        found = [
            printed(one.dataset, one.architecture).get(one.method, nothing) for one in points.itertuples()
        ]
        columns = ["printed", "printed_std"]
        return points.assign(**pd.DataFrame(found, index=points.index, columns=columns).to_dict("series"))

    def shown(self, numbers: pd.DataFrame) -> pd.DataFrame:
        """Return a row per network and a column per method, each with the printed value if there is one."""
        rows = []
        for network, points in numbers.groupby("network", sort=False):
            row = {"network": network}
            for method in self.methods:
                here = points[points["method"] == method].set_index(FUNCTION, drop=False)
                row[METHODS[method]] = "; ".join(_cell(here.loc[name]) for name in ordered(here.index))
            rows.append(row)
        table = pd.DataFrame(rows, columns=["network", *(METHODS[method] for method in self.methods)])
        return table.loc[:, (table != "").any()]

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say what the cells hold."""
        beside = numbers.dropna(subset="printed")
        told = f" The printed value follows, where there is one{schedules(beside)}." if len(beside) else ""
        return f"Test accuracy in percent, with the function's numbers.{told}"


def _cell(point: pd.Series) -> str:
    told = parsed(point[FUNCTION])
    numbers = f" with {', '.join(f'{number:g}' for number in told.numbers)}" if told.numbers else ""
    found = f"{cell(point, digits=2)}{numbers}"
    if math.isnan(point["printed"]):
        return found
    return f"{found}, printed {point['printed']:.2f} ± {point['printed_std']:.2f}"


METHODS_OF_OTHERS = Compared(("none", "powerpropagation", "weight-norm", "arctan"))
LEARNED = Compared(("none", "arctan", "arctan-fine", "arctan-coarse"))
FUNCTIONS = Compared(("none", "arctan", "arsinh", "erf"))
