"""A study is data, and expands to its runs: the typed models, which import no torch."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from onlybn import custom, datasets, models
from onlybn.errors import UserError, choose_from
from onlybn.networks import regimes
from onlybn.networks.variants import DEFAULT as DEFAULT_VARIANT
from onlybn.networks.variants import NAMES as VARIANTS
from onlybn.papers.only_batchnorm.figures import FIGURES
from onlybn.papers.only_batchnorm.tables import TABLES

# Raised when the meaning of a specification changes, so that older runs are not taken for new ones.
SPECIFICATION = 1
# The keys of a training that are in every specification. Any other is in it only where it is not at its
# default, which must mean what was done before there was the key: then older runs keep their digests.
SPECIFIED = (
    *("epochs", "batch_size", "learning_rate", "milestones", "divide_by", "warmup"),
    *("momentum", "weight_decay", "shift", "flip", "precision"),
)


def _number(description: str, test: Callable[[float], bool], *, whole: bool = False) -> BeforeValidator:
    def check(value: object) -> float:
        try:  # YAML reads 1e-3 as text
            number = value if isinstance(value, int | float) else float(str(value))
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number) or not test(number):
            raise ValueError(f"{value!r} is not {description}")
        if whole and number != int(number):
            raise ValueError(f"{value!r} is not {description}")
        return int(number) if whole else float(number) + 0.0  # -0.0 is 0.0

    return BeforeValidator(check)


def _named(check) -> AfterValidator:
    """Turn a function that raises ValueError on a wrong name into a validator that keeps the name."""
    return AfterValidator(lambda name: (check(name), name)[1])


def _choice(kind: str, allowed: Iterable[str]) -> AfterValidator:
    allowed = list(allowed)

    def check(name: str) -> None:
        if name not in allowed:
            raise ValueError(choose_from(kind, name, allowed))

    return _named(check)


def seeds_from(value: object) -> list[int]:
    """Take a number of seeds, counted from 0, or a list of them."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return list(range(value))
    if (
        isinstance(value, list)
        and value
        and all(type(seed) is int and 0 <= seed < 2**63 for seed in value)
        and len(set(value)) == len(value)
    ):
        return sorted(value)
    raise ValueError(
        f"{value!r} is not a number of seeds of at least 1, or a list of different whole numbers from 0"
    )


def _without_repeats(names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"named more than once: {', '.join(repeated)}")
    return names


