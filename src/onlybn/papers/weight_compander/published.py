"""What the paper prints as numbers: accuracies, a and b, training (Tables 1 to 7; Roman there).

What its text leaves open is a choice of this project, which the study files repeat: the VGGs have a head of
512 units, and the α of Powerpropagation is not printed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from onlybn import custom
from onlybn.judging import Published, Setting

# Test accuracy in percent by dataset, network and method: mean and standard deviation over seeds.
R18, R34, R50 = (f"imagenet-resnet-{depth}-3x3" for depth in (18, 34, 50))
V16, V19, WRN = "vgg-16-head-512", "vgg-19-head-512", "preactivation-wrn-28-10"
LARGE_R50 = "imagenet-resnet-50"
PRINTED = {
    "CIFAR-10": {
        R18: {
            "none": (94.04, 0.08),
            "powerpropagation": (92.94, 0.17),
            "weight-norm": (94.26, 0.14),
            "arctan": (94.44, 0.12),
            "arctan-fine": (94.16, 0.08),
            "arsinh": (94.34, 0.24),
            "erf": (94.36, 0.26),
        },
        R34: {
            "none": (93.69, 0.30),
            "powerpropagation": (93.29, 0.16),
            "weight-norm": (94.17, 0.22),
            "arctan": (94.43, 0.25),
            "arctan-fine": (94.46, 0.07),
            "arsinh": (94.68, 0.39),
            "erf": (94.52, 0.14),
        },
        R50: {
            "none": (93.31, 0.36),
            "powerpropagation": (93.47, 0.14),
            "weight-norm": (93.89, 0.23),
            "arctan": (94.06, 0.27),
            "arctan-fine": (94.80, 0.14),
            "arsinh": (93.82, 0.34),
            "erf": (93.87, 0.30),
        },
        V16: {"none": (93.27, 0.12), "arctan": (93.52, 0.19)},
        V19: {"none": (93.21, 0.08), "arctan": (93.33, 0.25)},
    },
    "CIFAR-100": {
        R18: {
            "none": (76.47, 0.20),
            "powerpropagation": (74.70, 1.32),
            "weight-norm": (76.83, 0.22),
            "arctan": (76.73, 0.09),
            "arsinh": (76.59, 0.25),
            "erf": (76.80, 0.11),
        },
        R34: {
            "none": (77.07, 0.45),
            "powerpropagation": (74.70, 1.32),  # the same as of ResNet-18, in print
            "weight-norm": (76.98, 0.39),
            "arctan": (77.54, 0.42),
            "arsinh": (77.21, 0.23),
            "erf": (77.26, 0.39),
        },
        R50: {
            "none": (76.17, 0.69),
            "powerpropagation": (75.23, 0.25),
            "weight-norm": (76.10, 0.25),
            "arctan": (77.73, 0.40),
            "arsinh": (76.76, 0.42),
            "erf": (77.51, 0.37),
        },
        WRN: {"none": (80.09, 0.14), "arctan": (80.24, 0.36)},
        V16: {"none": (72.48, 0.35), "arctan": (72.74, 0.25)},
        V19: {"none": (71.34, 0.14), "arctan": (71.86, 0.26)},
    },
    "Tiny ImageNet": {LARGE_R50: {"none": (65.08, 0.38), "arctan": (65.93, 0.12)}},
    "ImageNet": {LARGE_R50: {"none": (76.80, 0.11), "arctan": (77.02, 0.08)}},
}
SEEDS = {"CIFAR-10": 5, "CIFAR-100": 5, "Tiny ImageNet": 3, "ImageNet": 3}
# a and b of the compander, found by the paper on a grid for each network and dataset.
CHOSEN = {
    "CIFAR-10": {R18: (1.0, 0.6), R34: (0.8, 0.5), R50: (1.0, 0.6), V16: (0.7, 0.7), V19: (0.5, 0.7)},
    "CIFAR-100": {
        R18: (0.6, 0.6),
        R34: (0.7, 0.8),
        R50: (1.0, 0.8),
        WRN: (0.7, 0.7),
        V16: (0.7, 1.0),
        V19: (0.7, 0.8),
    },
    "Tiny ImageNet": {LARGE_R50: (0.7, 0.8)},
    "ImageNet": {LARGE_R50: (0.6, 0.7)},
}

# Schedules as published: what of a run's training must agree for its values to be judged.
RESNETS_ON_CIFAR10 = {
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "milestones": [90, 136],
    "divide_by": 10,
    "warmup": 0,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "shift": 0.125,
    "flip": True,
    "validation": 0.1,
    "select": "best",
}
OTHERS_ON_CIFAR = RESNETS_ON_CIFAR10 | {
    "milestones": [60, 120, 160],
    "divide_by": 5,
    "weight_decay": 5e-4,
}
TINY_IMAGENET = {
    **{key: value for key, value in RESNETS_ON_CIFAR10.items() if key not in ("validation", "select")},
    "epochs": 300,
    "milestones": [75, 150, 225],
    "shift": 0,
}
IMAGENET = TINY_IMAGENET | {"batch_size": 256}


def _stands_for(dataset: str) -> str | None:
    """Other images stand in for CIFAR-10's, and other photographs for ImageNet's, but not the user's own."""
    if custom.is_custom(dataset):
        return None
    return _DATASETS.get(dataset) or "CIFAR-10"


