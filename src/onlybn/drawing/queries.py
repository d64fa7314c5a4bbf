"""Queries of a study's collected tables, for claims: the values of one point of the study, by seed."""

from collections.abc import Callable, Mapping

import pandas as pd

from onlybn import custom
from onlybn.axes import DEFAULTS
from onlybn.drawing.summaries import finals, per_run
from onlybn.models import architecture


class Measured:
    """A study's collected tables, with the queries that claims need."""

    def __init__(self, tables: Mapping[str, pd.DataFrame | None]):
        self.tables = tables
        metrics = tables.get("metrics")
        self.finals = None if metrics is None else finals(metrics)
        self._points: dict[str, dict[tuple, pd.DataFrame]] = {}
        self._diverged: set[tuple] = set()
        self._once: dict[str, pd.DataFrame] = {}

    def once(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a table that several claims need, which is made once under its name."""
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def diverged_since(self) -> frozenset[tuple]:
        """Return the diverged runs that were left out since this was last asked, by what names each."""
        found = frozenset(self._diverged)
        self._diverged.clear()
        return found

    def values(
        self, network: str, regime: str, value: str = "top_1", split: str = "test", **axes: str
    ) -> pd.Series:
        """Return each finished run's final accuracy on a split, in percent, by seed.

        On `train` and `validation` it is that of the state that was tested last. `axes` name, by column, the
        values of axes that are not neutral, `variant` for instance.
        """
        point = {"architecture": network, "regime": regime, **DEFAULTS, **axes}
        found = None
        if self.finals is not None and _neutral_beyond(self.finals, axes):
            named = tuple(v for name, v in point.items() if name in self.finals)
            found = self._by_point(split).get(named)
        if found is None:
            return pd.Series(dtype=float)
        self.leave_out(found.reset_index())
        return found.loc[found["status"] == "finished", value]

    def leave_out(self, runs: pd.DataFrame) -> None:
        """Count the diverged runs among rows of runs, as left out; queries do so themselves."""
        lost = runs[runs["status"] != "finished"]
        names = ("dataset", "architecture", "regime", "training", *DEFAULTS, "seed")
        lost = lost[[name for name in names if name in lost]]
        self._diverged |= set(lost.astype(str).itertuples(index=False, name=None))

    def _by_point(self, split: str) -> dict[tuple, pd.DataFrame]:
        """Return the final rows of the runs of each point, by seed."""
        if split not in self._points:
            rows = self.finals if split == "test" else finals(self.tables["metrics"], split)
            by_seed = rows.set_index("seed").sort_index()
            names = ["architecture", "regime", *(name for name in DEFAULTS if name in by_seed)]
            self._points[split] = dict(iter(by_seed.groupby(names, observed=True)))
        return self._points[split]

    def per_seed(
        self,
        table: str,
        network: str,
        regime: str,
        measure: Callable[[pd.DataFrame], float],
        **axes: str,
    ) -> pd.Series:
        """Return `measure` of each finished run's rows, by seed; axes as in `values`."""
        rows = self.tables.get(table)
        if rows is None or rows.empty or not _neutral_beyond(rows, axes):
            return pd.Series(dtype=float)
        point = {"architecture": network, "regime": regime, **DEFAULTS, **axes}
        for column, name in point.items():
            if column in rows:
                rows = rows[rows[column] == name]
        self.leave_out(rows)
        rows = rows[rows["status"] == "finished"]
        if rows.empty:
            return pd.Series(dtype=float)
        runs = per_run(rows, lambda run: {"value": measure(run)})
        return runs.set_index("seed").sort_index()["value"]

    def networks(self, *families: str) -> list[str]:
        """Return all networks of the families in any table, sorted by family and size."""
        present = {
            name
            for table in self.tables.values()
            if table is not None and len(table)
            for name in table["architecture"].unique()
        }
        described = [architecture(name) for name in present if not custom.is_custom(name)]
        chosen = [a for a in described if a.family in families]
        return [a.name for a in sorted(chosen, key=lambda a: (a.family, a.depth, a.width))]


def _neutral_beyond(rows: pd.DataFrame, axes: Mapping[str, str]) -> bool:
    """Say whether every axis without a column is requested at its neutral value."""
    return all(DEFAULTS[name] == value or name in rows for name, value in axes.items())


def difference(one: pd.Series, other: pd.Series) -> list[float]:
    """Return the differences of replicates paired by seed."""
    return (one - other).dropna().tolist()
