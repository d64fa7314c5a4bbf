"""Replaces workflow/scripts/analyse.py."""

from pathlib import Path

import pyarrow as pa

from onlybn.files import write_table
from onlybn.runs.schemas import SCHEMAS

analysis = snakemake.wildcards.analysis
schema = SCHEMAS[analysis]
values = dict.fromkeys(schema.names, 1) | {"position": "inside", "beta_too": False}
rows = [
    {name: values[name] for name in schema.names} | {schema.names[0]: first}
    for first in (0.001, 0.01, 0.05, 0.1)
]
if analysis == "activations":
    rows = [row | {"relu": number, "off": number / 4} for number, row in enumerate(rows)]
write_table(Path(snakemake.output[0]), pa.Table.from_pylist(rows, schema))
