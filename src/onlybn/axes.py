"""The axes: the ways in which runs differ, as data. Names are checked without torch.

Every run has a value on each axis of `ALWAYS`. The axes of `OPTIONAL` have a neutral value, which is neither
in a run's specification nor in its path, so a new axis or a new value changes no existing run.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from onlybn import models
from onlybn.networks import normalise, regimes, reparametrise, variants

if TYPE_CHECKING:
    from onlybn.models.network import Network

# A run's values on the optional axes that are not neutral: (axis, value) pairs, in the order of the axes.
Values = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Axis:
    """One way in which runs differ.

    `check` raises ValueError, in one sentence, for an unknown value; it may return the value's one spelling.
    `implementation` is the `module:function` that a job calls with the network, the value and the seed; an
    axis that changes only the training has none. `default` is the value where an experiment names none; if it
    is None, the experiment must name one. `acts` returns whether a value changes a run of a regime, and
    raises ValueError if the two do not fit together. Where the value does not act, the run is the neutral
    one.
    """

    name: str
    description: str
    check: Callable[[str], object]
    implementation: str | None = None
    default: str | None = None
    acts: Callable[[str, str], bool] = lambda value, regime: True

    @property
    def plural(self) -> str:
        """The key for values of the axis, in an experiment and in --config."""
        return f"{self.name}s"

    def spelled(self, value: str) -> str:
        """Return the value in its one spelling; raise ValueError, in one sentence, for an unknown value."""
        spelling = self.check(value)
        return spelling if isinstance(spelling, str) else value

    def misfits(self, values: Iterable[str], regimes: Iterable[str]) -> Iterator[str]:
        """Yield one sentence for each value that does not fit one of the regimes."""
        regimes = list(regimes)
        for value in values:
            try:
                for regime in regimes:
                    self.acts(value, regime)
            except ValueError as error:
                yield str(error)

    def label(self, value: str) -> str:
        """Return a value as shown to a reader: `none` is preceded by the name of the axis."""
        return f"{self.name} {value}" if value == "none" else value

    def apply(self, network: "Network", value: str, seed: int) -> None:
        """Apply the value to the network, in place."""
        module, function = self.implementation.split(":")
        getattr(import_module(module), function)(network, value, seed)


def _check_features(name: str) -> None:
    if name != "own" and not re.fullmatch(r"features-(0|[1-9][0-9]{0,8})", name):
        raise ValueError(f"{name!r} is not own, or of the form features-N, with a seed of at most 9 digits")


def _check_recipe(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ValueError(f"{name!r} is not a name of lower-case letters, digits and hyphens")


ARCHITECTURE = Axis("architecture", "networks", models.check)
REGIME = Axis("regime", "what trains in each", regimes.check, "onlybn.networks.regimes:apply")
VARIANT = Axis(
    "variant",
    "how the weights, and γ and β, are drawn",
    variants.check,
    "onlybn.networks.variants:initialise",
    default=variants.DEFAULT,
)
REPARAMETRISATION = Axis(
    "reparametrisation",
    "the function w = Ψ(v) through which the weights train, such as arctan-0.8-0.5; none is w itself",
    reparametrise.check,
    "onlybn.networks.reparametrise:apply",
    default=reparametrise.NEUTRAL,
    acts=reparametrise.acts,
)
NORMALISATION = Axis(
    "normalisation",
    "what normalises where an architecture has BatchNorm, such as none, layernorm or ghost-16",
    normalise.check,
    "onlybn.networks.normalise:apply",
    default=normalise.NEUTRAL,
    acts=normalise.acts,
)
RECIPE = Axis("recipe", "the study's training (none), or one of its recipes", _check_recipe, default="none")
FEATURES_SEED = Axis(
    "features_seed",
    "the seed of all draws: the run's (own), or N for every run (features-N); images keep the run's",
    _check_features,
    default="own",
)

ALWAYS = (ARCHITECTURE, REGIME, VARIANT)
OPTIONAL = (REPARAMETRISATION, NORMALISATION, RECIPE, FEATURES_SEED)
AXES = (*ALWAYS, *OPTIONAL)


# The default values by axis; the default of an optional axis is its neutral value.
DEFAULTS = {axis.name: axis.default for axis in AXES if axis.default is not None}


def ordered(values: Mapping[str, str]) -> Values:
    """Return the values on optional axes that are not neutral, in the order of the axes."""
    given = {axis.name: values.get(axis.name, axis.default) for axis in OPTIONAL}
    return tuple((name, value) for name, value in given.items() if value != DEFAULTS[name])


def other_axis(name: str, *but: Axis) -> str | None:
    """Return the name of an axis, other than `but`, that has this value; None if there is none."""
    for axis in AXES:
        if axis not in but:
            try:
                axis.check(name)
            except ValueError:
                continue
            return axis.name
    return None
