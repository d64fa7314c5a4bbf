"""Stack the collected tables of a study whose seeds were trained in different places, to draw them together.

    python examples/stack.py results/digits_seeds-4 one/digits_seeds-2 other/digits_seeds-2,3
    snakemake all --config study=digits seeds=4

The first folder is written. Name it as Snakemake names the selection of all these runs; Snakemake then only
draws. (If you have the runs' folders, copy them into one `results/{study}/runs/` instead.)
"""

import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from onlybn.axes import OPTIONAL
from onlybn.drawing.summaries import read
from onlybn.errors import UserError
from onlybn.files import write_table, write_tables
from onlybn.runs import records

POINT = ["study", "dataset", "architecture", "regime", "variant"]
AXES = {axis.name: axis.default for axis in OPTIONAL}
# The type of the columns that name a point.
NAMES = pa.dictionary(pa.int32(), pa.string())


def point(columns):
    """Return those of a table's columns that name a point."""
    return [*POINT, *(name for name in AXES if name in columns)]


def check(runs):
    """Refuse rows of `runs` tables that are not replicates of one study, each present once.

    Raises UserError if a run is present twice, or if replicates differ in specification, data, precision or
    the number of processes that shared a batch.
    """
    if len(studies := runs["study"].unique()) > 1:
        raise UserError(f"these are runs of different studies: {', '.join(studies)}")
    names = point(runs)
    for values, replicates in runs.groupby(names, observed=True):
        of = dict(zip(names[2:], values[2:], strict=True))
        name = " ".join(value for axis, value in of.items() if value != AXES.get(axis))
        if (twice := replicates["seed"].duplicated()).any():
            raise UserError(f"seed {replicates['seed'][twice].iloc[0]} of {name} is in two of the folders")
        for column in ("digest", "dataset_checksum", "processes", "precision"):
            if len(found := replicates[column].unique()) > 1:
                raise UserError(f"{name}: replicates differ in {column}: {', '.join(map(str, found))}")


def stack(tables):
    """Return the rows of a kind of table by run: points in the order of their first row, seeds in order.

    If every table names its runs in its metadata, so does the result, like a table collected at once.
    """
    tables = list(tables)
    tables = [aligned(table, {name for other in tables for name in other.column_names}) for table in tables]
    told = [records.told_in(table.schema).get("runs") for table in tables]
    whole = pa.concat_tables(tables).unify_dictionaries()
    names = point(whole.column_names)
    keys = whole.select([*names, "seed"]).to_pandas().astype(dict.fromkeys(names, str))
    keys["place"] = keys.groupby(names, sort=False).ngroup()
    order = keys.sort_values(["place", "seed"], kind="stable").index
    stacked = whole.take(order.to_numpy()).combine_chunks().replace_schema_metadata(None)
    if None in told:
        return stacked
    runs = [run for part in told for run in part]
    first = {digest: place for place, (digest, *_) in reversed([*enumerate(runs)])}
    return records.telling(stacked, runs=sorted(runs, key=lambda run: (first[run[0]], run[1])))


def aligned(table, present):
    """Return a table with a column for every optional axis among the `present` ones, where it lacks it.

    A collected table has an axis only where a run is not neutral on it.
    """
    axes = [name for name in AXES if name in present]
    for place, name in enumerate(axes, 1 + table.column_names.index("variant")):
        if name not in table.column_names:
            neutral = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), [AXES[name]])
            table = table.add_column(place, pa.field(name, NAMES), neutral)
    return table


def main(out, *folders):
    """Write the stacked tables of every experiment in the folders to `out`."""
    tables, runs = {}, []
    for folder in map(Path, folders):
        found = sorted(folder.glob("experiments/*/*.parquet"))
        provenance = [path for path in found if path.stem == "runs"]
        if not provenance:
            raise UserError(
                f"{folder}/experiments holds no collected tables of runs; if it is a study's folder,"
                " snakemake provenance collects them"
            )
        runs.append(read(provenance))
        for path in found:
            tables.setdefault(path.parent.name, {}).setdefault(path.name, []).append(path)
    runs = pd.concat(runs, ignore_index=True)
    check(runs)
    for kinds in tables.values():
        most = max(kinds.values(), key=len)
        for name, paths in kinds.items():
            if len(paths) < len(most):
                lacks = next(path.parent for path in most if path.with_name(name) not in paths)
                raise UserError(f"{lacks} lacks {name}, which another folder has of this experiment")
    every = [path for kinds in tables.values() for paths in kinds.values() for path in paths]
    told = all("runs" in records.told_at(path) for path in every)
    for experiment, kinds in tables.items():
        for name, paths in kinds.items():
            whole = stack(map(pq.read_table, paths))
            whole = whole if told else whole.replace_schema_metadata(None)
            write_tables(Path(out) / "experiments" / experiment / name, [whole])
    counts = [path for folder in folders if (path := Path(folder) / "parameter_counts.parquet").exists()]
    if counts:
        counted = pa.concat_tables(map(pq.read_table, counts))
        each = counted.to_pandas().drop_duplicates().index
        write_table(Path(out) / counts[0].name, counted.take(each.to_numpy()).combine_chunks())
    by = runs.groupby([*point(runs), "device_name"], sort=False, observed=True)
    seeds = by["seed"].agg(lambda s: ", ".join(map(str, s)))
    print(seeds.reset_index().drop(columns=["study", "dataset", "variant"]).to_markdown(index=False))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
