"""A table as an HTML page for the report; the page needs no other file."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #1f2937; margin: 2rem; }
h1 { font-size: 1.3rem; margin: 0 0 .5rem; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { max-width: 48rem; }
a { color: #047857; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
thead th { position: sticky; top: 0; background: white; text-align: left; border-bottom: 2px solid #1f2937; }
th, td { padding: .3rem .9rem .3rem 0; vertical-align: top; }
td { border-bottom: 1px solid #e5e7eb; }
tbody tr:hover { background: #f3f4f6; }
td:first-child, .wide td, .wide th, .number { white-space: nowrap; }
.number { text-align: right; }
.reproduced, .consistent { background: #ecfdf5; }
.contradicted, .inconsistent, .diverged { background: #fef2f2; }
.inconclusive { background: #fffbeb; }
.wide tr > :first-child { position: sticky; left: 0; background: white; }
.not-run { color: #9ca3af; }
"""


def page(
    title: str, caption: str, shown: pd.DataFrame, words: Sequence[str], claims: pd.DataFrame, csv: Path
) -> str:
    """Return a page with a table of text; the columns `words` hold words, the others numbers.

    Below the table are the paper's claims about it, if any, and a link that saves the CSV file.
    """
    data = b64encode(csv.read_bytes()).decode()
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1><p>{escape(caption)}</p>",
        *([] if shown.empty else [_table(shown, words)]),
        *([] if claims.empty else ["<h2>Claims of the paper</h2>", _table(claims, claims.columns)]),
        f"<p><a download='{csv.name}' href='data:text/csv;base64,{data}'>All numbers as CSV</a></p>",
    ]
    return "\n".join(parts) + "\n"


def _table(shown: pd.DataFrame, words: Sequence[str]) -> str:
    kinds = ["word" if name in words else "number" for name in shown]
    # A table with many columns scrolls sideways.
    width = "wide" if len(shown.columns) > 12 else "narrow"
    head = "".join(_cell("th", kind, name) for kind, name in zip(kinds, shown.columns, strict=True))
    state = next((name for name in ("verdict", "status") if name in shown), None)
    rows = []
    for _, row in shown.iterrows():
        marked = f" class='{row[state].replace(' ', '-')}'" if state else ""
        cells = "".join(_cell("td", kind, text) for kind, text in zip(kinds, row, strict=True))
        rows.append(f"<tr{marked}>{cells}</tr>")
    return (
        f"<table class='{width}'><thead><tr>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table>"
    )


def _cell(tag: str, kind: str, text: str) -> str:
    return f"<{tag} class='{kind}'>{escape(text)}</{tag}>"
