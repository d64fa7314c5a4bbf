"""The papers that are reproduced: records of their figures and tables, each paper in a folder here.

Neither this nor a paper.py imports torch, pandas or matplotlib: the Snakefile is read again in every job.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module
from typing import Any

from onlybn.errors import unknown_message

NAMES = ("only-batchnorm",)


@dataclass(frozen=True)
class Record:
    """What figures and tables have in common.

    `module` is the paper's own where it begins with a dot; `module:object` is an object with its functions.
    `shows` says what to see in a few words, and `section` where the paper says it; the claims of that section
    stand beside the figure or table. `main` says whether the target `main` makes it.
    """

    name: str
    module: str
    reads: tuple[str, ...]
    shows: str
    section: str = ""
    main: bool = False

    @property
    def counts(self) -> bool:
        """Whether it shows parameter counts, which need no run."""
        return self.reads == ("parameter_counts",)

    @property
    def number(self) -> str:
        """The paper's number, such as `Figure 2` or `Figure G, by layer`; empty for a name by subject."""
        number = re.fullmatch(r"(figure|table)-([a-z]?\d+[a-z]?|[a-z])(?:-(.+))?", self.name)
        if number is None:
            return ""
        kind, place, extension = number.groups()
        return f"{kind.title()} {place.upper()}" + (
            f", by {extension.removesuffix('s')}" if extension else ""
        )

    @property
    def title(self) -> str:
        """What a figure or table is called in the report."""
        return f"{self.number}: {self.shows}" if self.number else self.shows


@dataclass(frozen=True)
class Figure(Record):
    """A figure: its module has `numbers`, `draw` and `caption`, which take the tables that it reads.

    `regimes` are patterns of the regimes that it draws, `random-*` for instance; it draws all without them.
    """

    regimes: tuple[str, ...] = ()

    def draws(self, regime: str) -> bool:
        """Say whether the figure draws runs of this regime."""
        return not self.regimes or any(fnmatchcase(regime, pattern) for pattern in self.regimes)


@dataclass(frozen=True)
class Table(Record):
    """A table: its module has `numbers`, `shown`, `caption` and WORDS, the columns that hold no numbers.

    `numbers` takes the collected tables `reads`, then `if_drawn`, in that order. Those are read of an
    experiment only where a figure of the study draws them, and are None where none does. A table that
    `judges` claims also takes the study's `not_expected`, by that keyword.
    """

    if_drawn: tuple[str, ...] = ()
    judges: bool = False


# What every paper has: the provenance of the runs that `main` needs, and of the others.
RUNS = {
    "Runs": tuple(
        Table(name, "onlybn.drawing.provenance", ("runs", "metrics"), shows, main=main)
        for name, shows, main in (
            ("provenance", "Provenance of the runs", True),
            ("provenance-appendices", "Provenance of the runs, appendices", False),
        )
    )
}


@dataclass(frozen=True)
class Paper:
    """A paper, and the records of what the project reproduces of it.

    `records` are the report's categories in their order, each with its figures and tables. `about` is the
    report's first paragraph, in reStructuredText. `claims` is the module with CLAIMS and PUBLISHED, if any.
    """

    name: str
    title: str
    about: str
    package: str
    records: Mapping[str, tuple[Figure | Table, ...]]
    claims: str = ""

    @property
    def parts(self) -> dict[str, tuple[Figure | Table, ...]]:
        """The report's categories in their order, that of the runs included."""
        return {**self.records, **RUNS}

    @cached_property
    def made(self) -> dict[str, Figure | Table]:
        """The records of figures and tables, by name."""
        return {record.name: record for part in self.parts.values() for record in part}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The records of figures, by name."""
        return {name: record for name, record in self.made.items() if isinstance(record, Figure)}

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The records of tables, by name."""
        return {name: record for name, record in self.made.items() if isinstance(record, Table)}

    def check_claims(self, names: Collection[str]) -> None:
        """Raise ValueError, in one sentence, if a name is not the id of a claim. Imports pandas."""
        if names and not self.claims:
            raise ValueError(f"the paper {self.name} has no claims")
        known = [claim.id for claim in self.load(self.claims).CLAIMS] if names else []
        for name in names:
            if name not in known:
                raise ValueError(unknown_message("claim", name, known))

    def load(self, name: str) -> Any:
        """Import what a record names: a module, or an object in one, as `module:object`."""
        module, _, attribute = name.partition(":")
        found = import_module(module, self.package)
        return getattr(found, attribute) if attribute else found


def paper(name: str) -> Paper:
    """Return a paper by name; raises ValueError, in one sentence, for an unknown one."""
    if name not in NAMES:
        raise ValueError(unknown_message("paper", name, NAMES))
    return import_module(f"onlybn.papers.{name.replace('-', '_')}.paper").PAPER
