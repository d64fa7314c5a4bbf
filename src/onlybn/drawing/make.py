"""The draw stage for tables: from collected tables to CSV, Markdown, Parquet, a page and its caption."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from onlybn.drawing import report
from onlybn.drawing.page import page
from onlybn.drawing.summaries import read_kinds, seeds_phrase
from onlybn.files import written_whole
from onlybn.papers import Paper
from onlybn.runs.records import write_drawn


def make(
    paper: Paper,
    table: str,
    study: str,
    tables: Iterable[Path],
    target: Path,
    not_expected: Mapping[str, str] | None = None,
) -> None:
    """Write a table of a paper, made from collected tables, into `target` with .csv, .md and .parquet.

    For the report, .html is a page with the table, its caption and the paper's claims about it; .rst has the
    caption and the claims alone. `not_expected` are the claims that the study is not expected to show, with
    the reasons.
    """
    record = paper.tables[table]
    module = paper.load(record.module)
    files = list(tables)
    numbers, caption, claims = told(paper, table, study, files, not_expected)
    shown = module.shown(numbers).map(_text)
    with written_whole(target.with_suffix(".csv")) as beside:
        numbers.to_csv(beside, index=False)
    with written_whole(target.with_suffix(".md")) as beside:
        beside.write_text(
            (caption if shown.empty else _markdown(shown, module.WORDS)) + "\n", encoding="utf-8"
        )
    write_drawn(target.with_suffix(".parquet"), numbers, files)
    with written_whole(target.with_suffix(".html")) as beside:
        text = page(record.title, caption, shown, module.WORDS, claims, target.with_suffix(".csv"))
        beside.write_text(text, encoding="utf-8")
    with written_whole(target.with_suffix(".rst")) as beside:
        beside.write_text(report.description(caption, claims), encoding="utf-8")


def told(
    paper: Paper,
    table: str,
    study: str,
    tables: Iterable[Path],
    not_expected: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, str, pd.DataFrame | None]:
    """Return a table's numbers, its caption, and the paper's claims about it."""
    record = paper.tables[table]
    module = paper.load(record.module)
    collected = read_kinds([*record.reads, *record.if_drawn], tables)
    judging = {"not_expected": not_expected} if record.judges else {}
    numbers = module.numbers(*collected.values(), **judging)
    caption = f"{record.says} {module.caption(numbers)}".strip() + f" Study {study}"
    caption += f"; {seeds_phrase(numbers)}." if "at_chance" in numbers else "."
    return numbers, caption, report.claimed(paper, record, collected)


def _text(cell: object) -> str:
    if pd.isna(cell):
        return ""
    return f"{cell:.1f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def _markdown(shown: pd.DataFrame, words: Sequence[str]) -> str:
    alignment = ["left" if name in words else "right" for name in shown]
    # An unescaped bar would end its cell.
    escaped = shown.replace(r"\|", r"\\|", regex=True)
    return escaped.to_markdown(index=False, disable_numparse=True, colalign=alignment)