Positive = Annotated[float, _number("a number above 0", lambda x: x > 0)]
NotNegative = Annotated[float, _number("a number of at least 0", lambda x: x >= 0)]
Share = Annotated[float, _number("a share from 0 to below 1", lambda x: 0 <= x < 1)]
Count = Annotated[int, _number("a whole number of at least 1", lambda x: 1 <= x < 2**31, whole=True)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="letters a-z, digits and hyphens")]
ArchitectureName = Annotated[str, _named(models.check)]
RegimeName = Annotated[str, _named(regimes.check)]
VariantName = Annotated[str, _choice("variant", VARIANTS)]
NonEmpty = AfterValidator(_without_repeats)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Strict):
    """How every run of a study trains (Appendix B): SGD, its schedule, and the augmentation."""

    epochs: Count | None = Field(default=None, description="passes over the training images; or `steps`")
    steps: Count | None = Field(default=None, description="the length of training in steps, not `epochs`")
    test_every: Count | None = Field(
        default=None, description="steps between tests, beside `steps`; a pass over the images if not given"
    )
    batch_size: Count = Field(description="images per step; the last, partial batch is kept")
    learning_rate: Positive = Field(description="before any milestone")
    milestones: list[Positive] = Field(
        default=[],
        description="epochs (or `steps`) at which the learning rate is divided; fractions are allowed",
    )
    divide_by: Positive = Field(default=10.0, description="the learning rate's divisor at a milestone")
    warmup: NotNegative = Field(default=0.0, description="epochs (or `steps`) of linear warm-up")
    momentum: Share = Field(default=0.9, description="SGD's momentum")
    weight_decay: NotNegative = Field(
        default=1e-4, description="on every trainable parameter, γ and β included"
    )
    shift: Share = Field(default=0.125, description="largest random shift, as a share of the image's side")
    flip: bool = Field(default=True, strict=True, description="random horizontal flips")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32", description="of activations; auto is bfloat16 where the device has it"
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            given = "epochs or steps is missing" if self.steps is None else "epochs and steps are both given"
            raise ValueError(f"{given}; the length of training is one of the two")
        faults = []
        if self.test_every and self.epochs:
            faults.append("test_every goes with steps; a run whose length is in epochs is tested after each")
        if self.milestones != sorted(set(self.milestones)):
            faults.append(f"milestones {self.milestones} are not in increasing order")
        unit, length = self.unit, self.length
        late = [m for m in self.milestones if m >= length]
        if late:
            faults.append(
                f"milestones {', '.join(f'{m:g}' for m in late)} are not before the last {unit}, {length}"
            )
        if self.warmup >= length:
            faults.append(f"warmup of {self.warmup:g} {unit}s is not shorter than the {length} {unit}s")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_serializer(mode="wrap")
    def _without_the_other_length(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def unit(self) -> Literal["epoch", "step"]:
        """What the length, the milestones and the warm-up are counted in."""
        return "epoch" if self.steps is None else "step"

    @property
    def length(self) -> int:
        """The length of training, in its unit."""
        return self.epochs or self.steps

    def steps_per_epoch(self, examples: int) -> int:
        """Return the number of steps of a pass over so many training images."""
        return -(-examples // self.batch_size)

    def steps_of(self, examples: int) -> int:
        """Return the number of steps of a run on so many training images."""
        return self.steps or self.epochs * self.steps_per_epoch(examples)

    def next_test(self, taken: int, steps_per_epoch: int) -> int:
        """Return the step after which the network is next tested, once `taken` steps are."""
        rhythm = self.test_every or steps_per_epoch
        return min(self.steps or self.epochs * steps_per_epoch, (taken // rhythm + 1) * rhythm)

    def tests(self, examples: int) -> int:
        """Return how often a run on so many training images is tested."""
        return -(-self.steps_of(examples) // (self.test_every or self.steps_per_epoch(examples)))

    @property
    def specified(self) -> dict[str, Any]:
        """What of a training is in a run's specification, its record and collected tables."""
        fields = type(self).model_fields
        return {
            key: value
            for key, value in self.model_dump().items()
            if key in SPECIFIED or value != fields[key].default
        }

    def check_last_batch(self, examples: int, processes: int) -> None:
        """Refuse, with a UserError, a last, partial batch of fewer than two images for each process."""
        last = examples % self.batch_size or self.batch_size
        if last < 2 * processes:  # of one image alone BatchNorm may have no variance
            fewer = f"take at most {last // 2} processes_per_run, or " if last >= 2 else ""
            raise UserError(
                f"config: batch_size: an epoch's last batch has {last} of {self.batch_size} images, fewer"
                f" than two for each process of a run; {fewer}take another batch_size"
            )


def changed(training: Training, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the raw keys of a training with some changed.

    Another length, in epochs or in steps, replaces the one there is, and moves milestones and warm-up in
    proportion. Where both lengths are given both stay, for validation to refuse.
    """
    raw = training.model_dump(exclude_unset=True)
    lengths = [key for key in ("epochs", "steps") if key in changes]
    if len(lengths) == 1:
        for key in ("epochs", "steps", *(["test_every"] if lengths == ["epochs"] else [])):
            raw.pop(key, None)
        length = changes[lengths[0]]
        if isinstance(length, int) and not isinstance(length, bool) and length >= 1:
            raw["milestones"] = [m * length / training.length for m in training.milestones]
            raw["warmup"] = training.warmup * length / training.length
    for key, value in changes.items():
        raw[key] = [value] if key == "milestones" and not isinstance(value, list) else value
    return raw


class Experiment(_Strict):
    """A named grid inside a study: architectures × regimes × variants."""

    architectures: Annotated[list[ArchitectureName], NonEmpty] = Field(min_length=1, description="networks")
    regimes: Annotated[list[RegimeName], NonEmpty] = Field(min_length=1, description="what trains in each")
    variants: Annotated[list[VariantName], NonEmpty] = Field(
        default=[DEFAULT_VARIANT], min_length=1, description="how the weights, and γ and β, are drawn"
    )


class Definition(_Strict):
    """What a study file holds."""

    dataset: Annotated[str, _named(datasets.check)] = Field(
        description="which images, by name or as module:function"
    )
    training: Training = Field(description="how every run trains: the keys below")
    seeds: Annotated[list[int], BeforeValidator(seeds_from)] = Field(
        description="a number of seeds, counted from 0, or a list of them"
    )
    experiments: dict[Name, Experiment] = Field(
        min_length=1, description="grids of runs by names of your own: the keys below"
    )
    figures: dict[Annotated[str, _choice("figure", FIGURES)], list[str]] = Field(
        default={}, description="which experiments each figure draws"
    )
    tables: dict[Annotated[str, _choice("table", TABLES)], list[str]] = Field(
        default={}, description="which experiments each table shows"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = [
            f"{kind}.{name}: " + choose_from("experiment", experiment, self.experiments)
            for kind, drawn in (("figures", self.figures), ("tables", self.tables))
            for name, wanted in drawn.items()
            for experiment in wanted
            if experiment not in self.experiments
        ]
        dataset = datasets.known(self.dataset)
        if custom.is_own(self.dataset):
            if "flip" not in self.training.model_fields_set:
                faults.append(
                    f"training.flip: is missing; true if a flipped image of {self.dataset} still shows its"
                    " class, else false"
                )
        elif self.training.flip and not dataset.flips:
            faults.append(
                f"training.flip: a flipped image of {self.dataset} is not one of its class; allowed: false"
            )
        if self.training.shift and dataset.photographs:
            faults.append(
                f"training.shift: {self.dataset}'s photographs are cropped at random, not shifted; allowed: 0"
            )
        if faults:
            raise ValueError("\n".join(faults))
        return self


@dataclass(frozen=True)
class Run:
    """One training: one architecture, regime, variant and seed on a study's dataset."""

    study: str
    dataset: str
    training: Training
    architecture: str
    regime: str
    variant: str
    seed: int

    @cached_property
    def specification(self) -> dict[str, Any]:
        """Everything that makes the run what it is but its seed; no device, block or folder."""
        return {
            "specification": SPECIFICATION,
            "dataset": self.dataset,
            "architecture": self.architecture,
            "regime": self.regime,
            "variant": self.variant,
            "training": self.training.specified,
        }

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the specification's canonical JSON, shortened to 16 hexadecimal digits."""
        text = json.dumps(self.specification, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        variant = "" if self.variant == DEFAULT_VARIANT else f" {self.variant}"
        return f"{self.architecture} {self.regime}{variant} seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """A validated study with the settings that say where it runs.

    `name` is the folder of its tables and figures, `runs_name` that of its runs: a selection of a study
    shares the runs of the whole, a changed study shares nothing.
    """

    name: str
    runs_name: str
    definition: Definition
    data_dir: str
    results_dir: str
    device: str
    deterministic: bool
    seeds_per_job: int
    processes_per_run: int
    workers: int
    checkpoint_every: int
    longest_job: int | None
    planned_on: str | None
    gpu_as: str

    @property
    def experiments(self) -> dict[str, Experiment]:
        """The study's experiments by name."""
        return self.definition.experiments

    def runs(self, experiment: str) -> list[Run]:
        """Return the runs of an experiment, seed by seed within each point of its grid."""
        grid = self.experiments[experiment]
        return [
            self.run(architecture, regime, variant, seed)
            for architecture in grid.architectures
            for regime in grid.regimes
            for variant in grid.variants
            for seed in self.definition.seeds
        ]

    def each_run(self) -> list[Run]:
        """Return every run of the study once, though experiments share runs."""
        return list({str(run): run for name in self.experiments for run in self.runs(name)}.values())

    def run(self, architecture: str, regime: str, variant: str, seed: int = 0) -> Run:
        """Return one run of the study."""
        return Run(
            study=self.runs_name,
            dataset=self.definition.dataset,
            training=self.definition.training,
            architecture=architecture,
            regime=regime,
            variant=variant,
            seed=seed,
        )

    def names(self, axis: Literal["architectures", "regimes", "variants"]) -> list[str]:
        """Return every architecture, regime or variant that an experiment of the study names, once."""
        named = (name for grid in self.experiments.values() for name in getattr(grid, axis))
        return list(dict.fromkeys(named))

    def seed_blocks(self) -> list[list[int]]:
        """Return the seeds in the blocks that one training job takes together."""
        seeds, size = self.definition.seeds, self.seeds_per_job
        return [seeds[start : start + size] for start in range(0, len(seeds), size)]
