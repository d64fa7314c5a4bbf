"""Datasets by name. Their facts are known without torch; preparing and reading them imports more."""

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onlybn import custom
from onlybn.errors import UserError, unknown_message

if TYPE_CHECKING:
    import torch

    from onlybn.datasets.images import Images

SPLITS = ("train", "test")

# What an example's target is: its class, or numbers that the network's outputs approach.
Targets = Literal["classes", "numbers"]

# The authors of Only BatchNorm normalise CIFAR-10 with ImageNet's constants.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# In the order of their WordNet numbers.
_IMAGENETTE = (
    "tench",
    "English springer",
    "cassette player",
    "chain saw",
    "church",
    "French horn",
    "garbage truck",
    "gas pump",
    "golf ball",
    "parachute",
)


@dataclass(frozen=True)
class Dataset:
    """The facts that are known about a dataset before it is read.

    `size` is the height and width, in pixels, of the images that the network gets. Small images have that
    size; photographs have any size, `size` is that of their crop, and `resize` is the shorter side before
    testing crops. `examples` counts the images of the training and the test split. `flips` is true if a
    mirrored image still shows its class. `mean` and `std` normalise each channel of pixels in [0, 1]; if they
    are None, those of the training split are used. `source` is the `module:function` that reads small images,
    or the folder of photographs below `data_dir`; each class has a folder in its `train`, and if
    `test_by_class`, in its `val`. If the targets are numbers, an example's input has `channels` numbers and
    its target `classes`; nothing is normalised, shifted or flipped. `class_names` follow the labels; they are
    None where only numbers are known. For a custom dataset only title and source are known until it is
    prepared; the rest is None.
    """

    title: str
    classes: int | None
    channels: int | None
    size: int | None
    examples: tuple[int, int] | None
    flips: bool | None
    source: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    test_by_class: bool = True
    targets: Targets = "classes"
    class_names: tuple[str, ...] | None = None

    @property
    def loss(self) -> str:
        """The loss that fits the targets, as a training key."""
        return "cross-entropy" if self.targets == "classes" else "squared-error"

    @property
    def photographs(self) -> bool:
        """Whether the images stay in their files, and are decoded and cropped when they are needed."""
        return self.resize is not None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that the prepare stage writes."""
        ending = "parquet" if self.photographs else "safetensors"
        return ("dataset.json", *(f"{split}.{ending}" for split in SPLITS))


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no dataset, built-in or custom, has that name."""
    if custom.is_custom(name):
        custom.check("dataset", name)
    elif name not in DATASETS:
        raise ValueError(unknown_message("dataset", name, DATASETS) + " (or module:function)")


def known(name: str) -> Dataset:
    """Return the facts of a dataset that are known before it is prepared."""
    if custom.is_custom(name):
        return Dataset(name.split(":")[1], None, None, None, None, None, source=name)
    return DATASETS[name]


def prepared(name: str, folder: Path) -> Dataset:
    """Return the facts of a dataset prepared in `folder`; raise UserError if it is not prepared."""
    if not custom.is_custom(name):
        return DATASETS[name]
    if not (folder / "dataset.json").exists():
        raise UserError(f"{name} is not prepared yet; run snakemake {folder / 'dataset.json'}")
    found = _read_json(folder, ("classes", "channels", "size", "examples"))
    return replace(known(name), **found | {"examples": tuple(found["examples"][split] for split in SPLITS)})


def shape(images: "Dataset | Images") -> dict[str, int]:
    """Return the channels, classes and size of images, by which networks are built."""
    return {"channels": images.channels, "classes": images.classes, "size": images.size}


def loader(name: str, folder: Path, data_dir: Path) -> dict[str, str]:
    """Return the source of the custom code that prepares the named dataset, with both folders."""
    # Do not resolve links: on the nodes of a cluster they may lead elsewhere.
    return custom.source(name) | {"data_dir": str(data_dir.absolute()), "prepared_in": str(folder.absolute())}


