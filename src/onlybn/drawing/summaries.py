"""Shared by figures and tables: values of each run, and summaries of replicates over seeds."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import union_categoricals

from onlybn.axes import OPTIONAL, VARIANT
from onlybn.datasets import known
from onlybn.errors import UserError
from onlybn.runs.schemas import DRAWN, SCHEMAS, STEP, missing
from onlybn.study import Training
from onlybn.training.schedules import learning_rates

# The columns that name a point of a study, and those that tell its replicates apart. A point also has the
# optional axes that are not neutral, the number of `classes` of a custom dataset, and its `training` if a
# table has several.
POINT = [
    "study",
    "dataset",
    "architecture",
    "family",
    "depth",
    "width",
    "parameters",
    "batchnorm_parameters",
    "regime",
    "variant",
    "epochs",
]
RUN = [*POINT, "seed", "status"]
# Columns that a table has only if a run is not neutral on them, with their neutral values.
NEUTRAL = {axis.name: axis.default for axis in OPTIONAL} | {"steps": 0}
# The column that a table of a built-in dataset lacks, since the number is known.
CLASSES = "classes"
# Rows whose hashes are computed at once, which limits the memory.
MANY_ROWS = 2**20


def point(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that name a point; runs of different points never share a mean."""
    varies = "training" in table and table["training"].nunique() > 1
    some = [name for name in (*NEUTRAL, CLASSES) if name in table]
    return [*POINT, *some, *(["training"] if varies else [])]


def differs(points: pd.DataFrame) -> pd.Series:
    """Return in words each point's values that are not neutral, and its dataset if there are several."""
    words = pd.Series("", index=points.index)
    for axis in OPTIONAL:
        if axis.name in points:
            value = points[axis.name].astype(str)
            words += (" " + value.map(axis.label)).where(value != axis.default, "")
    if points["dataset"].nunique() > 1:
        words += " " + points["dataset"].astype(str)
    return words.str.strip()


def networks(points: pd.DataFrame) -> pd.Series:
    """Return each point's network, with its variant and other axes if they are not the default."""
    variant = points["variant"].astype(str)
    named = points["architecture"].astype(str) + (" " + variant).where(variant != VARIANT.default, "")
    return (named + " " + differs(points)).str.strip()


def run(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that name a run."""
    return [*point(table), "seed", "status"]


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """Stack collected tables; a run that several experiments share is kept once.

    A table with a row per channel may have ten million rows: it keeps only the columns of `DRAWN`, and the
    columns of the run as categories. A file's name tells its kind. Raises UserError if a table is damaged,
    lacks columns of its kind, or has other rows of a run than another table.
    """
    tables: list[pd.DataFrame] = []
    seen: dict[tuple, tuple[Path, int]] = {}
    files = [Path(path) for path in paths]
    present = {name for path in files for name in _names(path)}
    optional = [name for name in (*NEUTRAL, CLASSES, STEP.name) if name in present]
    for path in files:
        table = _read(path, optional)
        if len(files) > 1 and set(RUN) <= set(table.columns):
            table = _unseen(path, table, seen)
        tables.append(table)
    whole = tables[0] if len(tables) == 1 else _stacked(tables)
    return whole if set(RUN) <= set(whole.columns) else whole.drop_duplicates(ignore_index=True)


def read_kinds(kinds: Iterable[str], paths: Iterable[Path]) -> dict[str, pd.DataFrame | None]:
    """Stack collected tables by kind, which is the file's name; a kind without files is None."""
    files = list(paths)
    given = {kind: [file for file in files if file.stem == kind] for kind in kinds}
    return {kind: read(found) if found else None for kind, found in given.items()}


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Stack tables; unlike pandas, keep categoricals whose categories differ."""
    columns = {}
    for name, kind in tables[0].dtypes.items():
        parts = [table[name] for table in tables]
        categories = isinstance(kind, pd.CategoricalDtype)
        columns[name] = union_categoricals(parts) if categories else pd.concat(parts, ignore_index=True)
    return pd.DataFrame(columns, copy=False)


def _names(path: Path) -> list[str]:
    """Return a table's columns, or none if it is damaged; reading it later raises the error."""
    try:
        return pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return []


def _read(path: Path, optional: Sequence[str]) -> pd.DataFrame:
    """Return a collected table without its experiment, read column by column.

    Columns of `optional` that it lacks, since only other tables have them, are added with neutral values,
    or with the number of classes of its built-in dataset.
    """
    again = "delete it to collect it again"
    kind = path.stem
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name != "experiment"]
            lacking = [name for name in RUN if name not in names] if kind in SCHEMAS else []
            lacking += missing(kind, names) if kind in SCHEMAS else []
            if lacking:
                raise UserError(f"{path} lacks the columns {', '.join(lacking)}; {again}")
            if kind in DRAWN:
                names = [name for name in names if name not in SCHEMAS[kind].names or name in DRAWN[kind]]
            table = pd.DataFrame({name: _column(file, name, kind) for name in names}, copy=False)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is missing or damaged ({error}); {again}") from None
    if optional and set(RUN) <= set(names):
        for name in optional:
            if name not in names:
                neutral = [NEUTRAL.get(name, np.nan)] * len(table)
                values = classes(table).astype(int) if name == CLASSES else neutral
                table[name] = pd.Categorical(values) if kind in DRAWN else values
        table = table[[*(name for name in names if name not in optional), *optional]]
    if STEP.name in table and kind == "metrics":  # missing for runs trained by epochs
        table[STEP.name] = table[STEP.name].astype(float)
    return table


