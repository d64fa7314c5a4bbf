"""Exporting: a finished run's network as a file that other programs read."""

import copy
import io
import json
import math
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from onlybn.errors import UserError
from onlybn.exporting.finished import check_file, read_finished
from onlybn.exporting.fold import fold
from onlybn.exporting.prune import clamp, prune
from onlybn.files import written_whole
from onlybn.models.network import Network

# Networks are compared on at most so many images, and on at most so many pixels but always two images.
IMAGES, PIXELS = 128, 2**17
ROUNDS = 7
# Logits of a folded or pruned network that differ by more, as a share of the largest, are an error.
ROUNDING = 1e-3


def export(run: Path, file: Path, *, folds: bool, threshold: float | None, trust: bool = False) -> list[str]:
    """Write a run's network to `file`, in the format of its ending; return sentences that say what was done.

    With a `threshold`, smaller γ are set to 0 and what is then 0 for every image is removed; with `folds`,
    BatchNorm becomes a part of the convolutions. Raises UserError for a run that `onlybn.load` refuses or
    that diverged, for a format that is unknown or needs a package that is not installed, and for a file in a
    run's folder.
    """
    check_file("export", file, FORMATS)
    if missing := [name for name in NEEDED.get(file.suffix, ()) if find_spec(name) is None]:
        raise UserError(
            f"export: {file.suffix} needs {' and '.join(missing)}; pip install {' '.join(missing)}"
        )
    if threshold is not None and not 0 <= threshold < math.inf:
        raise UserError(f"export: --prune: {threshold:g} is not a threshold of at least 0")
    network, facts = read_finished(run, trust=trust)
    images = _images(facts)
    lines = [f"{facts['architecture']} {facts['regime']} seed {facts['seed']}"]
    if threshold is not None:
        lines += _prune(network, images, threshold)
    if folds:
        lines += _fold(network, images)
    ready = Ready(network, facts | {"folded": folds, "pruned_at": threshold})
    FORMATS[file.suffix](file, ready, images[:2].clone())  # not with the memory of all of them
    size = file.stat().st_size / 1e3
    parameters = sum(p.numel() for p in network.parameters())
    return [*lines, f"{file}: {parameters:,} parameters, {size:,.0f} kB"]


class Ready(nn.Module):
    """A network that takes images as they are read, from 0 to 1, and normalises them as its run did."""

    def __init__(self, network: Network, facts: dict[str, Any]):
        super().__init__()
        self.network, self.facts = network, facts
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(facts[name]).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width) from 0 to 1, to logits, (batch, classes)."""
        return self.network((images - self.mean) / self.std)


def _images(facts: dict[str, Any]) -> Tensor:
    """Return random images as a network gets them, to compare it with another and to record its calls."""
    size = facts["size"]
    count = max(2, min(IMAGES, PIXELS // size**2))
    rng = torch.Generator().manual_seed(0)
    return torch.randn((count, facts["channels"], size, size), generator=rng)


def _fold(network: Network, images: Tensor) -> list[str]:
    before = copy.deepcopy(network)
    folded, left = fold(network, images[:1])
    rest = f"; {left} that follow something else stay" if left else ""
    line = f"folded: {folded} BatchNorm layers into what is right before them{rest}; "
    return [line + _difference(network, before, images)]


def _prune(network: Network, images: Tensor, threshold: float) -> list[str]:
    clamp(network, threshold)
    before = copy.deepcopy(network)
    counts = asdict(prune(network, images[:1]))
    line = (
        "pruned at {threshold:g}: {removed:,} of {channels:,} channels removed, of {zero:,} with γ = 0;"
        " {constant:,} of these have β > 0 and stay; "
    ).format(threshold=threshold, **counts)
    speed = _speed(network, before, images)
    return [line + _difference(network, before, images), f"{speed:.2f} times as fast as before pruning"]


@torch.no_grad()
def _difference(network: Network, before: Network, images: Tensor) -> str:
    """Return how far the logits are apart, as a phrase; raise UserError if it is more than rounding."""
    expected = before(images)
    apart, largest = (network(images) - expected).abs().max(), expected.abs().max()
    found = f"the logits of {len(images)} random images differ by at most {apart:.1e}, of up to {largest:.1f}"
    if not apart <= ROUNDING * largest:
        raise UserError(f"export: {found}; this network can only be exported as it is")
    return found


@torch.no_grad()
def _speed(network: Network, before: Network, images: Tensor) -> float:
    """Return the median ratio of the times of a batch, in alternation after a round of both."""

    def seconds(some: Network) -> float:
        started = time.perf_counter()
        some(images)
        return time.perf_counter() - started

    ratios = [seconds(before) / seconds(network) for _ in range(1 + ROUNDS)]
    return median(ratios[1:])


def _as_safetensors(file: Path, ready: Ready, images: Tensor) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in ready.network.state_dict().items()}
    with written_whole(file) as path:
        # A single entry: safetensors writes several in an order that differs between processes.
        save_file(tensors, path, {"onlybn": json.dumps(ready.facts)})


def _as_program(file: Path, ready: Ready, images: Tensor) -> None:
    from torch.export import Dim, save
    from torch.export import export as exported

    program = exported(ready, (images,), dynamic_shapes=({0: Dim("batch")},))
    # In memory first: torch's writer ends the whole process where a disk is full.
    stream = io.BytesIO()
    save(program, stream, extra_files={"facts.json": json.dumps(ready.facts)})
    with written_whole(file) as path:
        path.write_bytes(stream.getbuffer())


def _as_onnx(file: Path, ready: Ready, images: Tensor) -> None:
    with written_whole(file) as path:
        named = {
            "input_names": ["images"],
            "output_names": ["logits"],
            "external_data": False,
            "verbose": False,
        }
        batch = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(ready, (images,), path, dynamo=True, dynamic_shapes=batch, **named)


FORMATS = {".safetensors": _as_safetensors, ".pt2": _as_program, ".onnx": _as_onnx}
NEEDED = {".onnx": ("onnx", "onnxscript")}
