"""Claims of a paper, each with its published value, judged against what a study measured.

A claim is one statement: an estimate, or some per network, each with a 95 % interval over seeds and the
range in which it holds. `reproduced`: every interval lies inside, and no estimate was not measured; an
interval that is compared with a published one has to overlap it.
`contradicted`: one lies outside, of several estimates with a Holm-adjusted p below 0.05. Otherwise
`inconclusive`: straddling, not measured in part, from one seed, or from two seeds that agree. On another
dataset or schedule than the paper's only directions are judged, `consistent` or `inconsistent`, and a value
is `not run`. A claim about ANY dataset is judged alike on each; of one whose dataset is UNNAMED, each
shows a direction.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import special
from statsmodels.stats.multitest import multipletests

from onlybn.axes import RECIPE
from onlybn.drawing.queries import Measured
from onlybn.jobs import counted

WORDS = (
    *("id", "section", "dataset", "statement", "published"),
    *("measured", "coverage", "verdict", "reason"),
)
POSITIVE = (0.0, math.inf)
NEGATIVE = (-math.inf, 0.0)
# The direction of a claim whose estimates have ranges that hold on any dataset and schedule.
OWN = (math.nan, math.nan)
# Two values that differ by rounding alone: one count of images or channels was found twice, and the spread
# says nothing.
EQUAL = 1e-9

# The dataset of a claim that holds on every dataset and schedule, as published; and of one about what
# networks tend to do, whose source names no dataset.
ANY, UNNAMED = "any", "none named"
# The reason of a claim of which no collected table has a value.
UNMEASURED = "no run that this table reads gives a value"
# How the reason of a claim begins that the study says beforehand not to expect.
NOT_EXPECTED = "not expected here: "

Tables = Mapping[str, pd.DataFrame | None]


@dataclass(frozen=True)
class Estimate:
    """What was measured of one network, or of one quantity: values by seed, or an interval of its own.

    `range` is where the published claim holds; the ends are outside. Without values it was not measured.
    With `every`, each value itself has to lie in the range, and two values are needed. With `exact`, which is
    for what is the same in all runs, one value is enough. With `overlaps`, which is for a published interval
    as the range, it holds if its interval has a part in the range. `diverged` are the runs that it leaves
    out since they diverged, each named by its point and seed. `common` are values by something else that all
    values by seed have in common, such as shared features: their error adds to that over seeds.
    """

    of: str
    values: Sequence[float]
    range: tuple[float, float]
    network: str = ""
    bounds: tuple[float, float] | None = None
    every: bool = False
    exact: bool = False
    overlaps: bool = False
    diverged: frozenset[tuple] = frozenset()
    common: Sequence[float] | None = None
    whether: bool = False

    @property
    def is_of_each(self) -> bool:
        """Whether each value itself has to lie in the range, and not an interval."""
        return self.every or self.exact

    @cached_property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values))

    @cached_property
    def error(self) -> float:
        """The mean's standard error, of two seeds or more."""
        return standard_error(self.values, self.common)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over seeds by Student's t, endless for one seed; of each value, their range."""
        if self.is_of_each:
            return (min(self.values), max(self.values))
        return self.bounds or student_interval(self.values, self.common)

    @property
    def tally(self) -> str:
        """How many runs do what it says, where values say `whether` they do."""
        return f"{sum(self.values):.0f} of {counted(len(self.values), 'run')}"

    @property
    def spreads(self) -> bool:
        """Whether what its values have in common, if anything, was drawn more than once."""
        return self.common is None or len(self.common) > 1

    @property
    def decides(self) -> bool:
        """Whether there are seeds enough for the interval to mean something."""
        if self.is_of_each:
            return self.exact or len(self.values) > 1
        count, (low, high) = len(self.values), self.bounds or (min(self.values), max(self.values))
        return count > 2 or (count == 2 and high - low > EQUAL)

    def judged(self, allowed: tuple[float, float]) -> bool | None:
        """Say whether the interval lies in the allowed range, outside it, or (None) decides nothing."""
        low, high = self.interval
        if not self.decides:
            return None
        if allowed[0] < low and high < allowed[1]:
            return True
        if self.is_of_each or high < allowed[0] or low > allowed[1]:
            return False
        return True if self.overlaps else None

    def p_outside(self, allowed: tuple[float, float]) -> float:
        """Return Student's two-sided p of a mean outside the allowed range against its nearer end; else 1.

        An interval of its own tells only on which side of 0.05 it is.
        """
        if self.is_of_each:
            return float(self.judged(allowed) is True)
        if self.bounds is not None:
            return 0.05 if self.judged(allowed) is False else 1.0
        beyond = max(allowed[0] - self.mean, self.mean - allowed[1])
        if beyond <= 0:
            return 1.0
        # The function of Student's distribution itself: scipy.stats takes a hundred times as long around it.
        freedom = freedom_of(self.values, self.common)
        if freedom < 1:
            return 1.0
        tail = float(special.stdtr(freedom, -beyond / self.error)) if self.error else 0.0
        return 2 * tail

    def needed(self, allowed: tuple[float, float]) -> float:
        """Return how many values would tell its mean from the nearer end of the allowed range."""
        ends = [end for end in allowed if math.isfinite(end)]
        if len(self.values) < 2 or not ends:
            return math.inf
        return values_needed(
            min(abs(self.mean - end) for end in ends), self.error * math.sqrt(len(self.values))
        )

    def __str__(self) -> str:
        low, high = self.interval
        if self.whether:
            return f"{self.of}: {self.tally}"
        if self.is_of_each:
            return f"{self.of} {_from_to(low, high)}"
        spread = f" [{low:.2f}, {high:.2f}]" if len(self.values) > 1 else ""
        return f"{self.of} {self.mean:z.2f}{spread}"