def _column(file: pq.ParquetFile, name: str, kind: str) -> pd.Series:
    column = file.read([name]).column(name)
    if kind in DRAWN and (
        name not in SCHEMAS[kind].names or pa.types.is_dictionary(SCHEMAS[kind].field(name).type)
    ):
        column = column.dictionary_encode()  # no effect if it is encoded already
    if not pa.types.is_dictionary(column.type):
        return column.to_pandas()
    words = column.unify_dictionaries().to_pandas()
    return words if kind in DRAWN else words.astype(str)


def _unseen(path: Path, table: pd.DataFrame, seen: dict[tuple, tuple[Path, int]]) -> pd.DataFrame:
    """Return a table without the runs in `seen`, and add its runs to `seen`.

    Raises UserError if the rows of such a run differ from those seen before.
    """
    names = [name for name in dict.fromkeys([*point(table), "training", "seed"]) if name in table]
    hashes = _row_hashes(path, table)
    new = np.ones(len(table), bool)
    for named, rows in by_run(table, names):
        digest = int(hashes[rows.index].sum())
        first, before = seen.setdefault(named, (path, digest))
        if before != digest:
            raise UserError(
                f"{first} and {path} have different rows of the run {' '.join(map(str, named))}; delete both"
                " to collect them again"
            )
        if first != path:
            new[rows.index] = False
    return table if new.all() else table[new].reset_index(drop=True)


def _row_hashes(path: Path, table: pd.DataFrame) -> np.ndarray:
    """Return a hash of each row of a collected table, uint64 (rows,)."""
    lists = [field.name for field in SCHEMAS.get(path.stem, ()) if pa.types.is_list(field.type)]
    hashable = {name: table[name].map(np.ndarray.tobytes, na_action="ignore") for name in lists}
    table = table.assign(**hashable)
    parts = (table.iloc[start : start + MANY_ROWS] for start in range(0, len(table), MANY_ROWS))
    hashes = [pd.util.hash_pandas_object(part, index=False).to_numpy() for part in parts]
    return np.concatenate([np.empty(0, np.uint64), *hashes])


