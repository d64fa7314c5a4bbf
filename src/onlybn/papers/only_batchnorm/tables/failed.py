"""Appendix E.2: how many runs failed to train, by network, regime and variant."""

import pandas as pd

from onlybn.drawing.summaries import differs, finals, over_seeds, point, stuck

WORDS = ("architecture", "regime", "variant")


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: runs, failed runs, means with and without them.

    A run failed if it diverged, or ended with a top-1 of at most 1.5 times chance. Accuracies are means in
    percent: `top_1` over all runs that did not diverge, `top_1_trained` over those that did not fail.
    """
    runs = finals(metrics)
    points = over_seeds(runs, values=["top_1"])
    key = point(runs)
    trained = runs[(runs["status"] == "finished") & ~stuck(runs)].groupby(key)["top_1"].mean()
    points["runs"] = points["n"] + points["diverged"]
    points["failed"] = points["at_chance"] + points["diverged"]
    points["top_1_trained"] = [trained.get(tuple(row)) for row in points[key].itertuples(index=False)]
    return points


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with at least one failed run."""
    failed = numbers[numbers["failed"] > 0]
    failed = failed.assign(architecture=(failed["architecture"] + " " + differs(failed)).str.strip())
    return failed[["architecture", "regime", "variant", "runs", "diverged", "at_chance"]].assign(
        **{"mean top-1": failed["top_1"], "without failed": failed["top_1_trained"].astype(float)}
    )


def caption(numbers: pd.DataFrame) -> str:
    """Say how many runs failed, and what failed means."""
    failed = int(numbers["failed"].sum()) or "None"
    return (
        f"{failed} of {numbers['runs'].sum()} runs failed. Failed: the loss stopped being finite, or the"
        " final top-1 was at most 1.5 times chance."
    )
