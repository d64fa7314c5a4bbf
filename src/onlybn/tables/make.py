"""The draw stage for tables: collected tables in; CSV, Markdown and Parquet out."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pyarrow as pa

from onlybn.files import write_table, written_whole
from onlybn.summaries import read
from onlybn.tables import TABLES


def make(table: str, tables: Iterable[Path], target: Path) -> None:
    """Write the named table, made from collected ones, into `target` with .csv, .md and .parquet.

    Which kind of collected table a file holds is told by its name; a kind of which there is none is None.
    """
    name, *kinds = TABLES[table]
    module = import_module(f"onlybn.tables.{name}")
    files = list(tables)
    given = {kind: [file for file in files if file.stem == kind] for kind in kinds}
    numbers = module.numbers(*(read(given[kind]) if given[kind] else None for kind in kinds))
    with written_whole(target.with_suffix(".csv")) as beside:
        numbers.to_csv(beside, index=False)
    with written_whole(target.with_suffix(".md")) as beside:
        beside.write_text(module.markdown(numbers) + "\n", encoding="utf-8")
    write_table(target.with_suffix(".parquet"), pa.Table.from_pandas(numbers, preserve_index=False))
