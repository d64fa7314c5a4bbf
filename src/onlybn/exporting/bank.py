"""A bank: several tasks on one network, whose features are a seed (the paper's discussion, Section 6)."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlybn.datasets import known
from onlybn.errors import UserError
from onlybn.files import written_whole
from onlybn.machine import machine
from onlybn.models.network import Network
from onlybn.models.normalisations import AverageNorm
from onlybn.networks.draw import draw
from onlybn.runs.records import described, read_record, run_of
from onlybn.runs.saving import custom_names, image_size, load
from onlybn.tensors import are_near, digest, fingerprint, read_tensors

FORMAT = 1


@dataclass(frozen=True)
class Task:
    """What one task has of its own: `tensors` of the normalisation and output layers, by name.

    `facts` describe the run that learned it; `mean` and `std` of its images are among them.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.facts["classes"]


class Bank:
    """Tasks on one network: they share the convolutions, and each has γ, β, statistics and an output layer.

    `network` is an ordinary network in evaluation mode, set to the task `current`. Calling the bank maps a
    batch of images of several tasks.
    """

    def __init__(self, network: Network, tasks: Mapping[str, Task]):
        self.network, self.tasks = network.eval(), dict(tasks)
        self._slots = [_slot(network, name) for name in _own(network)]
        self._values = {
            name: [
                _like(task.tensors[key], slot) for key, slot in zip(_own(network), self._slots, strict=True)
            ]
            for name, task in tasks.items()
        }
        self._mixing: list[tuple[nn.Module, str, nn.Module, nn.Module]] = []
        self.current = ""
        self.switch(next(iter(tasks)))

    @classmethod
    def of_runs(cls, runs: Mapping[str, str | Path], *, trust: bool = False) -> "Bank":
        """Return the bank of finished runs, given as task and folder.

        Raises UserError for a run that `onlybn.load` refuses, that trains anything but γ, β and the output
        layer, or that has other features than the first one.
        """
        if not runs:
            raise UserError("bank: no task was given; expected NAME=FOLDER of at least one run")
        shared: tuple[Path, Network, dict[str, Any]] | None = None
        tasks = {}
        for name, folder in runs.items():
            network, record = load(folder, trust=trust), read_record(Path(folder))
            own = _own(network)
            other = [n for n, p in network.named_parameters() if p.requires_grad and n not in own]
            if other:
                raise UserError(
                    f"bank: {folder} trains {other[0]}, which tasks share; allowed: runs that train only γ, β"
                    " and the output layer"
                )
            features = fingerprint(_features(network))
            shared = shared or (Path(folder), network, features)
            if features["digest"] != shared[2]["digest"]:
                raise UserError(
                    f"bank: {folder} has other features than {shared[0]} (digest {features['digest'][:16]},"
                    f" expected {shared[2]['digest'][:16]}); tasks share architecture, draw and seed"
                )
            tensors = network.state_dict()
            facts = described(run_of(record)) | record["normalisation"]
            facts |= {key: record[key] for key in ("channels", "classes")} | {"size": image_size(record)}
            tasks[name] = Task(facts, {key: tensors[key].clone() for key in own})
        return cls(shared[1], tasks)

    @classmethod
    def load(cls, file: str | Path) -> "Bank":
        """Return the bank in a file; its features are drawn again from their seed.

        Raises UserError if the file is no bank, was cut or altered, or if the features are not those with
        which its tasks were learned.
        """
        file = Path(file)
        try:
            mapped, facts = read_tensors(file)
            tensors = {name: tensor.clone() for name, tensor in mapped.items()}  # the file may change later
            if facts["bank"] != FORMAT or facts["seal"] != _seal(facts, tensors):
                raise ValueError("its seal does not match its content")
            first = next(iter(facts["tasks"].values()))
            run = run_of(first)
            network, _ = draw(run, channels=first["channels"], classes=first["classes"], size=first["size"])
            tasks = {
                name: Task(told, _unpacked(tensors, number, network))
                for number, (name, told) in enumerate(facts["tasks"].items())
            }
        except FileNotFoundError:
            raise UserError(f"bank: {file} is missing") from None
        except Exception as error:  # what readers and draws raise for altered content
            reason = " ".join(str(error).split())
            raise UserError(f"bank: {file} is no bank, or is damaged ({reason})") from None
        drawn = fingerprint(_features(network))
        if drawn["digest"] != facts["features"]["digest"]:
            machines = f"learned on {facts['machine']}, loaded on {machine()}"
            if not are_near(drawn["sums"], facts["features"]["sums"]):
                raise UserError(
                    f"bank: {file}: the features drawn from seed {run.drawn_from} are not those of its tasks"
                    f" ({machines})"
                )
            warnings.warn(f"{file}: the features differ by rounding ({machines})", stacklevel=2)
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return cls(network, tasks)

    def save(self, file: str | Path) -> None:
        """Write all tasks to one safetensors file, without the features."""
        from safetensors.torch import save_file

        if names := custom_names(run_of(next(iter(self.tasks.values())).facts)):
            raise UserError(f"bank: a file holds no custom code, but its tasks need {', '.join(names)}")
        tensors = _packed([task.tensors for task in self.tasks.values()], self.network)
        facts = {
            "bank": FORMAT,
            "machine": machine(),
            "features": fingerprint(_features(self.network)),
            "tasks": {name: task.facts for name, task in self.tasks.items()},
        }
        facts["seal"] = _seal(facts, tensors)
        with written_whole(Path(file)) as path:
            save_file(tensors, path, metadata={"onlybn": json.dumps(facts)})

    def task(self, name: str) -> Task:
        """Return a task; raise UserError if there is none of that name."""
        if name not in self.tasks:
            raise UserError(f"bank: there is no task '{name}'; there are {', '.join(self.tasks)}")
        return self.tasks[name]

    def switch(self, name: str) -> Network:
        """Set the network to a task, in place, and return it; no tensor is copied."""
        self.network.output.out_features = self.task(name).classes
        for (held, key), value in zip(self._slots, self._values[name], strict=True):
            held[key] = value
        self.current = name
        return self.network

    @torch.no_grad()
    def __call__(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Map normalised images, float (batch, channels, height, width), each of the task named, to logits.

        The logits are float (batch, classes), with −∞ for classes that an image's task lacks. Raises
        UserError if a task is not there.
        """
        if len(names) != len(images):
            raise ValueError(f"{len(images)} images have {len(names)} names of tasks")
        if len(set(names)) == 1:
            logits = self.switch(names[0])(images)
            return F.pad(logits, (0, self._most - logits.shape[1]), value=-torch.inf)
        places = {name: place for place, name in enumerate(self.tasks)}
        for name in set(names):
            self.task(name)
        rows = torch.tensor([places[name] for name in names], device=images.device)
        with self._mixed(rows):
            return self.network(images)

    @property
    def _most(self) -> int:
        return max(task.classes for task in self.tasks.values())

    @contextmanager
    def _mixed(self, rows: Tensor) -> Iterator[None]:
        """Let every layer of the network serve the task of each image during the body."""
        if not self._mixing:
            tasks = [task.tensors for task in self.tasks.values()]
            for name, layer in self.network.named_normalisations():
                self._mixing.append(
                    (*_owner(self.network, name), layer, _MixedNormalisation(layer, name, tasks))
                )
            output = _name_of_output(self.network)
            mixed = _MixedOutput(output, tasks, self._most)
            self._mixing.append((*_owner(self.network, output), self.network.output, mixed))
        for owner, key, _, mixed in self._mixing:
            mixed.rows = rows
            owner._modules[key] = mixed
        try:
            yield
        finally:
            for owner, key, layer, _ in self._mixing:
                owner._modules[key] = layer


def classify(bank: Bank, task: str, image: Path) -> dict[str, float]:
    """Return the probability of each class, by its name, for an image file, as the task sees it.

    The image is cropped to a square around its middle, resized to the size of the task's images, and turned
    to grey or colour as they are. A class whose name is not known is "class N". Raises UserError if there is
    no such task, or the file is no image.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    facts = bank.task(task).facts
    try:
        with Image.open(image) as opened:
            seen = opened.convert({1: "L", 3: "RGB"}[facts["channels"]])
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"classify: {image} cannot be read as an image ({error})") from None
    fitted = np.asarray(ImageOps.fit(seen, (facts["size"], facts["size"])), np.float32) / 255
    pixels = torch.from_numpy(fitted).view(1, facts["size"], facts["size"], -1).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(facts[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        chances = bank.switch(task)((pixels - mean) / std).softmax(1)[0].tolist()
    names = known(facts["dataset"]).class_names or [f"class {number}" for number in range(len(chances))]
    return dict(zip(names, chances, strict=True))


class _MixedNormalisation(nn.Module):
    """A normalisation in evaluation mode, with γ, β and statistics of the task of each image."""

    rows: Tensor

    def __init__(self, layer: nn.Module, name: str, tasks: Sequence[Mapping[str, Tensor]]):
        super().__init__()

        def of(key: str) -> Tensor:
            return torch.stack([tensors[f"{name}.{key}"] for tensors in tasks])

        self.groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else None
        self.eps, self.scale, self.shift = layer.eps, of("weight"), of("bias")
        if self.groups is None:
            is_norm = isinstance(layer, AverageNorm)
            square = of("running_norm").square() if is_norm else of("running_var")
            self.scale = self.scale / torch.sqrt(square + self.eps)
            self.shift = self.shift - of("running_mean") * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, …) to the same shape."""
        if self.groups is not None:
            x = F.group_norm(x, self.groups, eps=self.eps)
        scale, shift = (
            values[self.rows].view(len(x), -1, *[1] * (x.ndim - 2)) for values in (self.scale, self.shift)
        )
        return torch.addcmul(shift, x, scale)


class _MixedOutput(nn.Module):
    """The output layers of all tasks; classes that an image's task lacks get −∞."""

    rows: Tensor

    def __init__(self, name: str, tasks: Sequence[Mapping[str, Tensor]], classes: int):
        super().__init__()
        self.layers = [(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for tensors in tasks]
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to (batch, classes)."""
        logits = x.new_full((len(x), self.classes), -torch.inf)
        for task in self.rows.unique().tolist():
            weight, bias = self.layers[task]
            here = self.rows == task
            logits[here, : len(weight)] = F.linear(x[here], weight, bias)
        return logits


def _own(network: Network) -> list[str]:
    """Return the names of the tensors that each task has: those of normalisation layers and of the output."""
    layers = [*network.named_normalisations(), (_name_of_output(network), network.output)]
    named = [
        (f"{name}.{key}", tensor) for name, layer in layers for key, tensor in layer.state_dict().items()
    ]
    return [name for name, tensor in named if tensor.is_floating_point()]


def _features(network: Network) -> dict[str, Tensor]:
    own = set(_own(network))
    tensors = network.state_dict().items()
    return {name: tensor for name, tensor in tensors if name not in own and tensor.is_floating_point()}


def _name_of_output(network: Network) -> str:
    return next(name for name, layer in network.named_modules() if layer is network.output)


def _owner(network: Network, name: str) -> tuple[nn.Module, str]:
    owner, _, key = name.rpartition(".")
    return network.get_submodule(owner), key


def _slot(network: Network, name: str) -> tuple[dict[str, Any], str]:
    """Return where a module keeps a tensor: its parameters or buffers, and the key there."""
    layer, key = _owner(network, name)
    return (layer._buffers if key in layer._buffers else layer._parameters), key


def _like(tensor: Tensor, slot: tuple[dict[str, Any], str]) -> Tensor:
    held, key = slot
    return nn.Parameter(tensor, requires_grad=False) if isinstance(held[key], nn.Parameter) else tensor


def _packed(tasks: Sequence[Mapping[str, Tensor]], network: Network) -> dict[str, Tensor]:
    """Return the tensors of a file: `tasks`, (tasks, numbers), and each task's output layer.

    A row has the tensors of the normalisation layers one after the other, since their names would take as
    many bytes as they do.
    """
    output = _name_of_output(network)
    own = [name for name in _own(network) if not name.startswith(f"{output}.")]
    packed = {"tasks": torch.stack([torch.cat([task[name].flatten() for name in own]) for task in tasks])}
    for number, task in enumerate(tasks):
        packed |= {f"{key}/{number}": task[f"{output}.{key}"].contiguous() for key in ("weight", "bias")}
    return packed


def _unpacked(packed: Mapping[str, Tensor], number: int, network: Network) -> dict[str, Tensor]:
    """Return the tensors of one task of a file."""
    output, state = _name_of_output(network), network.state_dict()
    own = [name for name in _own(network) if not name.startswith(f"{output}.")]
    parts = packed["tasks"][number].split([state[name].numel() for name in own])
    found = {name: part.view_as(state[name]) for name, part in zip(own, parts, strict=True)}
    return found | {f"{output}.{key}": packed[f"{key}/{number}"] for key in ("weight", "bias")}


def _seal(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of all that a file holds."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    told = {key: value for key, value in facts.items() if key != "seal"}
    return hashlib.sha256(json.dumps([told, shapes, digest(tensors)], sort_keys=True).encode()).hexdigest()