def check_loader(folder: Path, data_dir: Path, *say: Callable[[str], None]) -> None:
    """Raise UserError if the images in `folder` came from other code or from another `data_dir`.

    Only custom datasets are checked this way; the files of the others are verified by their content. Code
    that was edited in its place, or copied, is not other code, but each `say` is called with a line about it.
    The custom code is not run. Datasets prepared by older versions record no code and pass.
    """
    name = custom.from_path(folder.name)
    if not custom.is_custom(name) or not (folder / "dataset.json").exists():
        return
    then = _read_json(folder, (), optional=("loader",))["loader"]
    if then is None:
        return
    now = loader(name, folder, data_dir)
    if not isinstance(then, dict) or not all(then.get(key) and isinstance(then[key], str) for key in now):
        raise UserError(f"{folder} is damaged (dataset.json: loader); delete it to prepare it again")

    def is_same_path(key: str) -> bool:
        with suppress(OSError, ValueError):
            if Path(then[key]).samefile(now[key]):
                return True
        # If the whole project was moved, code and data have the same path relative to the results.
        return then[key] == now[key] or (
            os.path.relpath(then[key], then["prepared_in"]) == os.path.relpath(now[key], now["prepared_in"])
        )

    remedy = f"set another results_dir, rename the function, or delete {folder} to prepare it again"
    same_code, same_place = then["sha256"] == now["sha256"], is_same_path("folder")
    if not same_code and not same_place:
        raise UserError(
            f"{folder} was prepared by {name} in {then['folder']}, and {name} in {now['folder']} is other"
            f" code; {remedy}"
        )
    if not is_same_path("data_dir"):
        raise UserError(
            f"{folder} was prepared by {name} from data_dir {then['data_dir']}, and data_dir is now"
            f" {now['data_dir']}; {remedy}"
        )
    line = None
    if not same_code:
        line = f"the file of {name} has changed since it prepared {folder}; the prepared images are used;"
        line += " to prepare them again, delete that folder"
    elif not same_place:
        line = f"{folder} was prepared by {name} in {then['folder']}; this study uses a copy of that code"
    for tell in say if line else ():
        tell(line)


