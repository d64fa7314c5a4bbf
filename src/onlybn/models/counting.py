"""The count stage: the parameters of architectures (Table 1), counted on networks without memory."""

from collections.abc import Iterable

import pyarrow as pa

from onlybn.datasets import Dataset
from onlybn.models import build


def count(architectures: Iterable[str], dataset: str, facts: Dataset) -> pa.Table:
    """Return a row per architecture: its parameters in all, BatchNorm's, the output's and the shortcuts'."""
    return pa.Table.from_pylist(
        [
            {"architecture": name, "dataset": dataset}
            | build(name, channels=facts.channels, classes=facts.classes, size=facts.size).parameter_counts()
            for name in architectures
        ]
    )
