"""The papers to reproduce: records of their figures and tables, each paper in a folder here.

Neither this module nor a paper.py imports torch, pandas or matplotlib: every job reads the Snakefile.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module
from typing import Any

from onlybn.errors import unknown_message

NAMES = ("only-batchnorm", "weight-compander", "batchnorm-mechanisms", "one-seed")


@dataclass(frozen=True)
class Record:
    """What figures and tables have in common.

    `module` is relative to the paper's package if it begins with a dot; `module:object` is an object with
    the module's functions. `shows` is the title, in a few words, and `says` one sentence, with which the
    caption begins. `section` is the paper's section or figure: its claims are listed beside the figure or
    table. The target `main` makes it if `main` is set.
    """

    name: str
    module: str
    reads: tuple[str, ...]
    shows: str
    section: str = ""
    main: bool = False
    says: str = ""

    @property
    def counts(self) -> bool:
        """Whether it shows parameter counts, which need no runs."""
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
        """The title of a figure or table in the report."""
        return f"{self.number}: {self.shows}" if self.number else self.shows


@dataclass(frozen=True)
class Figure(Record):
    """A figure: its module has `numbers`, which takes the tables that it reads, `draw` and `caption`.

    `regimes` are patterns of the regimes that it draws, such as `random-*`; without patterns it draws all.
    A module that marks no diverged run by × has CROSSES = False; COUNTS is what its n counts, if not seeds.
    """

    regimes: tuple[str, ...] = ()

    def draws(self, regime: str) -> bool:
        """Say whether the figure draws runs of this regime."""
        return not self.regimes or any(fnmatchcase(regime, pattern) for pattern in self.regimes)


@dataclass(frozen=True)
class Table(Record):
    """A table: its module has `numbers`, `shown`, `caption` and WORDS, the columns without numbers.

    `numbers` takes the collected tables `reads`, then `if_drawn`, in that order. A table of `if_drawn` is
    read for an experiment only if a figure of the study draws it; if none does, it is None. If it `judges`
    claims, `numbers` also takes the study's `not_expected`, by that keyword.
    """

    if_drawn: tuple[str, ...] = ()
    judges: bool = False


# Every paper has these: the provenance of the runs that `main` needs, and of the other runs.
RUNS = {
    "Runs": tuple(
        Table(
            name,
            "onlybn.drawing.provenance",
            ("runs", "metrics"),
            shows,
            main=main,
            says="The status, device, precision, versions, digests and commit of each run.",
        )
        for name, shows, main in (
            ("provenance", "Provenance of the runs", True),
            ("provenance-appendices", "Provenance of the runs, appendices", False),
        )
    )
}


@dataclass(frozen=True)
class Paper:
    """A paper, and the records of its reproduced figures and tables.

    `records` has the report's categories in order, each with its figures and tables. `about` is the report's
    first paragraph, in reStructuredText. `claims` is the module with CLAIMS and PUBLISHED, if any.
    """

    name: str
    title: str
    about: str
    package: str
    records: Mapping[str, tuple[Figure | Table, ...]]
    claims: str = ""

    @property
    def parts(self) -> dict[str, tuple[Figure | Table, ...]]:
        """The report's categories in order, including that of the runs."""
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
        """Import what a record names: a module, or as `module:object` an object in it."""
        module, _, attribute = name.partition(":")
        found = import_module(module, self.package)
        return getattr(found, attribute) if attribute else found


def paper(name: str) -> Paper:
    """Return a paper by name; raises ValueError, in one sentence, for an unknown one."""
    if name not in NAMES:
        raise ValueError(unknown_message("paper", name, NAMES))
    return import_module(f"onlybn.papers.{name.replace('-', '_')}.paper").PAPER
