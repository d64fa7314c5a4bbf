"""Functions w = Ψ(v) through which weights train (Weight Compander, Section 3).

Each is a module in the convention of `torch.nn.utils.parametrize`: `forward` maps the trained values to the
weight, and `right_inverse` a weight to the values at which it starts.
"""

import math

import torch
from torch import Tensor, nn


class Elementwise(nn.Module):
    """A fixed function of each weight alone: v has the shape of w. Weight decay acts on w.

    Every |w| stays below `limit`, which is A · `scale` where the function has a parameter A, else infinite.
    """

    scale = math.inf
    a = b = math.nan

    @property
    def limit(self) -> float:
        """The least upper bound of |w|."""
        return math.inf if math.isinf(self.scale) else self.a * self.scale

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight Ψ(v)."""
        raise NotImplementedError

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for a weight within the limit."""
        raise NotImplementedError

    def slope(self, v: Tensor) -> Tensor:
        """Return Ψ′(v)."""
        raise NotImplementedError


class _Companding(Elementwise):
    """A function of v / b, times a: its parameters a and b are numbers above 0."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = a, b


class Arctan(_Companding):
    """Ψ(v) = a · arctan(v / b), the compander: slope a / b at 0, and |w| < a · π / 2."""

    scale = math.pi / 2

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight Ψ(v)."""
        return self.a * torch.atan(v / self.b)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for a weight within the limit."""
        return self.b * torch.tan(weight / self.a)

    def slope(self, v: Tensor) -> Tensor:
        """Return Ψ′(v)."""
        return self.a / self.b / (1 + (v / self.b).square())


class Arsinh(_Companding):
    """Ψ(v) = a · arsinh(v / b): slope a / b at 0, without bound (Table VII)."""

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight Ψ(v)."""
        size = v.abs() / self.b
        # As torch.asinh, which computes one number at a time on a CPU.
        grown = torch.log1p(size + size.square() / (1 + torch.sqrt(1 + size.square())))
        return self.a * grown.copysign(v)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for a weight."""
        return self.b * torch.sinh(weight / self.a)

    def slope(self, v: Tensor) -> Tensor:
        """Return Ψ′(v)."""
        return self.a / self.b * torch.rsqrt(1 + (v / self.b).square())


class Erf(_Companding):
    """Ψ(v) = a · erf(v / b): slope 1.13 · a / b at 0, and |w| < a (Table VII)."""

    scale = 1.0

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight Ψ(v)."""
        return self.a * torch.erf(v / self.b)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for a weight within the limit."""
        return self.b * torch.erfinv(weight / self.a)

    def slope(self, v: Tensor) -> Tensor:
        """Return Ψ′(v)."""
        steepest = 2 * self.a / (self.b * math.sqrt(math.pi))
        return steepest * torch.exp(-(v / self.b).square())


class PowerPropagation(Elementwise):
    """Ψ(v) = v · |v|^(α − 1), with α of at least 1 (Schwarz et al., 2021)."""

    def __init__(self, alpha: float):
        super().__init__()
        self.alpha = alpha

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight Ψ(v)."""
        return v.abs().pow(self.alpha).copysign(v)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for a weight."""
        return weight.abs().pow(1 / self.alpha).copysign(weight)

    def slope(self, v: Tensor) -> Tensor:
        """Return Ψ′(v), written out: autograd's would be 0 · ∞ at v = 0 for α below 2."""
        return self.alpha * v.abs().pow(self.alpha - 1)


class Linear(Elementwise):
    """Ψ(v) = S · v: SGD then moves the weight with S² times the learning rate, a control for other Ψ."""

    def __init__(self, scale: float):
        super().__init__()
        self.factor = scale

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight Ψ(v)."""
        return self.factor * v

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for a weight."""
        return weight / self.factor

    def slope(self, v: Tensor) -> Tensor:
        """Return Ψ′(v)."""
        return torch.full_like(v, self.factor)


class LearnedArctan(nn.Module):
    """Ψ(v) = a · arctan(v / b) with trained a and b, float32 scalars without decay; v itself decays.

    Nothing keeps a and b above 0.
    """

    scale = math.pi / 2

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(start)) for start in (a, b))

    @property
    def limit(self) -> float:
        """The least upper bound of |w|, with the present a."""
        return abs(self.a.item()) * self.scale

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight Ψ(v)."""
        return self.a * torch.atan(v / self.b)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return v for a weight within the limit."""
        a, b = self.a.detach(), self.b.detach()
        return b * torch.tan(weight / a)

    def slope(self, v: Tensor) -> Tensor:
        """Return Ψ′(v)."""
        a, b = self.a.detach(), self.b.detach()
        return a / b / (1 + (v / b).square())

    def pulled(self, gradient: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of v, a and b for the weight's, as autograd does in twice the time."""
        scaled = v / self.b.detach()
        of_v = gradient * self.slope(v)
        return of_v, (gradient * torch.atan(scaled)).sum(), -(of_v * scaled).sum()


class WeightNorm(nn.Module):
    """w = g · v / ‖v‖ for each output channel, as torch's weight_norm; g and v train and decay.

    (Salimans & Kingma, 2016.)
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Return the weight, (outputs, …), from g, (outputs, 1, …), and v, of the weight's shape."""
        return torch._weight_norm(v, g, 0)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return g = ‖w‖ and v = w."""
        return torch.norm_except_dim(weight, 2, 0), weight
