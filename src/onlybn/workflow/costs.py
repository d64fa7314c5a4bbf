"""What a run costs: step times measured on a device, and what they say of networks that were not measured.

The table `costs.parquet` beside this module holds times measured by `benchmarks/scaling.py`, a row per
device, precision, dataset, architecture and regime.
"""

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from onlybn.axes import NORMALISATION, Values
from onlybn.configuration import COSTS
from onlybn.datasets import DATASETS, Dataset
from onlybn.errors import UserError

if TYPE_CHECKING:
    from onlybn.models.network import Network


@dataclass(frozen=True)
class Work:
    """What a step does: floating-point operations and activations for an image, layers and weights for all.

    Operations are 2 for each product of a convolution or linear layer; activations are BatchNorm's outputs.
    `trained` counts the regime's parameters, `channels` BatchNorm's.
    """

    forward: float
    input_gradients: float
    weight_gradients: float
    activations: float
    activation_gradients: float
    layers: float
    trained: float
    channels: int

    def per_step(self, batch: int) -> np.ndarray:
        """Return the work of a batch, with what does not grow with it last."""
        grows = (
            self.forward,
            self.input_gradients,
            self.weight_gradients,
            self.activations,
            self.activation_gradients,
        )
        return np.array([*(batch * one for one in grows), self.layers, self.trained, 1.0])


@cache
def work(dataset: Dataset, architecture: str, regime: str, values: Values = ()) -> Work:
    """Return the work of one step on a dataset's images, counted on the network's shapes alone.

    Gradients flow back to the first layer that the regime trains a weight of, and to no weight that stays.
    """
    from onlybn.networks import regimes

    # Building a deep network takes longer than all else; regimes that only say what trains share one.
    normalisation = dict(values).get(NORMALISATION.name, NORMALISATION.default)
    build = _shared if regime in regimes.REGIMES else _built
    calls, network = (made(dataset, architecture, normalisation) for made in (_calls, build))
    parameters = regimes.apply(network, regime, 0).values()
    layers = {name: network.get_submodule(name) for name in dict.fromkeys(call.layer for call in calls)}
    trained = {n for n, layer in layers.items() if any(p.requires_grad for p in layer.parameters())}
    first = next(index for index, call in enumerate(calls) if call.layer in trained)
    return Work(
        forward=sum(call.operations for call in calls),
        input_gradients=sum(call.operations for call in calls[first + 1 :]),
        weight_gradients=sum(call.operations for call in calls if call.layer in trained),
        activations=sum(call.activations for call in calls),
        activation_gradients=sum(call.activations for call in calls[first:]),
        layers=sum(call.activations > 0 for call in (*calls, *calls[first:])),
        trained=sum(parameter.numel() for parameter in parameters),
        channels=network.parameter_counts()["batchnorm_parameters"] // 2,
    )


# Of a process that trains (benchmarks/memory.py): interpreter, libraries and compiled kernels; and how many
# float32 tensors as large as all activations it holds at most, with the way back and without.
PROCESS_MB, KEPT, KEPT_FORWARD = 700, 4.0, 1.5


def memory(dataset: Dataset, architecture: str, regime: str, batch: int, values: Values = ()) -> int:
    """Return the megabytes that a run takes of a CPU's memory at most, less the dataset."""
    from onlybn.training.evaluation import TEST_BATCH

    done = work(dataset, architecture, regime, values)
    training = batch * (KEPT if done.activation_gradients else KEPT_FORWARD)
    activations = max(training, TEST_BATCH["cpu"] * KEPT_FORWARD) * done.activations
    # Gradients, momentum, and the copies of a checkpoint.
    tensors = activations + 4 * done.trained
    return round(PROCESS_MB + 4 * tensors / 2**20) + memory_of_weights(dataset, architecture)


@cache
def memory_of_weights(dataset: Dataset, architecture: str) -> int:
    """Return the megabytes of a network's weights, twice: so they are held while they are drawn."""
    parameters = _built(dataset, architecture, NORMALISATION.default).parameter_counts()["parameters"]
    return round(2 * 4 * parameters / 2**20)


class Call(NamedTuple):
    """What a layer does for an image: a convolution's or linear layer's operations, else its outputs."""

    layer: str
    operations: float
    activations: float


