"""The draw stage for figures: from collected tables to the picture, its numbers and its caption."""

from collections.abc import Iterable, Mapping
from importlib import resources
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from PIL import Image

from onlybn.datasets import known
from onlybn.drawing import report, style
from onlybn.drawing.png import write_png
from onlybn.drawing.summaries import read_kinds, seeds_phrase
from onlybn.errors import UserError
from onlybn.files import written_whole
from onlybn.jobs import counted
from onlybn.papers import Figure, Paper
from onlybn.runs.records import write_drawn


def draw(paper: Paper, figure: str, study: str, tables: Iterable[Path], target: Path) -> None:
    """Draw a figure of a paper from its experiments' tables into `target` with .pdf, .png, .parquet and .rst.

    The Parquet holds exactly the numbers drawn. The .rst holds the caption, which is also below the picture,
    and the paper's claims about the figure. Raises UserError if the tables have no run that the figure shows.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt

    record = paper.figures[figure]
    files = list(tables)
    numbers, caption, claims = told(paper, figure, study, files)
    sheet = resources.files("onlybn.drawing") / "paper.mplstyle"
    # The reset ignores a matplotlibrc of the user.
    with resources.as_file(sheet) as path, plt.style.context(path, after_reset=True):
        picture = paper.load(record.module).draw(numbers)
        style.caption_below(picture, f"{record.number or record.shows}. {caption}")
        with written_whole(target.with_suffix(".pdf")) as beside:
            # Redrawn files must have the same bytes, so they hold no date.
            picture.savefig(beside, format="pdf", metadata={"CreationDate": None})
        pixels = BytesIO()
        picture.savefig(pixels, format="png")
        plt.close(picture)
    with Image.open(pixels) as image:
        write_png(image, target.with_suffix(".png"))
    write_drawn(target.with_suffix(".parquet"), numbers, files)
    with written_whole(target.with_suffix(".rst")) as beside:
        beside.write_text(report.description(caption, claims), encoding="utf-8")


def told(
    paper: Paper, figure: str, study: str, tables: Iterable[Path]
) -> tuple[pd.DataFrame, str, pd.DataFrame | None]:
    """Return a figure's numbers, its caption, and the paper's claims about it.

    The caption says what the figure shows, of which study, how long it trained, and over which seeds. Raises
    UserError if the tables have no run that the figure shows.
    """
    record = paper.figures[figure]
    module = paper.load(record.module)
    collected = read_kinds(record.reads, tables)
    shown = drawn(record, collected)
    numbers = module.numbers(*shown)
    if numbers.empty:
        statuses = {s for table in collected.values() if table is not None for s in table["status"]}
        if statuses == {"diverged"}:
            raise UserError(f"{figure}: every run of the study {study} that this figure shows diverged")
        raise UserError(f"{figure}: the study {study} has no run that this figure shows")
    caption = f"{record.says} {module.caption(numbers)}".strip() + left_out(collected, numbers)
    if hasattr(module, "remark"):
        caption += module.remark(shown)
    caption += f" Study {study}"
    if "n" in numbers:  # else it was computed, not measured
        caption += f", {length(numbers)}; "
        caption += "mean ± one standard deviation, " if "std" in numbers and numbers["n"].max() > 1 else ""
        crosses, counts = getattr(module, "CROSSES", True), getattr(module, "COUNTS", "seed")
        caption += seeds_phrase(numbers, crosses=crosses, counts=counts)
    caption += "."
    size = known(numbers["dataset"].iloc[0]).size
    if size and size < 16 and numbers["family"].str.startswith("vgg").any():
        caption += f" On {size}×{size} images, VGG's pooling stops at 1×1."
    return numbers, caption, report.claimed(paper, record, collected)


def length(numbers: pd.DataFrame) -> str:
    """Say how long the runs were trained, in epochs or in steps: such as 4 to 16 epochs."""
    found = []
    for unit in ("epoch", "step"):
        lengths = numbers.get(f"{unit}s", pd.Series(dtype=float))
        lengths = lengths[lengths > 0]
        if len(lengths):
            shortest = f"{int(lengths.min()):,} to " if lengths.nunique() > 1 else ""
            found.append(shortest + counted(int(lengths.max()), unit))
    return " or ".join(found)


def drawn(record: Figure, collected: Mapping[str, pd.DataFrame | None]) -> list[pd.DataFrame | None]:
    """Return the rows of collected tables that a figure draws: those of its regimes."""
    if not record.regimes:
        return list(collected.values())
    return [t if t is None else t[t["regime"].map(record.draws).astype(bool)] for t in collected.values()]


def left_out(collected: Mapping[str, pd.DataFrame | None], numbers: pd.DataFrame) -> str:
    """Name the regimes of the collected tables that a figure does not draw, if any."""
    tables = (table for table in collected.values() if table is not None)
    collected_regimes = dict.fromkeys(regime for table in tables for regime in table["regime"].unique())
    left = [regime for regime in collected_regimes if regime not in set(numbers["regime"])]
    return f" Not drawn: {', '.join(left)}." if left else ""
