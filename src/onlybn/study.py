"""Studies as data: the typed models, and the runs that a study expands to. No torch is imported."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    model_serializer,
    model_validator,
)

from onlybn import custom, datasets, observers, papers
from onlybn.axes import (
    ALWAYS,
    AXES,
    FEATURES_SEED,
    NORMALISATION,
    OPTIONAL,
    RECIPE,
    VARIANT,
    Axis,
    Values,
    ordered,
    other_axis,
)
from onlybn.errors import UserError, unknown_message

if TYPE_CHECKING:
    from onlybn.datasets.images import Images
    from onlybn.models.network import Network

# Increase this when the meaning of a specification changes, so that older runs are not taken for new ones.
SPECIFICATION = 1
# The training keys that are in every specification. Any other key is in it only if its value is not the
# default, and the default must mean what training did before the key existed: older runs keep their digests.
SPECIFIED = (
    *("epochs", "batch_size", "learning_rate", "milestones", "divide_by", "warmup"),
    *("momentum", "weight_decay", "shift", "flip", "precision"),
)


BOOLEAN = "write true or false"
# A larger number of seeds is meant as one seed.
MOST_SEEDS = 10_000


def fault_message(fault: Mapping[str, Any]) -> str:
    """Turn pydantic's error for a value into sentences, one per line."""
    given = fault["input"]
    match fault["type"]:
        case "missing":
            return "is missing"
        case "value_error":
            return str(fault["ctx"]["error"])
        case "literal_error":
            return f"{given!r} is not allowed; allowed: {fault['ctx']['expected']}"
        case "too_short":
            return "is empty; at least one is needed"
        case "string_pattern_mismatch":
            return f"{given!r} is not a name of lower-case letters, digits and hyphens"
        case "bool_type":
            return f"{given!r} is not allowed; {BOOLEAN}"
    kinds = {
        "list_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "string_type": "a name",
    }
    return f"{given!r} is not {kinds.get(fault['type'], 'allowed: ' + fault['msg'])}"


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
    """Turn a function that raises ValueError for a wrong name into a validator that returns the name."""
    return AfterValidator(lambda name: (check(name), name)[1])


