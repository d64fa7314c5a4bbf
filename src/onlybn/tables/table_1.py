"""Table 1: how many parameters each network has, and how many of them are BatchNorm's."""

import pandas as pd


def numbers(parameter_counts: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network, with BatchNorm's share of all parameters in percent."""
    share = 100 * parameter_counts["batchnorm_parameters"] / parameter_counts["parameters"]
    position = parameter_counts.columns.get_loc("batchnorm_parameters") + 1
    table = parameter_counts.copy()
    table.insert(position, "batchnorm_percent", share)
    return table


def markdown(numbers: pd.DataFrame) -> str:
    """Return the table as the paper prints it."""
    shown = pd.DataFrame(
        {
            "network": numbers["architecture"],
            "all": numbers["parameters"].map("{:,}".format),
            "BatchNorm": numbers["batchnorm_parameters"].map("{:,}".format),
            "BatchNorm %": numbers["batchnorm_percent"].map("{:.2f}".format),
            "output": numbers["output_parameters"].map("{:,}".format),
            "shortcut convolutions": numbers["shortcut_parameters"].map("{:,}".format),
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True, colalign=("left", *["right"] * 5))
