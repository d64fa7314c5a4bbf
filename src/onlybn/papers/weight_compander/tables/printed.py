"""What the paper prints, judged by its own means and deviations, beside our gains."""

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from onlybn.drawing.summaries import finals
from onlybn.papers.weight_compander.arms import arms, compared, pairs_of_functions
from onlybn.papers.weight_compander.functions import BASELINE, METHODS
from onlybn.papers.weight_compander.published import PUBLISHED, SEEDS, comparisons, schedules

WORDS = ("dataset", "network", "compared")
# The comparisons that the paper makes.
COMPARED = (
    ("arctan", BASELINE),
    ("arctan", "weight-norm"),
    ("powerpropagation", BASELINE),
    ("arctan-fine", BASELINE),
    ("arctan-fine", "arctan"),
    ("arsinh", BASELINE),
    ("erf", BASELINE),
    ("arctan", "arsinh"),
)


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per comparison, dataset and network: Welch's interval and p, and our paired difference.

    `p_holm` is adjusted over the networks and datasets of a comparison. Our columns, from `ours` on, are
    missing where the study has no such runs, or runs of several such functions.
    """
    found: dict[tuple, list[dict[str, float]]] = {}
    for one in arms(finals(metrics)):
        setting = PUBLISHED.settings.get(one.dataset)
        for pair in COMPARED if setting else ():
            for names in pairs_of_functions(one, *pair):
                place = (pair, setting.dataset, one.architecture)
                epochs = int(one.every[names[0]]["epochs"].max())
                found.setdefault(place, []).append(compared(one.difference(*names)) | {"epochs": epochs})
    ours = {place: several[0] for place, several in found.items() if len(several) == 1}
    rows = []
    for pair in COMPARED:
        for dataset, network, welch in comparisons(*pair):
            measured = ours.get((pair, dataset, network), {})
            own = {name: measured.get(key, np.nan) for name, key in _OURS.items()}
            rows.append(
                {"method": pair[0], "other": pair[1], "dataset": dataset, "network": network}
                | {"seeds": SEEDS[dataset], **vars(welch), **own}
            )
    table = pd.DataFrame(rows)
    for _, members in table.groupby(["method", "other"]):
        table.loc[members.index, "p_holm"] = multipletests(members["p"], method="holm")[1]
    return table


_OURS = {
    "ours": "difference",
    "epochs": "epochs",
    "ours_low": "low",
    "ours_high": "high",
    "ours_pairs": "pairs",
}


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per comparison, in points; ours only where the study has such runs."""
    table = pd.DataFrame(
        {
            "compared": [f"{METHODS[row.method]} − {METHODS[row.other]}" for row in numbers.itertuples()],
            "dataset": numbers["dataset"],
            "network": numbers["network"],
            "seeds": numbers["seeds"],
            "printed": numbers["difference"].map("{:+.2f}".format),
            "95 % (Welch)": [f"{row.low:+.2f} to {row.high:+.2f}" for row in numbers.itertuples()],
            "p": numbers["p"].map("{:.4f}".format),
            "p, Holm": numbers["p_holm"].map("{:.4f}".format),
        }
    )
    if numbers["ours"].notna().any():
        table["ours"] = [_ours(row) for row in numbers.itertuples()]
    return table


def _ours(row) -> str:
    if not row.ours_pairs > 0:
        return ""
    interval = f" [{row.ours_low:+.2f}, {row.ours_high:+.2f}]" if row.ours_pairs > 1 else ""
    return f"{row.ours:+.2f}{interval} (n = {row.ours_pairs:.0f})"


def caption(numbers: pd.DataFrame) -> str:
    """Say how the printed values were judged, and what remains of the compander's gains."""
    beside = numbers.dropna(subset="ours")
    gains = numbers[(numbers["method"] == "arctan") & (numbers["other"] == BASELINE)]
    positive = int((gains["difference"] > 0).sum())
    sign = stats.binomtest(positive, len(gains)).pvalue
    certain = gains.loc[gains["p_holm"] < 0.05]
    named = ", ".join(f"{row.network} on {row.dataset}" for row in certain.itertuples())
    return (
        "Differences of the printed means in points, with Welch's interval and p from the printed means,"
        " standard deviations and numbers of seeds; Holm's p is adjusted over the rows of a comparison."
        f" {positive} of the {len(gains)} gains over the baseline are positive (sign test p = {sign:.0e});"
        f" below 0.05 after Holm: {named or 'none'}."
        + (
            f" Ours stand beside them; printed ones are{schedules(beside).removeprefix(',')}."
            if len(beside) and schedules(beside)
            else ""
        )
    )
