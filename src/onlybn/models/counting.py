"""The count stage: count the parameters of architectures (Table 1), on torch's meta device."""

from collections.abc import Iterable

import pyarrow as pa

from onlybn.datasets import Dataset
from onlybn.models import build


def count(architectures: Iterable[str], dataset: str, facts: Dataset) -> pa.Table:
    """Return a row per architecture: all parameters, BatchNorm's, the output layer's and the shortcuts'."""
    return pa.Table.from_pylist(
        [
            {"architecture": name, "dataset": dataset}
            | build(name, channels=facts.channels, classes=facts.classes, size=facts.size).parameter_counts()
            for name in architectures
        ]
    )