def by_run(table: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Yield each run's values of the columns `names`, and its rows, in the order of the table.

    Unlike `groupby`, this needs no memory per row and column, since the rows of a run are consecutive.
    """
    starts = np.zeros(len(table), bool)
    starts[:1] = True
    for name in names:
        column = table[name]
        values = column.cat.codes if isinstance(column.dtype, pd.CategoricalDtype) else column
        values = values.to_numpy()
        starts[1:] |= values[1:] != values[:-1]
    places = np.flatnonzero(starts)
    parts: dict[tuple, list[pd.DataFrame]] = {}
    runs = table[names].iloc[places].itertuples(index=False, name=None)
    for run, start, end in zip(runs, places, [*places[1:], len(table)], strict=True):
        parts.setdefault(run, []).append(table.iloc[start:end])
    for run, rows in parts.items():
        yield run, rows[0] if len(rows) == 1 else pd.concat(rows)


def finals(metrics: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Return each run's last test row, or what another split gave at that row's epoch and step."""
    test = metrics[metrics["split"] == "test"]
    last = test.groupby(run(test), dropna=False).tail(1).reset_index(drop=True)
    if split == "test":
        return last
    at = [*run(test), "epoch", *([STEP.name] if STEP.name in test else [])]
    return metrics[metrics["split"] == split].merge(last[at], on=at)


def per_run(table: pd.DataFrame, measure: Callable[[pd.DataFrame], dict[str, float]]) -> pd.DataFrame:
    """Return a row per run with the values that `measure` returns of its rows."""
    names = run(table)
    rows = [dict(zip(names, named, strict=True)) | measure(rows) for named, rows in by_run(table, names)]
    return pd.DataFrame(rows, columns=None if rows else names)


def over_seeds(
    runs: pd.DataFrame, values: Sequence[str] = ("top_1", "top_5"), by: Sequence[str] = ()
) -> pd.DataFrame:
    """Summarise runs (one row each) by point, and by the columns `by`: mean and standard deviation (n − 1).

    Diverged runs are in no mean: `diverged` counts them, and `n` the others. With `top_1` among the values,
    `at_chance` counts the runs of n whose top-1 is at most 1.5 times chance (Appendix E.2).
    """
    rows, names = [], [*point(runs), *by]
    for values_of_names, replicates in runs.groupby(names, sort=False):
        finished = replicates[replicates["status"] == "finished"]
        row = dict(zip(names, values_of_names, strict=True))
        for value in values:
            row |= {value: finished[value].mean(), f"{value}_std": finished[value].std(ddof=1)}
        row |= {"n": len(finished), "diverged": len(replicates) - len(finished), "at_chance": 0}
        if "top_1" in values:
            row["at_chance"] = int(stuck(finished).sum())
        rows.append(row)
    summarised = [name for value in values for name in (value, f"{value}_std")]
    return pd.DataFrame(rows, columns=[*names, *summarised, "n", "diverged", "at_chance"])


def differing(trainings: pd.Series) -> pd.Series:
    """Return for each training, as JSON, the keys that differ between trainings, with their values."""
    parsed = {text: json.loads(text) for text in trainings.unique()}
    keys = sorted({key for training in parsed.values() for key in training})
    varied = [key for key in keys if len({str(training.get(key)) for training in parsed.values()}) > 1]
    return trainings.map(
        {text: ", ".join(f"{key} {one[key]}" for key in varied if key in one) for text, one in parsed.items()}
    )


def stuck(runs: pd.DataFrame) -> pd.Series:
    """Return whether each run's top-1 is at most 1.5 times chance."""
    return runs["top_1"] <= 1.5 * chance(runs)


def classes(rows: pd.DataFrame) -> pd.Series:
    """Return the number of classes of each row's dataset."""
    if CLASSES in rows:
        return rows[CLASSES]
    named = {name: known(name).classes for name in rows["dataset"].unique()}
    return rows["dataset"].map(named).astype(float)


def chance(rows: pd.DataFrame) -> pd.Series:
    """Return the accuracy of guessing on each row's dataset, in percent."""
    return 100 / classes(rows)


def reach_of(training: Mapping[str, Any], images: int) -> float:
    """Return the sum over a training's steps of learning rate × weight decay / (1 − momentum).

    `images` is the size of the dataset's training split.
    """
    given = Training(**training)
    rates = learning_rates(given, given.steps_per_epoch(images))
    return float(rates.sum()) * given.weight_decay / (1 - given.momentum)


def ranges(points: pd.DataFrame) -> str:
    """Return in words the range of the means `y`, in percent, of each regime."""
    means = points.dropna(subset="y").groupby("regime")["y"].agg(["min", "max"])
    phrases = [
        f"{low:.1f} % ({regime})" if low == high else f"{low:.1f} to {high:.1f} % ({regime})"
        for regime, low, high in means.itertuples()
    ]
    return " and ".join(phrases) or "no run finished"


def seeds_phrase(points: pd.DataFrame, *, crosses: bool = False, counts: str = "seed") -> str:
    """Return in words the number of seeds of the points, and of diverged runs and runs at chance.

    With `crosses` it says that × marks diverged ones. `counts` is what n counts.
    """
    counted = points.drop_duplicates(point(points))
    low, high = points["n"].min(), points["n"].max()
    phrase = f"n = {high}" if low == high else f"n = {_by_arm(counted) or f'{low} to {high}'}"
    phrase += f" {counts}" if (low, high) == (1, 1) else f" {counts}s"
    if diverged := int(counted["diverged"].sum()):
        mark = " (×)" if crosses else ""
        phrase += f"; {diverged} diverged run{'s' * (diverged > 1)}{mark} left out of the means"
    if at_chance := int(counted["at_chance"].sum()):
        phrase += f"; {at_chance} run{'s' * (at_chance > 1)} with at most 1.5 times the accuracy of chance"
    return phrase


def _by_arm(points: pd.DataFrame) -> str:
    """Return in words the numbers of seeds, where regimes or other names of arms explain how they differ."""
    for column in ("regime", *(axis.name for axis in OPTIONAL)):
        if column in points and points[column].nunique() > 1:
            ends = points.groupby(column, sort=False, observed=True)["n"].agg(["min", "max"])
            if (ends["min"] == ends["max"]).all():
                arms = ends.groupby("max", sort=False).groups.items()
                return ", ".join(f"{n} ({', '.join(map(str, names))})" for n, names in sorted(arms))
    return ""
