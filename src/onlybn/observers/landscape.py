"""Loss and gradient along the gradient and random directions (Santurkar et al., Section 3.1, Figure 4)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator, Field

from onlybn.observers import probes
from onlybn.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor

    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run

COLUMNS = ("factor", "learning_rate", "loss", "decay", "gradient_change", "gradient_norm", "beta", "cosine")
SCHEMA = pa.schema(
    [
        *probes.WHEN,
        ("direction", pa.dictionary(pa.int32(), pa.string())),
        *((column, pa.float64()) for column in COLUMNS),
    ]
)


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) else value  # YAML reads 1e-2 as text


Factor = Annotated[float, BeforeValidator(_number), Field(strict=True, gt=0, allow_inf_nan=False)]


class Options(probes.Options):
    """When to record the landscape, at which step sizes, and along how many random directions."""

    factors: Annotated[
        list[Factor],
        Field(min_length=1),
        AfterValidator(probes.different),
    ] = Field(default=[0.5, 1.0, 2.0, 4.0], description="a list of different numbers above 0")
    random: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=0, description="a number of directions of at least 0"
    )


class Recorder(probes.Regular):
    """Records the loss of the step's batch and its gradient at W − η · d, for each direction d.

    W is all that trains, g its gradient in the step, and η a factor times the step's learning rate. The first
    direction is g; the others are Gaussian, drawn by the seed for each step, with the length of g. The row of
    factor 0 is of W itself. `decay` is the weight decay's part of what training minimises, ½ λ ‖w‖², which is
    neither in `loss` nor in a gradient. `gradient_change` is the distance of the gradients at W − η · d and
    at W, `cosine` the cosine between them, and `beta` is `gradient_change` / (η ‖d‖). A weight that trains
    through a function is seen as an ordinary weight.

    Of a network without convolutions all of this is computed in float64: at η = 0.01 · 1e-6, float32 would
    round a step to another direction and length. Convolutions take many times as long in float64.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        from torch import nn

        super().__init__(steps_per_epoch, options["every"])
        self.seed, self.decay = run.seed, run.training.weight_decay
        self.factors, self.random = options["factors"], options["random"]
        convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        self.exact = not any(isinstance(module, convolutions) for module in network.modules())

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for each direction and factor, and for each direction one of factor 0."""
        moment = probes.in_float64(moment) if self.exact else moment
        parameters = probes.trained(moment.network)
        gradient = {name: moment.gradients[name] for name in parameters}
        length = probes.norm(gradient.values())
        rows = []
        for direction, along in self._directions(gradient, length, self.when(moment)["step"]):
            for factor in (0.0, *self.factors):
                size = factor * moment.rate
                probes.assign(
                    moment.network,
                    {name: moment.before[name].sub(d, alpha=size) for name, d in along.items()},
                )
                loss, there = moment.loss.item(), gradient.values()
                if factor:
                    loss, there = probes.gradients(moment, parameters.values())
                found = probes.compared(gradient.values(), there)
                row = {"direction": direction, "factor": factor, "learning_rate": moment.rate, "loss": loss}
                row |= {"decay": self.decay / 2 * probes.norm(parameters.values()) ** 2}
                row |= {"gradient_change": found["change"], "gradient_norm": length}
                row |= {"beta": probes.ratio(found["change"], size * length), "cosine": found["cosine"]}
                rows.append(self.when(moment) | row)
        return rows

    def _directions(
        self, gradient: "Mapping[str, Tensor]", length: float, step: int
    ) -> "Iterator[tuple[str, Mapping[str, Tensor]]]":
        """Yield the name of each direction, and the direction by name of the parameter."""
        import torch

        yield "gradient", gradient
        for number in range(1, self.random + 1):
            rng = generator(self.seed, "landscape", step, number)
            drawn = {
                name: torch.from_numpy(rng.standard_normal(tuple(tensor.shape), dtype="float32")).to(tensor)
                for name, tensor in gradient.items()
            }
            scale = length / probes.norm(drawn.values())
            yield f"random-{number}", {name: tensor.mul_(scale) for name, tensor in drawn.items()}