def _unless_none(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply a function to a value, but keep None, which stands for a key that is not given."""
    return lambda value: None if value is None else function(value)


def _choice(kind: str, allowed: Iterable[str]) -> AfterValidator:
    allowed = list(allowed)

    def check(name: str) -> None:
        if name not in allowed:
            raise ValueError(unknown_message(kind, name, allowed))

    return _named(check)


def _of_paper(kind: Literal["figure", "table"]) -> AfterValidator:
    """Check that the study's paper has a figure or table of that name, unless the paper is itself invalid."""

    def check(name: str, info: ValidationInfo) -> str:
        if "paper" in info.data:
            paper = papers.paper(info.data["paper"])
            allowed = {"figure": paper.figures, "table": paper.tables}[kind]
            if name not in allowed:
                raise ValueError(unknown_message(kind, name, allowed))
        return name

    return AfterValidator(check)


def seeds_from(value: object) -> list[int]:
    """Return a list of seeds from a number of seeds, counted from 0, or from a list of them."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        if value > MOST_SEEDS:
            raise ValueError(f"{value} seeds are more than {MOST_SEEDS:,}; write [{value}] for one seed")
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


def recordings_from(value: object) -> dict[str, dict[str, Any]]:
    """Return recordings with all their options, from a list of names or a mapping of names to options."""
    found, faults = {}, []
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        try:
            _without_repeats(value)
        except ValueError as error:
            faults.append(str(error))
        value = dict.fromkeys(value)
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{value!r} is not a list of recordings, or a mapping of recordings to options")
    for name, options in value.items():
        try:
            found[name] = observers.check(name, options)
        except ValueError as error:
            faults += str(error).splitlines()
    if faults:
        raise ValueError("\n".join(faults))
    return found


def _without_repeats(names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"named more than once: {', '.join(repeated)}")
    return names


Positive = Annotated[float, _number("a number above 0", lambda x: x > 0)]
NotNegative = Annotated[float, _number("a number of at least 0", lambda x: x >= 0)]
AtLeast1 = Annotated[float, _number("a number of at least 1", lambda x: x >= 1)]
Share = Annotated[float, _number("a share from 0 to below 1", lambda x: 0 <= x < 1)]
Count = Annotated[int, _number("a whole number of at least 1", lambda x: 1 <= x < 2**31, whole=True)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="letters a-z, digits and hyphens")]
NonEmpty = AfterValidator(_without_repeats)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Strict):
    """How every run of a study trains: SGD, its schedule, and the augmentation (Appendix B)."""

    epochs: Count | None = Field(default=None, description="passes over the training images; or `steps`")
    steps: Count | None = Field(default=None, description="the length of training in steps, not `epochs`")
    test_every: Count | None = Field(
        default=None, description="steps between tests, with `steps`; by default a pass over the images"
    )
    batch_size: Count = Field(description="images per step; the last, partial batch is kept")
    learning_rate: Positive = Field(description="before any milestone")
    milestones: list[Positive] = Field(
        default=[],
        description="epochs (or `steps`) at which the learning rate is divided; fractions are allowed",
    )
    divide_by: Positive = Field(default=10.0, description="the learning rate's divisor at a milestone")
    warmup: NotNegative = Field(default=0.0, description="epochs (or `steps`) of linear warm-up")
    optimiser: Literal["sgd", "adam"] = Field(default="sgd", description="the rule of a step: sgd, or adam")
    momentum: Share = Field(default=0.9, description="SGD's momentum, or Adam's β₁ (β₂ is 0.999)")
    weight_decay: NotNegative = Field(
        default=1e-4, description="on every trainable parameter, γ and β included"
    )
    shift: Share = Field(default=0.125, description="largest random shift, as a share of the image's side")
    flip: bool = Field(default=True, strict=True, description="random horizontal flips")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32", description="of activations; auto is bfloat16 where the device has it"
    )
    validation: Share = Field(
        default=0.0, description="share of the training images held out, stratified, drawn by the seed"
    )
    select: Literal["last", "best"] = Field(
        default="last", description="the state that is kept: the last, or the best on validation"
    )
    examples: Count | None = Field(
        default=None, description="how many of the training images train, drawn by the seed; by default all"
    )
    loss: Literal["cross-entropy", "squared-error"] = Field(
        default="cross-entropy",
        description="what training minimises; squared-error is half the sum of squares over a batch",
    )
    noise_mean: NotNegative = Field(
        default=0.5, description="batchnorm-noisy: a channel's noise has a mean of up to ± this, in each step"
    )
    noise_scale: AtLeast1 = Field(
        default=1.25,
        description="batchnorm-noisy: a channel's noise multiplies by 1 up to this, in each step",
    )
    noise_mean_spread: NotNegative = Field(
        default=0.1, description="batchnorm-noisy: an activation's shift is within ± this of its channel's"
    )
    noise_scale_deviation: NotNegative = Field(
        default=0.1, description="batchnorm-noisy: standard deviation of an activation's factor"
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            given = "epochs or steps is missing" if self.steps is None else "epochs and steps are both given"
            raise ValueError(f"{given}; give one of the two as the length of training")
        faults = []
        if self.test_every and self.epochs:
            faults.append(
                "test_every needs steps; a run whose length is in epochs is tested after each epoch"
            )
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
        if self.select == "best" and not self.validation:
            faults.append("select: best needs images to choose by; add validation: 0.1")
        if self.select == "best" and self.loss == "squared-error":
            faults.append("select: best chooses by accuracy, and squared-error has none; choose last")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_serializer(mode="wrap")
    def _without_the_other_length(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def unit(self) -> Literal["epoch", "step"]:
        """The unit of the length, the milestones and the warm-up."""
        return "epoch" if self.steps is None else "step"

    @property
    def length(self) -> int:
        """The length of training, in its unit."""
        return self.epochs or self.steps

    def held_out(self, examples: int) -> int:
        """Return how many of a dataset's `examples` training images are held out for validation."""
        return round(self.validation * examples)

    def trained_on(self, examples: int) -> int:
        """Return how many of a dataset's `examples` training images train."""
        return self.examples or examples - self.held_out(examples)

    def steps_per_epoch(self, examples: int) -> int:
        """Return the number of steps of a pass over what trains of a dataset's `examples` training images."""
        return -(-self.trained_on(examples) // self.batch_size)

    def steps_of(self, examples: int) -> int:
        """Return the number of steps of a run on a dataset with `examples` training images."""
        return self.steps or self.epochs * self.steps_per_epoch(examples)

    def smallest_batch(self, examples: int) -> int:
        """Return how many images the smallest batch of a run has: an epoch's last, if the run gets there."""
        whole, rest = divmod(self.trained_on(examples), self.batch_size)
        return rest if rest and self.steps_of(examples) > whole else self.batch_size

    def next_test(self, taken: int, steps_per_epoch: int) -> int:
        """Return the step after which the next test comes, once `taken` steps are done."""
        rhythm = self.test_every or steps_per_epoch
        return min(self.steps or self.epochs * steps_per_epoch, (taken // rhythm + 1) * rhythm)

    def tests(self, examples: int) -> int:
        """Return the number of tests of a run on a dataset with `examples` training images."""
        return -(-self.steps_of(examples) // (self.test_every or self.steps_per_epoch(examples)))

    @property
    def specified(self) -> dict[str, Any]:
        """The training keys that are in a run's specification, in its record and in collected tables."""
        fields = type(self).model_fields
        return {
            key: value
            for key, value in self.model_dump().items()
            if key in SPECIFIED or value != fields[key].default
        }

    def check_last_batch(self, examples: int, processes: int, key: str = "batch_size") -> None:
        """Raise UserError if the last, partial batch has fewer than two images for each process."""
        last = self.smallest_batch(examples)
        if last < 2 * processes:  # BatchNorm may have no variance over a single image
            fewer = f"set processes_per_run to at most {last // 2}, or " if last >= 2 else ""
            raise UserError(
                f"config: {key}: an epoch's last batch has {last} of {self.batch_size} images, fewer"
                f" than two for each process of a run; {fewer}choose another batch_size"
            )

    def check_validation(self, examples: int, classes: int, key: str = "validation") -> None:
        """Raise UserError if so few images are held out, or train, that a class must be without one there."""
        held_out = self.held_out(examples)
        if self.validation and not classes <= held_out <= examples - classes:
            raise UserError(
                f"config: {key}: a share of {self.validation:g} holds out {held_out:,} of {examples:,}"
                f" training images, and each of the {classes:,} classes needs one on either side; hold out"
                f" at least {classes:,} and at most {examples - classes:,}"
            )

    def check_examples(self, examples: int, classes: int, key: str = "examples") -> None:
        """Raise UserError if more images shall train than there are, or so few that a class must have none.

        Where the targets are numbers, `classes` is 1.
        """
        left = examples - self.held_out(examples)
        if self.examples and not classes <= self.examples <= left:
            but = f", and each of the {classes:,} classes needs one" if self.examples < classes else ""
            raise UserError(
                f"config: {key}: {self.examples:,} of {left:,} training images shall train{but}; choose at"
                f" least {classes:,} and at most {left:,}"
            )


def changed(training: Training, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the raw keys of a training with some changed.

    A new length, in epochs or in steps, replaces the existing one, and rescales milestones and warm-up. If
    `changes` gives both lengths, both stay, and validation rejects them.
    """
    raw = training.model_dump(exclude_unset=True)
    lengths = [key for key in ("epochs", "steps") if key in changes]
    if len(lengths) == 1:
        for key in ("epochs", "steps", *(["test_every"] if lengths == ["epochs"] else [])):
            raw.pop(key, None)
        with suppress(ValidationError):  # validating the training reports a wrong length
            length = TypeAdapter(Count).validate_python(changes[lengths[0]])
            raw["milestones"] = [m * length / training.length for m in training.milestones]
            raw["warmup"] = training.warmup * length / training.length
    for key, value in changes.items():
        raw[key] = [value] if key == "milestones" and not isinstance(value, list) else value
    return raw


def _grid(axis: Axis) -> tuple[Any, Any]:
    """Return the type and the field of an experiment's key for an axis."""
    names = Annotated[list[Annotated[str, AfterValidator(axis.spelled)]], NonEmpty]
    default = {} if axis.default is None else {"default": [axis.default]}
    return names, Field(min_length=1, description=axis.description, **default)


Experiment = create_model(
    "Experiment",
    __base__=_Strict,
    __doc__="A named grid inside a study: all combinations of the values on its axes.",
    **{axis.plural: _grid(axis) for axis in AXES},
    dataset=(
        Annotated[str | None, AfterValidator(_unless_none(lambda name: (datasets.check(name), name)[1]))],
        Field(default=None, description="its images, if not the study's"),
    ),
    seeds=(
        Annotated[list[int] | None, BeforeValidator(_unless_none(seeds_from))],
        Field(default=None, description="its seeds, if not the study's"),
    ),
    record=(
        Annotated[dict | None, BeforeValidator(_unless_none(recordings_from))],
        Field(default=None, description="its recordings, if not the study's"),
    ),
)


class Definition(_Strict):
    """What a study file holds."""

    paper: Annotated[str, _choice("paper", papers.NAMES)] = Field(
        default=papers.NAMES[0], description="whose figures and tables the study draws"
    )
    dataset: Annotated[str, _named(datasets.check)] = Field(
        description="which images, by name or as module:function"
    )
    training: Training = Field(description="how every run trains: the keys below")
    recipes: dict[Name, dict[str, Any]] = Field(
        default={},
        description="keys of the training that differ, by a name of your own: `x5: {learning_rate: 0.5}`",
    )
    seeds: Annotated[list[int], BeforeValidator(seeds_from)] = Field(
        description="a number of seeds, counted from 0, or a list of them"
    )
    record: Annotated[dict, BeforeValidator(recordings_from)] = Field(
        default={}, description="what is recorded while runs train: `[weights]`, or with options"
    )
    experiments: dict[Name, Experiment] = Field(
        min_length=1, description="grids of runs by names of your own: the keys below"
    )
    figures: dict[Annotated[str, _of_paper("figure")], list[str]] = Field(
        default={}, description="which experiments each figure draws"
    )
    tables: dict[Annotated[str, _of_paper("table")], list[str]] = Field(
        default={}, description="which experiments each table shows"
    )
    not_expected: dict[Name, Annotated[str, Field(min_length=1)]] = Field(
        default={},
        description="claims of the paper that the study cannot be expected to show, each with the reason",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = [
            f"{kind}.{name}: " + unknown_message("experiment", experiment, self.experiments)
            for kind, drawn in (("figures", self.figures), ("tables", self.tables))
            for name, wanted in drawn.items()
            for experiment in wanted
            if experiment not in self.experiments
        ]
        faults += self._faults_of_recipes()
        if not faults:  # then every training is known
            faults += dict.fromkeys(fault for name in self.experiments for fault in self._faults_of(name))
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _faults_of_recipes(self) -> Iterator[str]:
        """Say what of the recipes is wrong."""
        for name, recipe in self.recipes.items():
            if name == RECIPE.default:
                yield f"recipes.{name}: '{name}' is the study's own training; choose another name"
            elif axis := "dataset" if name in datasets.DATASETS else other_axis(name, RECIPE):
                yield f"recipes.{name}: '{name}' names a value of {axis}; choose another name"
            elif others := [key for key in recipe if key not in Training.model_fields]:
                yield from (
                    f"recipes.{name}: " + unknown_message("key", key, Training.model_fields) for key in others
                )
            else:
                try:
                    self.training_of(name)
                except ValidationError as error:
                    for fault in error.errors():
                        key = "".join(f".{part}" for part in fault["loc"])
                        yield from (
                            f"recipes.{name}{key}: {line}" for line in fault_message(fault).splitlines()
                        )

    def _faults_of(self, experiment: str) -> Iterator[str]:
        """Say what of an experiment does not fit together."""
        grid = self.experiments[experiment]
        there = [RECIPE.default, *self.recipes]
        if others := [recipe for recipe in grid.recipes if recipe not in there]:
            yield f"experiments.{experiment}.recipes: " + unknown_message("recipe", others[0], there)
            return
        for axis in OPTIONAL:
            for misfit in axis.misfits(getattr(grid, axis.plural), grid.regimes):
                yield f"experiments.{experiment}.{axis.plural}: {misfit}"
        recorded = self.record if grid.record is None else grid.record
        for kind, wanted in (("figures", self.figures), ("tables", self.tables)):
            for name in (name for name in wanted if experiment in wanted[name]):
                record = papers.paper(self.paper).made[name]
                if record.counts and grid.dataset not in (None, self.dataset):
                    yield (
                        f"{kind}.{name}: counts parameters on images of {self.dataset}, and the experiment"
                        f" {experiment} has others; leave it out"
                    )
                read = {*record.reads}
                for lacking in sorted(read.intersection(observers.OBSERVERS) - recorded.keys()):
                    yield (
                        f"{kind}.{name}: reads the recording {lacking}, which the experiment {experiment}"
                        f" does not make; write record: [{lacking}] in it, or in the study"
                    )
        name = grid.dataset or self.dataset
        dataset = datasets.known(name)
        for recipe in grid.recipes:
            training = self.training_of(recipe)
            part = f"recipes.{recipe}" if recipe in self.recipes else "training"
            where = part if grid.dataset is None else f"experiments.{experiment}.dataset: {part}"
            if custom.is_custom(name):
                if "flip" not in training.model_fields_set:
                    yield (
                        f"{where}.flip: is missing; true if a flipped image of {name} still shows its class,"
                        " else false"
                    )
            elif training.flip and dataset.targets == "numbers":
                yield f"{where}.flip: {name} has numbers, not images; allowed: false"
            elif training.flip and not dataset.flips:
                yield f"{where}.flip: a flipped image of {name} is not one of its class; allowed: false"
            if training.shift and dataset.targets == "numbers":
                yield f"{where}.shift: {name} has numbers, not images; allowed: 0"
            if training.validation and dataset.targets == "numbers":
                yield f"{where}.validation: {name} has no classes by which to hold out a share; allowed: 0"
            if training.loss != dataset.loss:
                yield f"{where}.loss: the targets of {name} are {dataset.targets}; allowed: {dataset.loss}"
            if training.shift and dataset.photographs:
                yield f"{where}.shift: {name}'s photographs are cropped at random, not shifted; allowed: 0"

    def training_of(self, recipe: str) -> Training:
        """Return the training of a recipe; of `none` the study's own. Raises ValidationError."""
        if recipe == RECIPE.default:
            return self.training
        return Training.model_validate(changed(self.training, self.recipes[recipe]))


@dataclass(frozen=True)
class Run:
    """One training: a value on every axis, and a seed, on a dataset.

    `values` are the values on the optional axes that are not neutral, in the order of the axes.
    `other_dataset` is true if the dataset is not the study's; the dataset is then part of the path.
    """

    study: str
    dataset: str
    training: Training
    architecture: str
    regime: str
    variant: str
    seed: int
    values: Values = ()
    other_dataset: bool = field(default=False, compare=False)

    def value(self, axis: Axis) -> str:
        """Return the run's value on an axis."""
        return getattr(self, axis.name, None) or dict(self.values).get(axis.name, axis.default)

    @property
    def drawn_from(self) -> int:
        """The seed of the network's draws: the run's own, or that of its features."""
        name = self.value(FEATURES_SEED)
        return self.seed if name == FEATURES_SEED.default else int(name.removeprefix("features-"))

    @cached_property
    def specification(self) -> dict[str, Any]:
        """Everything that defines the run, except its seed; no device, block or folder."""
        return {
            "specification": SPECIFICATION,
            "dataset": self.dataset,
            **{axis.name: self.value(axis) for axis in ALWAYS},
            **({"axes": dict(self.values)} if self.values else {}),
            "training": self.training.specified,
        }

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the specification's canonical JSON, shortened to 16 hexadecimal digits."""
        text = json.dumps(self.specification, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def point(self) -> tuple[str, str, str]:
        """The names of the folders that its replicates share; the last one names all that is not neutral."""
        last = "_".join([self.variant, *map(custom.to_path, self.differs)])
        return custom.to_path(self.architecture), custom.to_path(self.regime), last

    @property
    def structure(self) -> Values:
        """The values that change the network, without those that change only its training."""
        return tuple(pair for pair in self.values if pair[0] == NORMALISATION.name)

    @property
    def differs(self) -> list[str]:
        """The values on the optional axes that are not neutral, and the dataset if it is not the study's."""
        return [*(value for _, value in self.values), *([self.dataset] if self.other_dataset else [])]

    def parts_of(self, images: "Images") -> "tuple[Images, Images | None]":
        """Return its dataset's images with those that it trains on, and with those that it holds out.

        The latter are the test split there, and None without validation. Raises UserError if a class would
        have no image in a part.
        """
        held_out = self.training.held_out(images.examples) if self.training.validation else None
        return images.of_run(held_out, self.training.examples, self.seed)

    def with_seed(self, seed: int) -> Self:
        """Return another replicate, which keeps the computed digest and point."""
        run = copy(self)
        object.__setattr__(run, "seed", seed)
        return run

    @property
    def labels(self) -> list[str]:
        """The same as `differs`, as shown to a reader."""
        labels = [axis.label(self.value(axis)) for axis in OPTIONAL if self.value(axis) != axis.default]
        return [*labels, *([self.dataset] if self.other_dataset else [])]

    def __str__(self) -> str:
        variant = [] if self.variant == VARIANT.default else [self.variant]
        return f"{' '.join([self.architecture, self.regime, *variant, *self.labels])} seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """A validated study with the settings that say where and how it runs.

    `name` is the folder of its tables and figures, and `runs_name` the folder of its runs: a selection of a
    study shares the runs of the whole study; a changed study shares nothing.
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
        """Return the runs of an experiment, seed by seed within each point of its grid, each once."""
        return [run.with_seed(seed) for run in self.points(experiment) for seed in self.seeds(experiment)]

    def points(self, experiment: str) -> list[Run]:
        """Return the first replicate of each point of an experiment's grid, each point once."""
        return self._points[experiment]

    @cached_property
    def _points(self) -> dict[str, list[Run]]:
        return {name: self._expanded(name) for name in self.experiments}

    def _expanded(self, experiment: str) -> list[Run]:
        grid, first = self.experiments[experiment], self.seeds(experiment)[0]
        crossed = product(*(getattr(grid, axis.plural) for axis in AXES))
        named = (dict(zip((axis.name for axis in AXES), values, strict=True)) for values in crossed)
        runs = (self.run(**values, seed=first, dataset=grid.dataset) for values in named)
        return list({run.point: run for run in runs}.values())

    def each_run(self) -> list[Run]:
        """Return every run of the study once, even if several experiments share it."""
        runs = (run for name in self.experiments for run in self.runs(name))
        return list({(*run.point, run.seed): run for run in runs}.values())

    def run(
        self,
        architecture: str,
        regime: str,
        variant: str,
        seed: int = 0,
        dataset: str | None = None,
        **values: str,
    ) -> Run:
        """Return one run of the study, neutral on every optional axis whose value does nothing to it."""
        training = self._trainings[values.get(RECIPE.name, RECIPE.default)]
        acting = {
            axis.name: values[axis.name]
            for axis in OPTIONAL
            if axis.name in values and axis.acts(values[axis.name], regime)
        }
        if training.specified == self.definition.training.specified:
            acting.pop(RECIPE.name, None)
        return Run(
            study=self.runs_name,
            dataset=dataset or self.definition.dataset,
            training=training,
            architecture=architecture,
            regime=regime,
            variant=variant,
            seed=seed,
            values=ordered(acting),
            other_dataset=dataset not in (None, self.definition.dataset),
        )

    @cached_property
    def _trainings(self) -> dict[str, Training]:
        return {
            name: self.definition.training_of(name) for name in (RECIPE.default, *self.definition.recipes)
        }

    @property
    def datasets(self) -> list[str]:
        """The study's dataset, and the datasets of experiments that set another."""
        others = (grid.dataset for grid in self.experiments.values() if grid.dataset)
        return list(dict.fromkeys([self.definition.dataset, *others]))

    def names(self, axis: Axis) -> list[str]:
        """Return every value of an axis that the study's experiments name, once each."""
        named = (name for grid in self.experiments.values() for name in getattr(grid, axis.plural))
        return list(dict.fromkeys(named))

    def seeds(self, experiment: str) -> list[int]:
        """Return an experiment's seeds."""
        return self.experiments[experiment].seeds or self.definition.seeds

    def kinds_shown(self, experiment: str, *, main: bool = False) -> set[str]:
        """Return the kinds of collected tables that figures and tables read of an experiment.

        With `main`, only those of the figures and tables that the target `main` makes.
        """
        shown = self.definition.figures | self.definition.tables
        made = papers.paper(self.definition.paper).made
        records = [made[name] for name, experiments in shown.items() if experiment in experiments]
        return {kind for record in records if record.main or not main for kind in record.reads}

    def recordings(self, run: Run) -> dict[str, dict[str, Any]]:
        """Return the recordings of a run, with options, for all experiments that it belongs to."""
        return self._recordings.get((run.point, run.seed), {})

    def unrecordable(self, run: Run, network: Callable[[], "Network"]) -> Iterator[str]:
        """Yield a sentence for each recording at an epoch or of a layer that a run on a known dataset lacks.

        `network` builds the run's network; it is called only if a recording names layers.
        """
        steps = run.training.steps_per_epoch(datasets.known(run.dataset).examples[0])
        for name, options in self.recordings(run).items():
            if options.get("epochs") or options.get("layers"):
                try:
                    observers.observe(name, run, options.get("layers") and network(), steps, options)
                except UserError as error:
                    yield from str(error).splitlines()

    @cached_property
    def _recordings(self) -> dict[tuple[Any, int], dict[str, dict[str, Any]]]:
        found: dict[tuple[Any, int], dict[str, dict[str, Any]]] = {}
        for name, grid in self.experiments.items():
            record = self.definition.record if grid.record is None else grid.record
            for run in self.runs(name) if record else ():
                present = found.setdefault((run.point, run.seed), {})
                for recording, options in record.items():
                    if present.setdefault(recording, options) != options:
                        raise UserError(
                            f"study: experiments.{name}.record: another experiment records {recording} of"
                            f" {run} with other options; give both the same"
                        )
        return found

    def seed_blocks(self) -> list[list[int]]:
        """Return the seeds in blocks; one training job trains a block.

        All seeds of a block are requested by the same experiments.
        """
        requested: dict[int, list[str]] = {}
        for name in self.experiments:
            for seed in self.seeds(name):
                requested.setdefault(seed, []).append(name)
        alike: dict[tuple[str, ...], list[int]] = {}
        for seed in sorted(requested):
            alike.setdefault(tuple(requested[seed]), []).append(seed)
        size = self.seeds_per_job
        return [
            seeds[start : start + size] for seeds in alike.values() for start in range(0, len(seeds), size)
        ]
