"""A figure or table in the report: the paper's claims about it, and its description in reStructuredText."""

import re
from collections.abc import Mapping

import pandas as pd

from onlybn.papers import Figure, Paper, Table


def claimed(paper: Paper, record: Figure | Table, tables: Mapping[str, pd.DataFrame | None]) -> pd.DataFrame:
    """Return the paper's claims about a figure or table, judged by the collected tables it reads."""
    if not paper.claims or not record.section:
        return pd.DataFrame()
    from onlybn.judging import beside  # slow to import, because of its statistics

    module = paper.load(paper.claims)
    return beside(record.section, module.CLAIMS, tables, module.PUBLISHED)


def description(caption: str, claims: pd.DataFrame | None = None) -> str:
    """Return a caption as reStructuredText, followed by a table of the claims, if any."""
    text = escaped(caption) + "\n"
    if claims is None or claims.empty:
        return text
    rows = [claims.columns, *claims.itertuples(index=False)]
    cells = [(place, escaped(cell)) for row in rows for place, cell in enumerate(row)]
    lines = [f"   {' ' if place else '*'} - {cell}".rstrip() for place, cell in cells]
    return "\n".join([text, ".. list-table::", "   :header-rows: 1", "", *lines, ""])


def escaped(text: str) -> str:
    """Escape every character that has a meaning in reStructuredText or in Snakemake's templates."""
    return re.sub(r"([\\`*_|{]|(?<=\{)[%#])", r"\\\1", text)