@cache
def _calls(dataset: Dataset, architecture: str, normalisation: str) -> list[Call]:
    """Return what an image's way forward takes, layer by layer."""
    import torch
    from torch import nn

    network = _built(dataset, architecture, normalisation).eval()
    places = network.normalisation_places()
    calls = []

    def count(name: str, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if layer in places:
            calls.append(Call(name, 0.0, output.numel()))
        else:
            calls.append(Call(name, 2.0 * output.numel() * layer.weight[0].numel(), 0.0))

    for name, layer in network.named_modules():
        if layer in places or isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(partial(count, name))
    with torch.no_grad():
        network(torch.empty(1, dataset.channels, dataset.size, dataset.size, device="meta"))
    return calls


def _built(dataset: Dataset, architecture: str, normalisation: str) -> "Network":
    from onlybn.networks.draw import build

    shape = {"channels": dataset.channels, "classes": dataset.classes, "size": dataset.size}
    return build(architecture, normalisation, **shape)


_shared = cache(_built)


def measured() -> pd.DataFrame:
    """Return the measured times.

    In milliseconds: a `step` of `batch` images by `replicates` together, and a `test` of one image.
    """
    if not COSTS.is_file():
        raise UserError("plan: no step times were measured; python benchmarks/scaling.py measures them")
    return pd.read_parquet(COSTS)


def measured_precision(table: pd.DataFrame, device: str, asked: str) -> str:
    """Return what a study's precision is on a device: `auto` is bfloat16 if that was measured there."""
    if asked != "auto":
        return asked
    there = set(table.loc[table["device"] == device, "precision"])
    return "bfloat16" if "bfloat16" in there else "float32"


def is_processor(device: str) -> bool:
    """Say whether a device's name is a processor's, which ends with its vector instructions in brackets."""
    return "(" in device


def nearest_measured(table: pd.DataFrame, device: str, precision: str) -> str:
    """Return a processor itself, or if it was not measured in that precision, one that was.

    The latter with the same vector instructions, if there is one; of several the slowest. Where none was,
    and for a GPU, the device itself: `Times` then tells what is missing.
    """
    there = table[(table["precision"] == precision) & table["device"].map(is_processor)]
    if not is_processor(device) or there.empty or device in set(there["device"]):
        return device
    alike = there[there["device"].str.endswith(device[device.rindex("(") :])]
    there = alike if len(alike) else there
    return there.groupby("device")["step"].median().idxmax()


class Times:
    """Step times of one replicate on one device in one precision: measured, or else fitted to what was.

    The fit is a sum of non-negative costs, one for each kind of `Work`, by least squares of the relative
    error. Where as many replicates together as `together` were measured, each has its share of their step.
    Raises UserError, naming the devices there are, if nothing was measured.
    """

    def __init__(self, table: pd.DataFrame, device: str, precision: str, together: int = 1):
        here = table[(table["device"] == device) & (table["precision"] == precision)]
        alike = here["replicates"] == (together if (here["replicates"] == together).any() else 1)
        here = here[alike].assign(step=lambda rows: rows["step"] / rows["replicates"])
        if here.empty:
            known = sorted(set(zip(table["device"], table["precision"], strict=True)))
            there = "; ".join(f"{name} ({kind})" for name, kind in known)
            raise UserError(
                f"plan: no step times of '{device}' in {precision}; measured are: {there}; measure this one"
                " with python benchmarks/scaling.py"
            )
        rows = here[["dataset", "architecture", "regime", "batch", "step"]].itertuples(index=False)
        self.known = {(DATASETS[d], *point): step for d, *point, step in rows}
        tests = here.groupby(["dataset", "architecture"])["test"].median()
        self.known_tests = {(DATASETS[d], a): time for (d, a), time in tests.items()}
        self.step_costs = _fit([(_features(*point), step) for point, step in self.known.items()])
        tests = [(_features(d, a, "output", 1), time) for (d, a), time in self.known_tests.items()]
        self.test_costs = _fit(tests)

    def step(
        self, dataset: Dataset, architecture: str, regime: str, batch: int, values: Values = ()
    ) -> float:
        """Return the milliseconds of a step; only networks that are neutral on every axis were measured."""
        alike = "random-2" if regime.startswith("random-") else regime
        known = None if values else self.known.get((dataset, architecture, alike, batch))
        return known or float(_features(dataset, architecture, regime, batch, values) @ self.step_costs)

    def test(self, dataset: Dataset, architecture: str, values: Values = ()) -> float:
        """Return the milliseconds of testing one image."""
        known = None if values else self.known_tests.get((dataset, architecture))
        return known or float(_features(dataset, architecture, "output", 1, values) @ self.test_costs)


def _features(
    dataset: Dataset, architecture: str, regime: str, batch: int, values: Values = ()
) -> np.ndarray:
    return work(dataset, architecture, regime, values).per_step(batch)


def _fit(rows: list[tuple[np.ndarray, float]]) -> np.ndarray:
    features = np.array([feature / time for feature, time in rows])
    size = features.max(axis=0)
    size[size == 0] = 1
    costs, _ = nnls(features / size, np.ones(len(rows)))
    return costs / size
