"""How soon each arm reaches the plain network's best test accuracy (Ioffe and Szegedy, Figure 3)."""

import pandas as pd

from onlybn.drawing.summaries import over_seeds
from onlybn.papers.batchnorm_mechanisms.arms import against_plain, points

WORDS = ("setting", "arm")


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm: means of what `against_plain` returns, n, diverged and at_chance.

    Steps and ratio are of the runs that reach the plain network's best, of which there are `reaching`.
    """
    runs = against_plain(metrics)
    summed = over_seeds(runs, values=["top_1", "best", "target", "reached", "ratio"])
    arms = runs.assign(reaching=runs["reached"].notna() & (runs["status"] == "finished"))
    reaching = arms.groupby(points(runs), sort=False, dropna=False)["reaching"].sum().reset_index()
    return summed.merge(reaching)


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, with its steps to the plain network's best, and their ratio to that network's."""
    rows = [
        {
            "setting": row.setting,
            "arm": row.arm,
            "plain's best (%)": _spread(row, "target", ".1f"),
            "steps to it": _spread(row, "reached", ",.0f"),
            "times fewer": _spread(row, "ratio", ".1f"),
            "runs that reach it": f"{row.reaching} of {row.n + row.diverged}",
            "best (%)": _spread(row, "best", ".1f"),
            "last (%)": _spread(row, "top_1", ".1f"),
            "diverged": f"{row.diverged}",
            "at chance": f"{row.at_chance}",
        }
        for row in numbers.itertuples()
    ]
    return pd.DataFrame(rows)


def _spread(row, name: str, form: str) -> str:
    mean, deviation = getattr(row, name), getattr(row, f"{name}_std")
    if pd.isna(mean):
        return ""
    return f"{mean:{form}}" + ("" if pd.isna(deviation) else f" ± {deviation:{form}}")


def caption(numbers: pd.DataFrame) -> str:
    """Say how steps are counted."""
    return (
        "Steps (or epochs) to the best test accuracy of the network without normalisation at its best"
        " learning rate, paired by seed, and how many times fewer they are than that network's; means over"
        " the runs that reach it. Steps between tests are interpolated. Of test accuracy, the best and the"
        " last."
    )
