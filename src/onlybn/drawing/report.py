"""A figure or table in the report: what the paper claims there, and its description (reStructuredText)."""

import re
from collections.abc import Mapping

import pandas as pd

from onlybn.papers import Figure, Paper, Table


def claimed(paper: Paper, record: Figure | Table, tables: Mapping[str, pd.DataFrame | None]) -> pd.DataFrame:
    """Return what a paper claims of a figure or table, judged by the collected tables of one kind."""
    if not paper.claims or not record.section:
        return pd.DataFrame()
    from onlybn.judging import beside  # whose statistics take long to import

    module = paper.load(paper.claims)
    return beside(record.section, module.CLAIMS, tables, module.PUBLISHED)


def description(caption: str, claims: pd.DataFrame | None = None) -> str:
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
