"""Table 1: how many parameters each network has, and how many of them are BatchNorm's."""

import pandas as pd

WORDS = ("network",)


def numbers(parameter_counts: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network, with BatchNorm's share of all parameters in percent."""
    share = 100 * parameter_counts["batchnorm_parameters"] / parameter_counts["parameters"]
    position = parameter_counts.columns.get_loc("batchnorm_parameters") + 1
    table = parameter_counts.copy()
    table.insert(position, "batchnorm_percent", share)
    return table


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the table in the layout of the paper."""
    return pd.DataFrame(
        {
            "network": numbers["architecture"],
            "all": numbers["parameters"],
            "BatchNorm": numbers["batchnorm_parameters"],
            "BatchNorm %": numbers["batchnorm_percent"].map("{:.2f}".format),
            "output": numbers["output_parameters"],
            "shortcut convolutions": numbers["shortcut_parameters"],
        }
    )


def caption(numbers: pd.DataFrame) -> str:
    """Say how they were counted."""
    counted = "Counted on the model; BatchNorm's include those on shortcuts."
    published = numbers["dataset"].isin(["cifar10", "cifar10-jpeg", "imagenet"]).all()
    return counted + (" Those of the paper's networks equal its counts." if published else "")
