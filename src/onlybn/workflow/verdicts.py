"""The claims of a paper that a study has judged, as a short table for the terminal."""

import textwrap
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from tabulate import tabulate

from onlybn.errors import UserError
from onlybn.workflow.paths import Workflow

WIDTHS = [46, 24, 22, 14]
COLUMNS = ["id", "statement", "published", "summary", "verdict"]


def verdicts(workflow: Workflow) -> str:
    """Return the judged claims of a study: statement, published, measured, verdict; how many have which.

    A star marks a claim that the study file does not expect to hold; the reasons follow. Raises UserError
    if no claims have been judged.
    """
    judging = [name for name in workflow.tables if workflow.paper.tables[name].judges]
    files = [Path(workflow.drawn) / "tables" / f"{name}.parquet" for name in judging]
    rows = [
        row for file in files if file.exists() for row in pq.read_table(file, columns=COLUMNS).to_pylist()
    ]
    if not rows:
        how = "snakemake claims with the same keys judges them" if judging else "its file names no such table"
        raise UserError(f"claims: {workflow.study.name} has judged no claims yet; {how}")
    # A claim of the appendices is in both tables, and judged in one.
    judged = {row["id"]: row for row in rows if row["verdict"] != "not run"}
    claims = {row["id"]: row for row in rows} | judged
    doubts = workflow.study.definition.not_expected
    shown = [
        [row["statement"], row["published"], row["summary"], row["verdict"] + " *" * (row["id"] in doubts)]
        for row in judged.values()
    ]
    parts = [
        f"Claims of the paper, judged by the study {workflow.study.name}:",
        tabulate(shown, ["claim", "published", "measured", "verdict"], "simple_grid", maxcolwidths=WIDTHS),
    ]
    starred = [row for row in judged.values() if row["id"] in doubts]
    if starred:
        lines = [f"{row['statement']}: {doubts[row['id']]}" for row in starred]
        wrapped = [textwrap.fill(line, 110, initial_indent="  ", subsequent_indent="    ") for line in lines]
        parts.append("\n".join(["* not expected, says the study file:", *wrapped]))
    counts = Counter(row["verdict"] for row in claims.values())
    parts.append(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) + ".")
    return "\n\n".join(parts)