Estimates = Iterable[Estimate]


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, where it stands, on which of its datasets, and how it is measured.

    `direction` is the range in which it holds on any dataset and schedule: None where it says nothing there,
    and OWN for the ranges of its estimates.
    `networks` is how many networks of the paper it is said of, where it is said of every one. Estimates of
    fewer than `least` pairs of runs decide nothing; 0 means that they are not of pairs. `measured_by` is the
    command that measures what no table of a study holds. `chooses` returns whether each row of a table is of
    a run that the claim is about, in any recipe; without it, these are all runs of the study's own training.
    """

    id: str
    section: str
    dataset: str
    statement: str
    published: str
    estimate: Callable[[Measured], Estimates]
    direction: tuple[float, float] | None = None
    networks: int = 0
    least: int = 0
    measured_by: str = ""
    chooses: Callable[[pd.DataFrame], pd.Series] | None = None


@dataclass(frozen=True)
class Setting:
    """A dataset of a paper: the claims' word for it, the training that the paper gives, and a remark.

    A run's training has to agree in every key but `precision` and those of `free`, which the paper varies.
    The remark says in what our images differ.
    """

    dataset: str
    training: Mapping[str, object]
    remark: str = ""
    free: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A paper's settings by the names of our datasets, and for which of them another dataset stands in.

    `stands_for` returns, for a dataset, the claims' word for the one that it stands in for, or None.
    """

    settings: Mapping[str, Setting]
    stands_for: Callable[[str], str | None]


def around(centre: float, tolerance: float) -> tuple[float, float]:
    """Return the range of a value that is published with this tolerance."""
    return (centre - tolerance, centre + tolerance)


def standard_error(values: Sequence[float], common: Sequence[float] | None = None) -> float:
    """Return a mean's standard error, with that of what its values have in common; of two each at least."""
    parts = (values,) if common is None else (values, common)
    return math.hypot(*(float(np.std(part, ddof=1) / math.sqrt(len(part))) for part in parts))


def freedom_of(values: Sequence[float], common: Sequence[float] | None = None) -> int:
    """Return the degrees of freedom of that error: of the fewer, of the values or of the common ones."""
    return min(len(values), len(values if common is None else common)) - 1


