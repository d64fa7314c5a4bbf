"""How far weight decay reaches over a training, which is what drives γ to 0."""

import json
from collections.abc import Iterable

import pandas as pd

from onlybn.datasets import known
from onlybn.drawing.summaries import by_run, reach_of
from onlybn.papers.only_batchnorm.published import CIFAR10_TRAINING


def decay_reach(tables: Iterable[pd.DataFrame | None]) -> str:
    """Return a sentence on the reach in collected runs, and in the paper; none for custom images."""
    trained = {
        named for table in tables if table is not None for named, _ in by_run(table, ["dataset", "training"])
    }
    found = []
    for dataset, training in trained:
        if (images := known(dataset).examples) is None:
            return ""
        found.append(reach_of(json.loads(training), images[0]))
    low, high = (f"{edge:.2g}" for edge in (min(found), max(found)))
    own = low if low == high else f"{low} to {high}"
    papers = f"{reach_of(CIFAR10_TRAINING, known('cifar10').examples[0]):.2g}"
    return (
        f" Weight decay, which drives γ to 0, reaches {own}: the sum over steps of learning rate × weight"
        f" decay / (1 − momentum). On the paper's CIFAR-10 schedule it reaches {papers}."
    )
