"""Datasets by name. What is known of them is so without torch; preparing and reading imports more."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onlybn import custom
from onlybn.errors import UserError, unknown_message

if TYPE_CHECKING:
    import torch

    from onlybn.datasets.images import Images

SPLITS = ("train", "test")

# The authors' framework normalises CIFAR-10 with ImageNet's constants.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before it is read.

    Images are `size` pixels high and wide as the network sees them. Small images have that size; of
    photographs, of any size, it is the crop's, and `resize` the shorter side that testing crops from.
    `examples` counts those of the training and the test split; `flips` says whether a mirrored image
    still shows its class; `mean` and `std` normalise each channel of pixels in [0, 1] (None: the
    training split's own are used). `source` is what the files are read from: of small images the
    `module:function` that reads them, of photographs the folder below `data_dir`. Of a dataset of the
    user's own only title and source are known until it is prepared; the rest is None.
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

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in percent."""
        return 100 / self.classes

    @property
    def photographs(self) -> bool:
        """Whether the images stay in their files, and are decoded and cropped as they are needed."""
        return self.resize is not None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that the prepare stage writes."""
        ending = "parquet" if self.photographs else "safetensors"
        return ("dataset.json", *(f"{split}.{ending}" for split in SPLITS))


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no dataset, built-in or the user's own, has that name."""
    if custom.is_custom(name):
        custom.check("dataset", name)
    elif name not in DATASETS:
        raise ValueError(unknown_message("dataset", name, DATASETS) + " (or module:function)")


def known(name: str) -> Dataset:
    """Return what is known of a dataset before it is prepared."""
    if custom.is_custom(name):
        return Dataset(name.split(":")[1], None, None, None, None, None, source=name)
    return DATASETS[name]


def prepared(name: str, folder: Path) -> Dataset:
    """Return what is known of a dataset once it is prepared in `folder`; raise UserError if it is not."""
    if not custom.is_custom(name):
        return DATASETS[name]
    if not (folder / "dataset.json").exists():
        raise UserError(f"{name} is not prepared yet; snakemake {folder / 'dataset.json'} does it")
    found = _read_json(folder, ("classes", "channels", "size", "examples"))
    return replace(known(name), **found | {"examples": tuple(found["examples"][split] for split in SPLITS)})


def loader(name: str, folder: Path, data_dir: Path) -> dict[str, str]:
    """Return which code of the user's own prepares the named dataset into `folder`, and from what."""
    # Links stay as they are given: on a cluster's nodes they may lead elsewhere.
    return custom.source(name) | {"data_dir": str(data_dir.absolute()), "prepared_in": str(folder.absolute())}


def check_loader(folder: Path, data_dir: Path, *say: Callable[[str], None]) -> None:
    """Raise UserError if other code, or another `data_dir`, gave the images that lie in `folder`.

    Only a dataset of the user's own is known by its name alone; what others read is checked by its content.
    Code that was edited in its place is none other, and neither is a copy of it, but each `say` is called
    with a line about it. Nothing of the user's code runs. Preparations of older versions tell no code.
    """
    name = custom.from_path(folder.name)
    if not custom.is_custom(name) or not (folder / "dataset.json").exists():
        return
    told = _read_json(folder, (), optional=("loader",))["loader"]
    if told is None:
        return
    now = loader(name, folder, data_dir)
    if not isinstance(told, dict) or not all(told.get(key) and isinstance(told[key], str) for key in now):
        raise UserError(f"{folder} is damaged (dataset.json: loader); delete it to prepare it again")

    def at_one_place(key: str) -> bool:
        with suppress(OSError, ValueError):
            if Path(told[key]).samefile(now[key]):
                return True
        # A project that was moved as a whole has its code and data where they were, seen from its results.
        return told[key] == now[key] or (
            os.path.relpath(told[key], told["prepared_in"]) == os.path.relpath(now[key], now["prepared_in"])
        )

    otherwise = f"set another results_dir, rename the function, or delete {folder} to prepare it again"
    same_code, same_place = told["sha256"] == now["sha256"], at_one_place("folder")
    if not same_code and not same_place:
        raise UserError(
            f"{folder} holds what {name} in {told['folder']} prepared, and {name} in {now['folder']} is other"
            f" code; {otherwise}"
        )
    if not at_one_place("data_dir"):
        raise UserError(
            f"{folder} holds what {name} prepared from data_dir {told['data_dir']}, and data_dir is now"
            f" {now['data_dir']}; {otherwise}"
        )
    line = None
    if not same_code:
        line = f"the file of {name} has changed since it prepared {folder}, which is used as it is; to"
        line += " prepare it again, delete it"
    elif not same_place:
        line = f"{folder} was prepared by {name} in {told['folder']}, of which this study has a copy"
    for tell in say if line else ():
        tell(line)


def read(folder: Path, device: "torch.device", *, data_dir: Path, workers: int = 0) -> "Images":
    """Read what the prepare stage wrote into `folder`, for training on `device`.

    `data_dir` is where photographs lie, and `workers` the processes that decode them (0: the one that
    trains). Raises UserError if the prepared files are damaged or were altered.
    """
    if known(custom.from_path(folder.name)).photographs:
        from onlybn.datasets import photographs

        return photographs.read(folder, device, data_dir=data_dir, workers=workers)
    from onlybn.datasets import small

    return small.read(folder, device)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what the prepare stage wrote that training needs; raise UserError if that is damaged."""
    return _read_json(folder, ("classes", "mean", "std", "checksum"))


def _read_json(folder: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {name: facts[name] for name in names} | {name: facts.get(name) for name in optional}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{folder} is damaged ({path.name}: {error}); delete it to prepare it again"
        ) from None


DATASETS = {
    "digits": Dataset(
        title="digits",
        classes=10,
        channels=1,
        size=8,
        examples=(1_437, 360),
        flips=False,
        source="onlybn.datasets.digits:load",
    ),
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
    # 100 training and 40 validation photographs of each of 10 classes, their shorter side 160 pixels.
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
    ),
}
