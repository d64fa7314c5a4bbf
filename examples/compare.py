"""How far apart are two studies that train the same networks with the same seeds?

    python examples/compare.py results/coded results/coded_dataset-coded.twice

prints, for each network and regime, the final test accuracies in percent and their difference, second minus
first, paired by seed, with its 95 % interval over seeds (Student's t).
"""

import sys
from pathlib import Path

import pandas as pd

from onlybn.axes import OPTIONAL
from onlybn.drawing.summaries import finals, read
from onlybn.errors import UserError
from onlybn.judging import Estimate

AXES = {axis.name: axis.default for axis in OPTIONAL}
RUN = ["architecture", "regime", "variant", *AXES, "seed"]


def accuracies(study):
    """Return the final test accuracy of each finished run of a study, indexed by what identifies it."""
    tables = sorted(Path(study).glob("experiments/*/metrics.parquet"))
    if not tables:
        raise UserError(
            f"{study}/experiments holds no collected metrics; is it a study's folder in results/?"
        )
    runs = finals(read(tables))
    runs = runs.assign(**{name: neutral for name, neutral in AXES.items() if name not in runs})
    runs = runs[runs["status"] == "finished"].astype(dict.fromkeys(RUN[:-1], str)).set_index(RUN)
    if runs.index.has_duplicates:
        raise UserError(
            f"{study} holds several runs of one network and seed, of different datasets or training"
        )
    return runs["top_1"]


def compare(one, other):
    """Return a row per network, regime and variant that both studies finished with the same seeds."""
    runs = pd.DataFrame({"first": accuracies(one), "second": accuracies(other)}).dropna()
    rows = []
    for point, seeds in runs.groupby(RUN[:-1], sort=False):
        difference = Estimate("", (seeds["second"] - seeds["first"]).tolist(), ())
        low, high = difference.interval
        row = dict(zip(RUN, point, strict=False)) | seeds.mean().to_dict()
        rows.append(row | {"difference": difference.mean, "low": low, "high": high, "seeds": len(seeds)})
    if not rows:
        raise UserError("they have no network, regime and seed in common")
    found = pd.DataFrame(rows)
    return found.drop(columns=[name for name, neutral in AXES.items() if (found[name] == neutral).all()])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(compare(*sys.argv[1:]).to_markdown(index=False, floatfmt=".2f"))
    except UserError as error:
        sys.exit(f"error: {error}")
