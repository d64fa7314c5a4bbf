"""The draw stage for figures: collected tables in; the picture, its numbers and its caption out."""

import textwrap
from collections.abc import Iterable
from importlib import import_module, resources
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from onlybn.datasets import known
from onlybn.drawing import report
from onlybn.drawing.summaries import read, seeds_phrase
from onlybn.errors import UserError
from onlybn.files import written_whole
from onlybn.papers.only_batchnorm.figures import FIGURES, numbered
from onlybn.papers.only_batchnorm.tables.claims import beside as beside_paper
from onlybn.runs.records import write_drawn


def draw(figure: str, study: str, tables: Iterable[Path], target: Path) -> None:
    """Draw a figure from its experiments' tables into `target` with .pdf, .png, .parquet and .rst.

    The Parquet holds exactly the numbers drawn, the last one the caption, which stands below the picture
    too, and what the paper claims of the figure. Raises UserError if the tables hold nothing that the
    figure shows.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt

    name, kind = FIGURES[figure]
    module = import_module(f"onlybn.papers.only_batchnorm.figures.{name}")
    files = list(tables)
    table = read(files)
    numbers = module.numbers(table)
    if numbers.empty:
        raise UserError(f"{figure}: the study {study} has no run that this figure shows")
    epochs = int(numbers["epochs"].max())
    caption = f"{module.caption(numbers)}{left_out(table, numbers)}"
    caption += f" Study {study}, {epochs} epoch{'s' * (epochs != 1)}; "
    caption += "mean ± one standard deviation, " if "std" in numbers and numbers["n"].max() > 1 else ""
    caption += f"{seeds_phrase(numbers)}."
    size = known(numbers["dataset"].iloc[0]).size
    if size and size < 16 and (numbers["family"] == "vgg").any():
        caption += f" On images of {size}×{size} VGG's pooling stops at 1×1."
    # What is hashed or compared must not hold the moment of drawing.
    metadata = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    style = resources.files("onlybn.drawing") / "paper.mplstyle"
    # A user's matplotlibrc in the folder of the workflow is read before all others.
    with resources.as_file(style) as path, plt.style.context(path, after_reset=True):
        picture = module.draw(numbers)
        picture.canvas.draw()
        low = min(0, *(legend.get_window_extent().y0 for legend in picture.legends), 0)
        characters = int(picture.get_figwidth() * 22)
        picture.text(
            0.01,
            low / picture.bbox.height - 0.02,
            textwrap.fill(f"{numbered(figure)}. {caption}", characters),
            va="top",
            fontsize=6,
        )
        for ending, entries in metadata.items():
            with written_whole(target.with_suffix(ending)) as beside:
                picture.savefig(beside, format=ending[1:], metadata=entries)
        plt.close(picture)
    write_drawn(target.with_suffix(".parquet"), numbers, files)
    with written_whole(target.with_suffix(".rst")) as beside:
        claims = beside_paper(figure, kind, table)
        beside.write_text(report.description(caption, claims), encoding="utf-8")


def left_out(table: pd.DataFrame, numbers: pd.DataFrame) -> str:
    """Say which regimes of the collected table a figure does not draw, if any."""
    left = [regime for regime in table["regime"].unique() if regime not in set(numbers["regime"])]
    return f" Not drawn of these runs: {', '.join(left)}." if left else ""
