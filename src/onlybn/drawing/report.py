"""The report: where each figure and table stands in it, and its description there (reStructuredText)."""

import re
from typing import TYPE_CHECKING

from onlybn.papers.only_batchnorm.figures import FIGURES, numbered

if TYPE_CHECKING:
    import pandas as pd

# Category: its figures and tables, and what each shows. Snakemake sorts by name: categories get numbers.
PLACES: dict[str, dict[str, str]] = {
    "Claims and accuracy": {
        "claims": "Claims of the paper, judged",
        "accuracy": "Final accuracy by network and regime",
    },
    "Main text": {
        "figure-1": "accuracy with and without γ and β",
        "figure-2": "accuracy by what trains",
        "figure-3": "accuracy by number of BatchNorm parameters",
        "figure-4": "distribution of γ",
        "figure-5": "share of γ near 0",
        "figure-6": "accuracy with small γ set to 0",
        "figure-7": "ReLU channels that are off",
        "table-1": "parameter counts",
        "near-zero": "Share of γ near 0, by the sign of β",
        "dead-relu": "ReLU channels that are off, by position",
    },
    "Appendix C, VGG": {
        "figure-c2": "accuracy by what trains",
        "figure-c4": "distribution of γ",
        "figure-c5": "share of γ near 0",
        "figure-c6": "accuracy with small γ set to 0",
        "figure-c7": "ReLU channels that are off",
        "accuracy-vgg": "Final accuracy by network and regime",
    },
    "Appendix D, shortcuts": {
        "figure-d": "accuracy with the shortcuts trained too",
        "accuracy-shortcut": "Final accuracy by network and regime",
    },
    "Appendix E, initialisation": {
        "figure-e1": "accuracy by the features' draw",
        "figure-e2": "accuracy by BatchNorm's initialisation",
        "accuracy-initialisation": "Final accuracy by network and regime",
        "failed": "Runs that failed to train",
    },
    "Appendix F, random weights": {
        "figure-f": "accuracy by number of random weights",
        "accuracy-random": "Final accuracy by network and regime",
    },
    "Appendices G to I, every network": {
        "figure-g": "distribution of γ",
        "figure-h": "distribution of β",
        "figure-i": "how often ReLU channels are off",
        "figure-g-layers": "γ",
        "figure-h-layers": "β",
        "figure-i-layers": "how often ReLU channels are off",
    },
    "Runs": {
        "provenance": "Provenance of the runs",
        "provenance-appendices": "Provenance of the runs, appendices",
    },
}


def title(name: str) -> str:
    """Return what a figure or table is called in the report."""
    (shows,) = [names[name] for names in PLACES.values() if name in names]
    if name in FIGURES:
        return f"{numbered(name)}: {shows}"
    return f"Table 1: {shows}" if name == "table-1" else shows


def description(caption: str, claims: "pd.DataFrame | None" = None) -> str:
    """Return a caption as reStructuredText, and below it, if there are any, claims as a table."""
    text = escaped(caption) + "\n"
    if claims is None or claims.empty:
        return text
    rows = [claims.columns, *claims.itertuples(index=False)]
    cells = [(place, escaped(cell)) for row in rows for place, cell in enumerate(row)]
    lines = [f"   {' ' if place else '*'} - {cell}".rstrip() for place, cell in cells]
    return "\n".join([text, ".. list-table::", "   :header-rows: 1", "", *lines, ""])


def escaped(text: str) -> str:
    """Return text in which no character means anything to reStructuredText, or to Snakemake's templates."""
    return re.sub(r"([\\`*_|{]|(?<=\{)[%#])", r"\\\1", text)
