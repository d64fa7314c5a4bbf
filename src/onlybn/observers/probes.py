"""What several recordings share: when they look, and how they compute with a moment."""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from onlybn.errors import UserError, unknown_message
from onlybn.networks.reparametrise import with_functions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run

# The first columns: the epoch of the step, and the number of steps taken before the recorded state.
WHEN = [("epoch", pa.int32()), ("step", pa.int64())]
LAYER = [("layer", pa.dictionary(pa.int32(), pa.string())), ("number", pa.int32())]
# The largest number of training images that a look passes over, if it does.
IMAGES = 10_000
Epoch = Annotated[int, Field(strict=True, ge=1)]


class Options(BaseModel):
    """When to record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=100, description="a number of steps of at least 1"
    )


def different(values: list[Any]) -> list[Any]:
    """Return the values in order; raise ValueError if one is repeated."""
    if len(set(values)) < len(values):
        raise ValueError("a value is repeated")
    return sorted(values)


class EpochOptions(BaseModel):
    """After which epochs to record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Annotated[list[Epoch], Field(min_length=1), AfterValidator(different)] | None = Field(
        default=None,
        description="a list of different epochs from 1, or null for the first, the middle and the last",
    )


class Regular:
    """Looks at the first step and at each step before which a multiple of `every` steps were taken."""

    def __init__(self, steps_per_epoch: int, every: int):
        self.steps_per_epoch, self.every = steps_per_epoch, every

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look at that step of that epoch, both counted from 1."""
        return self._taken(epoch, step) % self.every == 0

    def when(self, moment: "Moment") -> dict[str, int]:
        """Return the first columns of a row."""
        return {"epoch": moment.epoch, "step": self._taken(moment.epoch, moment.step)}

    def _taken(self, epoch: int, step: int) -> int:
        return (epoch - 1) * self.steps_per_epoch + step - 1


class AtEpochs:
    """Looks at the last step of chosen epochs; the recorded state is that after the step.

    A subclass has the `name` of its recording. Raises UserError if an epoch is beyond the last.
    """

    name: str

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        self.steps_per_epoch = steps_per_epoch
        self.steps = run.training.steps or run.training.epochs * steps_per_epoch
        last = -(-self.steps // steps_per_epoch)
        self.epochs = options["epochs"] or (1, (last + 1) // 2, last)
        if self.epochs[-1] > last:
            raise UserError(
                f"{self.name}.epochs: {self.epochs[-1]} is beyond the last epoch of {run}, which is {last}"
            )

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look: at the last step of a chosen epoch."""
        last = min(self.steps, epoch * self.steps_per_epoch)
        return epoch in self.epochs and self._taken(epoch, step) == last

    def when(self, moment: "Moment") -> dict[str, int]:
        """Return the first columns of a row."""
        return {"epoch": moment.epoch, "step": self._taken(moment.epoch, moment.step)}

    def _taken(self, epoch: int, step: int) -> int:
        return (epoch - 1) * self.steps_per_epoch + step


def layers(network: "Network") -> "dict[str, nn.Module]":
    """Return the convolutions and linear layers by name, in the order in which the network lists them.

    In a built-in network this is the order of the forward pass, with a shortcut after what it bypasses.
    """
    from torch import nn

    return dict(network.named_layers((nn.Conv2d, nn.Linear)))


def chosen(name: str, run: "Run", network: "Network", options: Mapping[str, Any]) -> list[str]:
    """Return the names of the layers that a recording's option `layers` chooses, by default all.

    Raises UserError, with a sentence for each, if the network lacks some.
    """
    names = list(layers(network))
    wanted = names if options["layers"] is None else options["layers"]
    unknown = [
        f"{name}.layers: {unknown_message(f'layer of {run.architecture}', layer, names)}"
        for layer in dict.fromkeys(wanted)
        if layer not in names
    ]
    if unknown:
        raise UserError("\n".join(unknown))
    return wanted


def trained(network: "Network") -> "dict[str, nn.Parameter]":
    """Return by name the trainable parameters that the forward pass reads.

    Those of a function through which a weight trains are not among them; the weight itself is.
    """
    functions = {id(p) for _, psi in with_functions(network) for p in psi.parameters()}
    return {n: p for n, p in network.named_parameters() if p.requires_grad and id(p) not in functions}


def assign(network: "Network", values: "Mapping[str, Tensor]") -> None:
    """Write these values into the network's parameters of those names."""
    import torch

    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def gradients(moment: "Moment", parameters: "Iterable[Tensor]") -> "tuple[float, tuple[Tensor, ...]]":
    """Return the loss of the moment's batch for the network's parameters, and its gradients."""
    import torch

    loss, _ = moment.evaluate()
    return loss.item(), torch.autograd.grad(loss, list(parameters))


def in_float64(moment: "Moment") -> "Moment":
    """Return the moment of a copy of the network in float64, with its own loss and gradients.

    They are those of the same weights and the same batch; what steps below float32's rounding change can be
    seen then.
    """
    import torch

    from onlybn.training.evaluation import batch_loss

    network, images, labels = copy.deepcopy(moment.network).double(), moment.images.double(), moment.labels
    labels = labels.double() if labels.is_floating_point() else labels

    def evaluate() -> "tuple[Tensor, Tensor]":
        logits = network(images)
        return batch_loss(logits, labels), logits

    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    loss, logits = evaluate()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return replace(
        moment,
        network=network,
        images=images,
        labels=labels,
        logits=logits.detach(),
        loss=loss.detach(),
        gradients=dict(zip(parameters, found, strict=True)),
        before={name: tensor.double() for name, tensor in moment.before.items()},
        set={name: tensor.double() for name, tensor in moment.set.items()},
        evaluate=evaluate,
    )


def dot(some: "Iterable[Tensor]", others: "Iterable[Tensor]") -> float:
    """Return the inner product of two lists of tensors, summed in float64."""
    return float(
        sum((a.detach().double() * b.detach().double()).sum() for a, b in zip(some, others, strict=True))
    )


def norm(tensors: "Iterable[Tensor]") -> float:
    """Return the Euclidean norm of a list of tensors, summed in float64."""
    return math.sqrt(float(sum(tensor.detach().double().square().sum() for tensor in tensors)))


def compared(gradient: "Iterable[Tensor]", other: "Iterable[Tensor]") -> dict[str, Any]:
    """Return the norm of the first gradient, the norm of the difference, and the cosine between both."""
    gradient, other = list(gradient), list(other)
    length = norm(gradient)
    return {
        "norm": length,
        "change": norm(a.double() - b.double() for a, b in zip(gradient, other, strict=True)),
        "cosine": ratio(dot(gradient, other), length * norm(other)),
    }


def ratio(numerator: float, denominator: float) -> float | None:
    """Return a quotient, or None where the denominator is 0."""
    return numerator / denominator if denominator else None