def read(folder: Path, device: "torch.device", *, data_dir: Path, workers: int = 0) -> "Images":
    """Read the prepared dataset in `folder`, for training on `device`.

    `data_dir` is the folder of photographs, and `workers` the number of processes that decode them (0: the
    training process does). Raises UserError if the prepared files are damaged or were altered.
    """
    if known(custom.from_path(folder.name)).photographs:
        from onlybn.datasets import photographs

        return photographs.read(folder, device, data_dir=data_dir, workers=workers)
    from onlybn.datasets import small

    return small.read(folder, device)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the prepared facts that training needs; raise UserError if they are damaged."""
    return _read_json(folder, ("classes", "mean", "std", "checksum"))


def check_facts(folder: Path, facts: Mapping[str, Any], **expected: Any) -> None:
    """Raise UserError unless the prepared facts are those `expected`, lists of numbers but for rounding."""
    for key, value in expected.items():
        if not _is_near(facts[key], value):
            raise UserError(
                f"{folder} was prepared with {key} {facts[key]!r}, and that of these images is {value!r};"
                " delete it to prepare it again"
            )


def _is_near(given: object, expected: object) -> bool:
    if not isinstance(expected, list):
        return type(given) is type(expected) and given == expected
    if not isinstance(given, list) or len(given) != len(expected):
        return False
    numbers = all(isinstance(value, float | int) for value in given)
    return numbers and all(map(partial(math.isclose, rel_tol=1e-9, abs_tol=1e-12), given, expected))


def _read_json(folder: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {name: facts[name] for name in names} | {name: facts.get(name) for name in optional}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{folder} is damaged ({path.name}: {error}); delete it to prepare it again"
        ) from None


def _digits(title: str, loader: str, class_names: tuple[str, ...], examples: tuple[int, int]) -> Dataset:
    return Dataset(
        title=title,
        classes=len(class_names),
        channels=1,
        size=8,
        examples=examples,
        flips=False,
        source=f"onlybn.datasets.digits:{loader}",
        class_names=class_names,
    )


def _mnist(title: str, loader: str, examples: tuple[int, int], **normalisation: tuple[float]) -> Dataset:
    return Dataset(
        title=title,
        classes=10,
        channels=1,
        size=28,
        examples=examples,
        flips=False,
        source=f"onlybn.datasets.mnist:{loader}",
        class_names=_DIGITS,
        **normalisation,
    )


# Binary pixels stay 0 and 1, as Ioffe & Szegedy's network gets them.
_AS_BINARY = {"mean": (0.0,), "std": (1.0,)}

DATASETS = {
    "digits": _digits("digits", "load", _DIGITS, (1_437, 360)),
    # Tasks beside it: half of its classes, and its images turned by a quarter.
    "digits-even": _digits("even digits", "load_even", _DIGITS[::2], (713, 178)),
    "digits-odd": _digits("odd digits", "load_odd", _DIGITS[1::2], (724, 182)),
    "digits-turned": _digits("turned digits", "load_turned", _DIGITS, (1_437, 360)),
    "mnist": _mnist("MNIST", "load", (60_000, 10_000)),
    "mnist-binary": _mnist("MNIST (binary)", "load_binary", (60_000, 10_000), **_AS_BINARY),
    # The 10,000 test images of MNIST alone.
    "mnist10k": _mnist("MNIST-10k", "load_10k", (8_000, 2_000)),
    "mnist10k-binary": _mnist("MNIST-10k (binary)", "load_10k_binary", (8_000, 2_000), **_AS_BINARY),
    "cifar10": Dataset(
        title="CIFAR-10",
        classes=10,
        channels=3,
        size=32,
        examples=(50_000, 10_000),
        flips=True,
        source="onlybn.datasets.cifar10:load_batches",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        class_names=_CIFAR10,
    ),
    "cifar10-jpeg": Dataset(
        title="CIFAR-10 (JPEG)",
        classes=10,
        channels=3,
        size=32,
        examples=(50_000, 10_000),
        flips=True,
        source="onlybn.datasets.cifar10:load_jpeg",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        class_names=_CIFAR10,
    ),
    "cifar100": Dataset(
        title="CIFAR-100",
        classes=100,
        channels=3,
        size=32,
        examples=(50_000, 10_000),
        flips=True,
        source="onlybn.datasets.cifar100:load",
        # Of its training images.
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    # 64×64 photographs, which are enlarged as others are made smaller.
    "tinyimagenet": Dataset(
        title="TinyImageNet",
        classes=200,
        channels=3,
        size=224,
        resize=256,
        examples=(100_000, 10_000),
        flips=True,
        source="tiny-imagenet-200",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        test_by_class=False,
    ),
    "imagenet": Dataset(
        title="ImageNet",
        classes=1_000,
        channels=3,
        size=224,
        resize=256,
        examples=(1_281_167, 50_000),
        flips=True,
        source="imagenet",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    # Each of the 10 classes has 100 training and 40 validation photographs; the shorter side is 160 pixels.
    "imagenette160": Dataset(
        title="Imagenette",
        classes=10,
        channels=3,
        size=128,
        resize=146,
        examples=(1_000, 400),
        flips=True,
        source="imagenette160",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        class_names=_IMAGENETTE,
    ),
    # Synthetic: 10 numbers, and a linear map of them (Santurkar et al., Figure 3).
    "deep-linear": Dataset(
        title="linear map",
        classes=10,
        channels=10,
        size=1,
        examples=(1_000, 1_000),
        flips=False,
        source="onlybn.datasets.deep_linear:load",
        mean=(0.0,) * 10,
        std=(1.0,) * 10,
        targets="numbers",
    ),
}
# Grey images with three equal channels, for networks that images in colour share.
DATASETS |= {
    f"{name}-rgb": replace(
        grey,
        title=f"{grey.title} (RGB)",
        channels=3,
        mean=grey.mean and 3 * grey.mean,
        std=grey.std and 3 * grey.std,
    )
    for name, grey in DATASETS.items()
    if grey.channels == 1
}
