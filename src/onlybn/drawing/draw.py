"""The draw stage for figures: collected tables in; the picture, its numbers and its caption out."""

import textwrap
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from onlybn.datasets import known
from onlybn.drawing import report
from onlybn.drawing.summaries import read_kinds, seeds_phrase
from onlybn.errors import UserError
from onlybn.files import written_whole
from onlybn.papers import Figure, Paper
from onlybn.runs.records import write_drawn


def draw(paper: Paper, figure: str, study: str, tables: Iterable[Path], target: Path) -> None:
    """Draw a figure of a paper from its experiments' tables into `target` with .pdf, .png, .parquet and .rst.

    The Parquet holds exactly the numbers drawn, the last one the caption, which stands below the picture
    too, and what the paper claims of the figure. Raises UserError if the tables hold nothing that the
    figure shows.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt

    record = paper.figures[figure]
    module = paper.load(record.module)
    files = list(tables)
    collected = read_kinds(record.reads, files)
    numbers = module.numbers(*drawn(record, collected))
    if numbers.empty:
        raise UserError(f"{figure}: the study {study} has no run that this figure shows")
    caption = f"{module.caption(numbers)}{left_out(collected, numbers)}"
    caption += f" Study {study}, {length(numbers)}; "
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
            textwrap.fill(f"{record.number or record.shows}. {caption}", characters),
            va="top",
            fontsize=6,
        )
        for ending, entries in metadata.items():
            with written_whole(target.with_suffix(ending)) as beside:
                picture.savefig(beside, format=ending[1:], metadata=entries)
        plt.close(picture)
    write_drawn(target.with_suffix(".parquet"), numbers, files)
    with written_whole(target.with_suffix(".rst")) as beside:
        claims = report.claimed(paper, record, collected)
        beside.write_text(report.description(caption, claims), encoding="utf-8")


def length(numbers: pd.DataFrame) -> str:
    """Say how long the runs of some points trained, in epochs or in steps."""
    found = []
    for unit in ("epoch", "step"):
        longest = int(numbers[f"{unit}s"].max()) if f"{unit}s" in numbers else 0
        found += [f"{longest:,} {unit}{'s' * (longest != 1)}"] if longest else []
    return " or ".join(found)


def drawn(record: Figure, collected: Mapping[str, pd.DataFrame | None]) -> list[pd.DataFrame | None]:
    """Return what a figure draws of collected tables: the rows of its regimes."""
    if not record.regimes:
        return list(collected.values())
    return [t if t is None else t[t["regime"].map(record.draws).astype(bool)] for t in collected.values()]


def left_out(collected: Mapping[str, pd.DataFrame | None], numbers: pd.DataFrame) -> str:
    """Say which regimes of the collected tables a figure does not draw, if any."""
    tables = (table for table in collected.values() if table is not None)
    there = dict.fromkeys(regime for table in tables for regime in table["regime"].unique())
    left = [regime for regime in there if regime not in set(numbers["regime"])]
    return f" Not drawn of these runs: {', '.join(left)}." if left else ""
