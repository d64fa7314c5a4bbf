"""A bank: several tasks on one network, whose features are a seed (the paper's discussion, Section 6)."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlybn.axes import NORMALISATION
from onlybn.datasets import known
from onlybn.errors import UserError
from onlybn.exporting.finished import check_file, read_finished
from onlybn.files import written_whole
from onlybn.machine import machine
from onlybn.models.network import Network
from onlybn.models.normalisations import AverageNorm
from onlybn.networks.draw import draw
from onlybn.networks.state import others
from onlybn.runs.records import run_of
from onlybn.runs.saving import custom_names
from onlybn.tensors import check_drawn, digest, fingerprint, read_tensors

FORMAT = 2


@dataclass(frozen=True)
class Task:
    """One task: its `tensors` of the normalisation and output layers by name, and `facts` about its run.

    The facts are those of `onlybn.exporting.finished.read_finished`.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.facts["classes"]


class Bank:
    """Tasks on one network: they share the convolutions, and each has γ, β, statistics and an output layer.

    `network` is an ordinary network on the CPU, in evaluation mode and set to the task `current`. Calling the
    bank maps a batch of images of several tasks.
    """

    def __init__(self, network: Network, tasks: Mapping[str, Task]):
        self.network, self.tasks = network.eval(), dict(tasks)
        names = own_tensors(network)
        self._slots = [_slot(network, name) for name in names]
        self._values = {
            name: [_like(task.tensors[key], slot) for key, slot in zip(names, self._slots, strict=True)]
            for name, task in tasks.items()
        }
        self._mixing: list[_Mixing] = []
        self.current = ""
        self.switch(next(iter(tasks)))

    @classmethod
    def of_runs(cls, runs: Mapping[str, str | Path], *, trust: bool = False) -> "Bank":
        """Return the bank of finished runs, given as task and folder.

        Raises UserError for a run that `onlybn.load` refuses or that diverged, that trains anything but γ, β
        and the output layer, or whose network or features are not those of the first one.
        """
        if not runs:
            raise UserError("bank: no task was given; expected NAME=FOLDER of at least one run")
        shared, tasks = None, {}
        for name, folder in runs.items():
            network, facts = read_finished(Path(folder), trust=trust)
            own = own_tensors(network)
            other = [n for n, p in network.named_parameters() if p.requires_grad and n not in own]
            if other:
                raise UserError(
                    f"bank: {folder} trains {other[0]}, which tasks share; allowed: runs that train only γ, β"
                    " and the output layer"
                )
            found = {"network": _kind(facts), "digest": digest(_features(network))}
            if shared is None:
                shared, first, expected = network, folder, found
            for what, value in found.items():
                if value != expected[what]:
                    raise UserError(
                        f"bank: {folder} has other features than {first} ({what} {value[:40]}, expected"
                        f" {expected[what][:40]}); tasks share architecture, normalisation, draw and seed"
                    )
            tensors = network.state_dict()
            tasks[name] = Task(facts, {key: tensors[key].clone() for key in own})
        return cls(shared, tasks)

    @classmethod
    def load(cls, file: str | Path) -> "Bank":
        """Return the bank in a file; its features are drawn again from their seed.

        Raises UserError if the file is no bank, was cut or altered, names custom code, or if the features are
        not those with which its tasks were learned.
        """
        file = Path(file)
        try:
            mapped, facts = read_tensors(file)
            tensors = {name: tensor.clone() for name, tensor in mapped.items()}  # the file may change later
            if facts["bank"] != FORMAT:
                raise ValueError(f"its format is {facts['bank']}, and this version reads {FORMAT}")
            if facts["seal"] != _seal(facts, tensors):
                raise ValueError("its seal does not match its content")
            then, features = facts["machine"], facts["features"]
            _, first = facts["tasks"][0]
            run = run_of(first)
            if names := custom_names(run):
                raise ValueError(f"it names custom code, {', '.join(names)}")
            network, _ = draw(run, channels=first["channels"], classes=first["classes"], size=first["size"])
            tasks = {
                name: Task(of_task, _unpacked(tensors, number, network, of_task["classes"]))
                for number, (name, of_task) in enumerate(facts["tasks"])
            }
            if len(tasks) < len(facts["tasks"]):
                raise ValueError("two tasks have one name")
        except FileNotFoundError:
            raise UserError(f"bank: {file} is missing") from None
        except Exception as error:  # what readers and draws raise for altered content
            reason = " ".join(str(error).split())
            raise UserError(f"bank: {file} is no bank, or is damaged ({reason})") from None
        check_drawn(_features(network), features, of=f"bank: {file}", seed=run.drawn_from, then=then)
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return cls(network, tasks)

    def save(self, file: str | Path) -> None:
        """Write all tasks to one safetensors file, without the features.

        Raises UserError if the file has another ending or is in a run's folder, or if tasks need custom code.
        """
        from safetensors.torch import save_file

        check_file("bank", Path(file), [".safetensors"])
        refuse_custom_code(custom_names(run_of(next(iter(self.tasks.values())).facts)))
        tensors = _packed([task.tensors for task in self.tasks.values()], self.network)
        facts = {
            "bank": FORMAT,
            "machine": machine(),
            "features": fingerprint(_features(self.network)),
            "tasks": [[name, task.facts] for name, task in self.tasks.items()],
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
        UserError if a task is not there, and ValueError if there are not as many names as images.
        """
        if len(names) != len(images):
            raise ValueError(f"{len(images)} images have {len(names)} names of tasks")
        if len(set(names)) == 1:
            logits = self.switch(names[0])(images)
            return F.pad(logits, (0, self._most - logits.shape[1]), value=-torch.inf)
        places = {name: place for place, name in enumerate(self.tasks)}
        for name in set(names):
            self.task(name)
        rows = torch.tensor([places[name] for name in names], dtype=torch.long)
        with self._mixed(rows):
            return self.network(images)

    @property
    def _most(self) -> int:
        return max(task.classes for task in self.tasks.values())

    @contextmanager
    def _mixed(self, rows: Tensor) -> Iterator[None]:
        """Let every layer of the network serve the task of each image during the body."""
        self._mixing = self._mixing or self._mixed_layers()
        for one in self._mixing:
            one.mixed.rows = rows
            for holder, key in one.holders:
                holder._modules[key] = one.mixed
        try:
            yield
        finally:
            for one in self._mixing:
                for holder, key in one.holders:
                    holder._modules[key] = one.layer

    def _mixed_layers(self) -> "list[_Mixing]":
        tasks = [task.tensors for task in self.tasks.values()]
        mixed = [
            (layer, _MixedNormalisation(layer, name, tasks))
            for name, layer in self.network.named_normalisations()
        ]
        output = _MixedOutput(_name_of_output(self.network), tasks, self._most)
        return [
            _Mixing(layer, by_task, self.network.holders(layer))
            for layer, by_task in [*mixed, (self.network.output, output)]
        ]


def refuse_custom_code(names: Sequence[str]) -> None:
    """Raise UserError if tasks need custom code, given by name: a bank's file holds none."""
    if names:
        raise UserError(f"bank: a file holds no custom code, but its tasks need {', '.join(names)}")


def classify(bank: Bank, task: str, image: Path) -> dict[str, float]:
    """Return the probability of each class, by its name, for an image file, as the task sees it.

    The image is cropped to a square around its middle, resized to the size of the task's images, and turned
    to grey or colour as they are. A class whose name is not known is "class N". Raises UserError if there is
    no such task, or the file is no image.
    """
    import numpy as np
    from PIL import Image, ImageOps

    from onlybn.datasets.image_folder import UNREADABLE

    facts = bank.task(task).facts
    modes = {1: "L", 3: "RGB"}
    if known(facts["dataset"]).targets != "classes" or facts["channels"] not in modes:
        raise UserError(f"classify: the task {task} is not one of grey or colour images")
    try:
        with Image.open(image) as opened:
            seen = ImageOps.exif_transpose(opened)
            if seen.mode == "F":
                raise ValueError("it holds floating-point numbers, whose range is unknown")
            if seen.mode.startswith("I"):  # of 16 bits, which `convert` would clip
                seen = Image.fromarray((np.asarray(seen) // 257).astype(np.uint8))
            seen = seen.convert(modes[facts["channels"]])
    except UNREADABLE as error:
        raise UserError(f"classify: {image} cannot be read as an image ({error})") from None
    fitted = np.asarray(ImageOps.fit(seen, (facts["size"], facts["size"])), np.float32) / 255
    pixels = torch.from_numpy(fitted).view(1, facts["size"], facts["size"], -1).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(facts[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        chances = bank.switch(task)((pixels - mean) / std).softmax(1)[0].tolist()
    names = known(facts["dataset"]).class_names or [f"class {number}" for number in range(len(chances))]
    return dict(zip(names, chances, strict=True))


@dataclass(frozen=True)
class _Mixing:
    """A layer, what serves in its place in a batch of mixed tasks, and where the network holds it."""

    layer: nn.Module
    mixed: "_MixedNormalisation | _MixedOutput"
    holders: list[tuple[nn.Module, str]]


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
            values[self.rows].view(len(x), values.shape[1], *[1] * (x.ndim - 2))
            for values in (self.scale, self.shift)
        )
        return torch.addcmul(shift, x, scale)


class _MixedOutput(nn.Module):
    """The output layers of all tasks; classes that an image's task lacks get −∞."""

    rows: Tensor

    def __init__(self, name: str, tasks: Sequence[Mapping[str, Tensor]], classes: int):
        super().__init__()
        self.layers = [(tensors[f"{name}.weight"], tensors.get(f"{name}.bias")) for tensors in tasks]
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to (batch, classes)."""
        logits = x.new_full((len(x), self.classes), -torch.inf)
        for task in self.rows.unique().tolist():
            weight, bias = self.layers[task]
            here = self.rows == task
            logits[here, : len(weight)] = F.linear(x[here], weight, bias)
        return logits


def own_tensors(network: Network) -> list[str]:
    """Return the names of the tensors that each task has: those of normalisation layers and of the output."""
    layers = [*network.named_normalisations(), (_name_of_output(network), network.output)]
    named = [
        (f"{name}.{key}", tensor) for name, layer in layers for key, tensor in layer.state_dict().items()
    ]
    return [name for name, tensor in named if tensor.is_floating_point()]


def _features(network: Network) -> dict[str, Tensor]:
    """Return the tensors that tasks share, by name."""
    tensors = network.state_dict(keep_vars=True)
    return others(network, [tensors[name] for name in own_tensors(network)])


def _kind(facts: Mapping[str, Any]) -> str:
    """Return what else but its features makes a task's network: the same of all tasks."""
    run = run_of(facts)
    return f"{run.architecture} with {run.value(NORMALISATION)}"


def _name_of_output(network: Network) -> str:
    return next(name for name, layer in network.named_modules() if layer is network.output)


def _slot(network: Network, name: str) -> tuple[dict[str, Any], str]:
    """Return where a module keeps a tensor: its parameters or buffers, and the key there."""
    owner, _, key = name.rpartition(".")
    layer = network.get_submodule(owner)
    return (layer._buffers if key in layer._buffers else layer._parameters), key


def _like(tensor: Tensor, slot: tuple[dict[str, Any], str]) -> Tensor:
    held, key = slot
    return nn.Parameter(tensor, requires_grad=False) if isinstance(held[key], nn.Parameter) else tensor


def _packed(tasks: Sequence[Mapping[str, Tensor]], network: Network) -> dict[str, Tensor]:
    """Return the tensors of a file: `tasks`, (tasks, numbers), and each task's output layer.

    A row has the tensors of the normalisation layers one after the other, since their names would take as
    many bytes as they do.
    """
    rows, of_output = _parts(network)
    packed = {}
    if rows:
        packed["tasks"] = torch.stack([torch.cat([task[name].flatten() for name in rows]) for task in tasks])
    for number, task in enumerate(tasks):
        packed |= {f"{name}/{number}": task[name].contiguous() for name in of_output}
    return packed


def _unpacked(packed: Mapping[str, Tensor], number: int, network: Network, classes: int) -> dict[str, Tensor]:
    """Return the tensors of one task of a file; raise ValueError if one does not fit or is not finite."""
    (rows, of_output), state = _parts(network), network.state_dict()
    found = {name: packed[f"{name}/{number}"] for name in of_output}
    for name, tensor in found.items():
        if tensor.shape != (classes, *state[name].shape[1:]):
            raise ValueError(f"{name} of task {number} has the shape {tuple(tensor.shape)}")
    if rows:
        parts = packed["tasks"][number].split([state[name].numel() for name in rows])
        found |= {name: part.view_as(state[name]) for name, part in zip(rows, parts, strict=True)}
    if not all(tensor.isfinite().all() for tensor in found.values()):
        raise ValueError(f"task {number} has values that are not finite")
    return found


def _parts(network: Network) -> tuple[list[str], list[str]]:
    """Return the names of a task's tensors: those in a file's row for the task, and the output layer's."""
    start = f"{_name_of_output(network)}."
    names = own_tensors(network)
    return [n for n in names if not n.startswith(start)], [n for n in names if n.startswith(start)]


def _seal(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of all that a file holds."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    content = {key: value for key, value in facts.items() if key != "seal"}
    sealed = json.dumps([content, shapes, digest(tensors)], sort_keys=True)
    return hashlib.sha256(sealed.encode()).hexdigest()
