"""What every benchmark prints and writes: a table with its machine, and Parquet."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from onlybn.files import write_table
from onlybn.machine import machine, versions


def report(name: str, rows: list[dict], folder: Path) -> None:
    """Print the rows as Markdown; write them, with machine and torch's version, to `folder/name.parquet`."""
    table = pd.DataFrame(rows)
    print(f"{machine()}, torch {versions()['torch']}\n")
    print(table.to_markdown(index=False, floatfmt=".4g"))
    table["machine"], table["torch"] = machine(), versions()["torch"]
    write_table(folder / f"{name}.parquet", pa.Table.from_pandas(table, preserve_index=False))
    print(f"\n{folder / f'{name}.parquet'}")