def student_interval(values: Sequence[float], common: Sequence[float] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a mean by Student's t; endless without two values of each kind."""
    freedom = freedom_of(values, common)
    if freedom < 1:
        return (-math.inf, math.inf)
    half = float(special.stdtrit(freedom, 0.975)) * standard_error(values, common)
    return (float(np.mean(values)) - half, float(np.mean(values)) + half)


def values_needed(distance: float, deviation: float, most: int = 10_000) -> float:
    """Return how many values resolve a mean at this distance from a bound, given their standard deviation.

    Resolved: Student's two-sided test at 5 % finds the distance with a power of 80 %. At least 2; infinite
    if it is more than `most`.
    """

    def power(count: int) -> float:
        threshold = special.stdtrit(count - 1, 0.975)
        return 1 - special.nctdtr(count - 1, distance / deviation * math.sqrt(count), threshold)

    if deviation == 0:
        return 2 if distance else math.inf
    high = 2
    while power(high) < 0.8:  # the power grows with the number of values
        high *= 2
        if high > 2 * most:
            return math.inf
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= 0.8 else (middle + 1, high)
    return low if low <= most else math.inf


def ratio_interval(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Return Fieller's 95 % interval of a ratio of means of pairs; without ends if `below` may be 0 or less.

    It holds the ratios r for which Student's t does not reject that the mean of above − r · below is 0. A
    bootstrap of two seeds covers half of the cases, and of five 83 %, where this covers 95 %.
    """
    count = len(above)
    unknown = (-math.inf, math.inf)
    if count < 2:
        return unknown
    squares = np.cov(above, below) * special.stdtrit(count - 1, 0.975) ** 2 / count
    first = below.mean() ** 2 - squares[1, 1]
    if first <= 0 or below.mean() <= 0:
        return unknown
    second = above.mean() * below.mean() - squares[0, 1]
    root = math.sqrt(max(0.0, second**2 - first * (above.mean() ** 2 - squares[0, 0])))
    return ((second - root) / first, (second + root) / first)


def judge(
    claims: Iterable[Claim],
    tables: Tables,
    published: Published,
    not_expected: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return a row per claim: published, measured with its 95 % interval, n, coverage, verdict, reason.

    `tables` are a study's collected tables by kind; one of which there is none is None. `not_expected` says
    why a claim, by its id, cannot be expected of the study: the verdict is the same, the reason begins so.
    `summary` is what was measured in a few words.
    """
    seen: dict[Callable | None, tuple[Measured, Setting | str | None]] = {}
    rows = []
    for claim in claims:
        chooses = claim.chooses
        if chooses not in seen:
            chosen = tables if chooses is None else {n: _chosen(t, chooses) for n, t in tables.items()}
            of = map(_of_the_study, _present(tables)) if chooses is None else _present(chosen)
            seen[chooses] = Measured(chosen), _setting(of, published, several=chooses is not None)
        measured, setting = seen[chooses]
        if chooses is not None and claim.dataset in (ANY, UNNAMED):
            setting = None  # it is judged alike on each, and may be about several datasets
        row = _not_run(claim, setting) if isinstance(setting, str) else _row(claim, measured, setting)
        rows.append(row)
    for row in rows:
        why = (not_expected or {}).get(row["id"])
        if why and row["verdict"] != "not run":
            row["reason"] = f"{NOT_EXPECTED}{why}; {row['reason']}"
    return pd.DataFrame(rows)


def _chosen(table: pd.DataFrame | None, chooses: Callable) -> pd.DataFrame | None:
    return table if table is None or table.empty else table[chooses(table)].reset_index(drop=True)


def _present(tables: Tables) -> list[pd.DataFrame]:
    return [table for table in tables.values() if table is not None]


def _setting(rows: Iterable[pd.DataFrame], published: Published, *, several: bool) -> Setting | str | None:
    """Return the setting that all runs have, None if it is no published one, or why nothing is judged.

    With `several`, runs may be of several trainings.
    """
    found = [some for some in rows if len(some)]
    trainings, datasets = (
        {name for some in found for name in some[column].unique()} for column in ("training", "dataset")
    )
    for kind, names in (("trainings", () if several else trainings), ("datasets", datasets)):
        if len(names) > 1:  # whose runs must not share a mean
            return f"runs of several {kind} are not judged"
    setting = published.settings.get(next(iter(datasets), ""))
    agrees = setting is not None and all(_agrees(json.loads(text), setting) for text in trainings)
    return setting if agrees else None


def _of_the_study(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the study's own training: a recipe is another one."""
    return table[table[RECIPE.name] == RECIPE.default] if RECIPE.name in table else table


def _agrees(training: Mapping[str, object], setting: Setting) -> bool:
    """Say whether a training is the published one; a key beyond the schedule's is a change of it."""
    differ = ("precision", *setting.free)
    return {key: value for key, value in training.items() if key not in differ} == setting.training


def _not_run(claim: Claim, reason: str) -> dict[str, object]:
    """Return the row of a claim of which nothing is judged."""
    told = {name: getattr(claim, name) for name in ("id", "section", "dataset", "statement", "published")}
    told |= {"measured": "", "n": 0, "coverage": "", "verdict": "not run", "reason": reason}
    return told | {"summary": ""}


def _row(claim: Claim, measured: Measured, setting: Setting | None) -> dict[str, object]:
    """Judge a claim by what was measured, in the paper's setting or (None) in no such."""
    published = claim.dataset == ANY or (setting is not None and setting.dataset == claim.dataset)
    measured.diverged_since()
    estimates = [
        replace(estimate, diverged=estimate.diverged | measured.diverged_since())
        for estimate in claim.estimate(measured)
    ]
    there = [estimate for estimate in estimates if estimate.values]
    diverged = frozenset().union(*(estimate.diverged for estimate in estimates))
    left_out = f"{counted(len(diverged), 'run')} that diverged left out"
    if diverged and not there:
        coverage = f"0 of {len(estimates)} estimates hold, {len(estimates)} not measured"
        return _not_run(claim, left_out) | {"verdict": "inconclusive", "coverage": coverage}
    if not there:
        return _not_run(claim, f"{claim.measured_by} measures it" if claim.measured_by else UNMEASURED)
    # Another dataset, or another schedule, stands in: of it only directions are judged.
    if not published and claim.direction is None:
        return _not_run(claim, "published values are judged under the paper's dataset and schedule alone")
    networks = {estimate.network for estimate in there}
    lacking = [e.of for e in estimates if not e.values and (e.network in networks or e.diverged)]
    own = published or claim.direction is OWN
    ranges = [estimate.range if own else claim.direction for estimate in there]
    judged = [(e, allowed, e.judged(allowed)) for e, allowed in zip(there, ranges, strict=True)]
    words = ("reproduced", "contradicted") if published else ("consistent", "inconsistent")
    verdict, reason = _verdict(judged, lacking, claim.least)
    if claim.dataset == ANY:
        remark = ""
    elif claim.dataset == UNNAMED:
        remark = "direction only, since the source names no dataset"
    else:
        remark = setting.remark if published else "direction only, on another dataset or schedule"
    reason += f"; {left_out}" if diverged else ""
    reason += f"; {remark}" if remark else ""
    held = sum(holds is True for _, _, holds in judged)
    coverage = f"{held} of {len(there) + len(lacking)} estimates hold"
    coverage += f", {len(lacking)} not measured" if lacking else ""
    if claim.networks:
        coverage += f", on {len(networks)} network{'s' * (len(networks) != 1)}"
        coverage += f" (the paper: {claim.networks})"
    return _not_run(claim, reason) | {
        "measured": ", ".join(map(str, there)),
        "n": min(len(estimate.values) for estimate in there),
        "coverage": coverage,
        "verdict": {True: words[0], False: words[1], None: "inconclusive"}[verdict],
        "summary": _summary(there, held),
    }


def _summary(estimates: Sequence[Estimate], held: int) -> str:
    """Return what was measured in a few words: one estimate, or the range of several of a kind."""
    means = [estimate.mean for estimate in estimates]
    if len(estimates) > 1:
        hold = f"{held} of {len(means)} hold"
        alike = len({(estimate.range, estimate.whether) for estimate in estimates}) == 1
        return f"{min(means):z.1f} to {max(means):z.1f}, {hold}" if alike else hold
    (one,) = estimates
    low, high = one.interval
    if one.whether:
        return one.tally
    return _from_to(low, high) if one.is_of_each else f"{one.mean:z.1f} [{low:z.1f}, {high:z.1f}]"


def _from_to(low: float, high: float) -> str:
    return f"{low:z.3g}" + (f" to {high:z.3g}" if high > low else "")


Judged = tuple[Estimate, tuple[float, float], bool | None]


def _verdict(judged: Sequence[Judged], lacking: Sequence[str], least: int) -> tuple[bool | None, str]:
    """Return whether the claim holds, fails, or (None) is undecided by these estimates, and why.

    Of a claim about pairs, the reason says how many would be needed.
    """
    few = [estimate for estimate, _, _ in judged if len(estimate.values) < least]
    judged = [one for one in judged if one[0] not in few]
    outside = _certainly_outside(judged)
    if outside:
        return False, f"outside: {', '.join(map(str, outside))}"
    straddling = [(e, allowed) for e, allowed, holds in judged if e.decides and holds is None]
    undecided = {
        f"fewer than {least} pairs of runs": few,
        "one seed": [e for e, _, _ in judged if len(e.values) == 1 and not e.decides],
        "two seeds that agree": [e for e, _, _ in judged if len(e.values) == 2 and not e.decides],
        "one draw of what all seeds share": [e.of for e, _ in straddling if not e.spreads],
        "the interval straddles the bound": [
            f"{e} (about {_pairs(e.needed(allowed))} needed)" if least else e
            for e, allowed in straddling
            if e.spreads
        ],
        "outside, but not with a Holm-adjusted p below 0.05": [e for e, _, holds in judged if holds is False],
        "not measured": lacking,
    }
    reasons = [f"{why}: {', '.join(map(str, what))}" for why, what in undecided.items() if what]
    if reasons:
        return None, "; ".join(reasons)
    each = all(estimate.is_of_each for estimate, _, _ in judged)
    part = "overlaps" if any(estimate.overlaps for estimate, _, _ in judged) else "lies in"
    return True, f"every {'run' if each else 'interval'} {part} the range"


def _pairs(count: float) -> str:
    return "more than 10,000 pairs" if math.isinf(count) else f"{count:,} pairs"


def _certainly_outside(judged: Sequence[Judged]) -> list[Estimate]:
    """Return the estimates outside their range with a Holm-adjusted p below 0.05 among those that decide.

    Of many networks one lies outside by chance more often than 5 % of the time; of one estimate, the
    interval outside is that p.
    """
    tested = [(estimate, allowed, holds) for estimate, allowed, holds in judged if estimate.decides]
    outside = [holds is False for _, _, holds in tested]
    if len(tested) > 1 and any(outside):
        small, *_ = multipletests([e.p_outside(allowed) for e, allowed, _ in tested], 0.05, "holm")
        outside = [beyond and bool(few) for beyond, few in zip(outside, small, strict=True)]
    return [estimate for (estimate, _, _), beyond in zip(tested, outside, strict=True) if beyond]


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the claims with long measurements shortened; they are whole in the Parquet and CSV."""
    return numbers[[*WORDS, "n"]].assign(
        measured=numbers["measured"].map(_shortened), reason=numbers["reason"].map(_shortened)
    )


def counts(numbers: pd.DataFrame) -> str:
    """Say how many claims have which verdict."""
    return ", ".join(f"{count} {verdict}" for verdict, count in numbers["verdict"].value_counts().items())


def caption(numbers: pd.DataFrame) -> str:
    """Say how many claims have which verdict, and what the verdicts mean."""
    return (
        f"{counts(numbers)}. Measured values have their 95 % interval over seeds in brackets, or, where each"
        " run is judged, their range. Under the paper's dataset and schedule, a claim is reproduced if every"
        " interval lies in the range in brackets (this project's tolerance, where the paper gives one"
        " number). It is contradicted if an interval lies outside; if there are several, only with a"
        " Holm-adjusted p below 0.05. Elsewhere, and where the source names no dataset, only directions are"
        " judged: consistent or inconsistent."
    )


def beside(section: str, claims: Iterable[Claim], tables: Tables, published: Published) -> pd.DataFrame:
    """Return what a paper claims in a section: statement, published, measured and verdict.

    Judged by `tables`, the collected ones of a figure or table; what they do not measure, others of the study
    may. Claims about other data than the study's, or what stands in for it, are left out. Empty where the
    paper claims nothing there.
    """
    columns = ["statement", "published", "measured", "verdict"]
    dataset = next(table["dataset"].iloc[0] for table in tables.values() if table is not None)
    about = published.stands_for(dataset)
    chosen = [
        claim
        for claim in claims
        if claim.section.endswith(section) and (claim.chooses or claim.dataset in (about, ANY))
    ]
    if not chosen:
        return pd.DataFrame(columns=columns)
    judged = judge(chosen, tables, published)
    verdict = judged["verdict"].where(judged["reason"] != UNMEASURED, "not measured here")
    return judged.assign(measured=judged["measured"].map(_shortened), verdict=verdict)[columns]


def _shortened(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: text.rfind(", ", 0, length)] + ", …"