_DATASETS = {
    "cifar100": "CIFAR-100",
    "tinyimagenet": "Tiny ImageNet",
    "imagenet": "ImageNet",
    "imagenette160": "ImageNet",
}
PUBLISHED = Published(
    {
        "cifar10": Setting("CIFAR-10", RESNETS_ON_CIFAR10),
        "cifar10-jpeg": Setting("CIFAR-10", RESNETS_ON_CIFAR10, "on JPEG-coded images"),
        "cifar100": Setting("CIFAR-100", OTHERS_ON_CIFAR),
        "tinyimagenet": Setting("Tiny ImageNet", TINY_IMAGENET),
        "imagenet": Setting("ImageNet", IMAGENET),
    },
    _stands_for,
)


def printed(dataset: str, network: str) -> dict[str, tuple[float, float]]:
    """Return what the paper prints of a network on one of our datasets, by method; empty if nothing."""
    setting = PUBLISHED.settings.get(dataset)
    return PRINTED[setting.dataset].get(network, {}) if setting else {}


_EPOCHS = {
    name: setting.training["epochs"]
    for key, setting in PUBLISHED.settings.items()
    for name in (key, setting.dataset)
}


def schedules(rows: pd.DataFrame) -> str:
    """Say after how many epochs printed values and those of the rows are, where these are not the same."""
    found = zip(rows["dataset"].map(_EPOCHS), rows["epochs"], strict=True)
    differ = sorted({(int(printed), int(ours)) for printed, ours in found if printed != ours})
    words = [f"after {printed} epochs, and ours after {ours}" for printed, ours in differ]
    return f", {' or '.join(words)}" if words else ""


def is_of_a_vgg_on_cifar10(training: str) -> bool:
    """Say whether a training, as JSON, is that of the VGGs on CIFAR-10, which a study has as a recipe."""
    return {k: v for k, v in json.loads(training).items() if k != "precision"} == OTHERS_ON_CIFAR


@dataclass(frozen=True)
class Welch:
    """A difference of two printed means, with Welch's 95 % interval and two-sided p."""

    difference: float
    low: float
    high: float
    p: float


def welch(one: tuple[float, float], other: tuple[float, float], seeds: int) -> Welch:
    """Compare two printed means and standard deviations over so many seeds."""
    found = stats.ttest_ind_from_stats(*one, seeds, *other, seeds, equal_var=False)
    variances = np.square([one[1], other[1]]) / seeds
    freedom = variances.sum() ** 2 / (np.square(variances).sum() / (seeds - 1))
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(variances.sum()))
    difference = one[0] - other[0]
    return Welch(difference, difference - half, difference + half, float(found.pvalue))


def comparisons(method: str, other: str) -> Iterator[tuple[str, str, Welch]]:
    """Yield dataset, network and Welch's comparison where the paper prints both methods."""
    for dataset, networks in PRINTED.items():
        for network, values in networks.items():
            if method in values and other in values:
                yield dataset, network, welch(values[method], values[other], SEEDS[dataset])
