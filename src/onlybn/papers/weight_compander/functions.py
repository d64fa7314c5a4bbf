"""The names of reparametrisations, and the functions Ψ of a single weight in NumPy (Figure 2)."""

import re
from dataclasses import dataclass

import numpy as np
from scipy import special

BASELINE = "none"
# What a name begins with, and how readers know the method.
METHODS = {
    BASELINE: "baseline",
    "arctan": "Weight Compander",
    "linear": "linear control",
    "powerpropagation": "Powerpropagation",
    "weight-norm": "weight normalisation",
    "arsinh": "arsinh",
    "erf": "erf",
    "arctan-fine": "learned, fine",
    "arctan-coarse": "learned, coarse",
}
PARTS = {"": "", "first": ", first convolution", "but-last": ", all but the last layer"}
LEARNED = ("arctan-fine", "arctan-coarse")


@dataclass(frozen=True)
class Function:
    """A reparametrisation's name in its parts: the method, its numbers, and the part of the network."""

    method: str
    numbers: tuple[float, ...] = ()
    part: str = ""

    @property
    def told(self) -> str:
        """The numbers as shown to a reader."""
        names = {1: {"powerpropagation": ["α"]}.get(self.method, ["S"]), 2: ["a", "b"]}
        told = zip(names.get(len(self.numbers), []), self.numbers, strict=False)
        at_start = "start " if self.method in LEARNED and self.numbers else ""
        return at_start + ", ".join(f"{name} = {number:g}" for name, number in told)

    @property
    def label(self) -> str:
        """The name as shown to a reader."""
        whole = METHODS.get(self.method, self.method)
        return whole + (f" ({self.told})" if self.told else "") + PARTS[self.part]


def parsed(name: str) -> Function:
    """Return a reparametrisation's name in its parts; a custom one is a method of its own."""
    found = re.fullmatch(r"([a-z]+(?:-[a-z]+)*?)((?:-[\d.]+)*)(?:-(first|but-last))?", name)
    if found is None:
        return Function(name)
    method, numbers, part = found.groups()
    return Function(method, tuple(map(float, numbers.split("-")[1:])), part or "")


def curve(name: str, v: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return Ψ(v) and Ψ′(v); None for a function that is learned, or not of a single weight."""
    match parsed(name):
        case Function(method="none"):
            return v, np.ones_like(v)
        case Function(method="linear", numbers=(scale,)):
            return scale * v, np.full_like(v, scale)
        case Function(method="powerpropagation", numbers=(alpha,)):
            return v * np.abs(v) ** (alpha - 1), alpha * np.abs(v) ** (alpha - 1)
        case Function(method="arctan", numbers=(a, b)):
            return a * np.arctan(v / b), a / b / (1 + (v / b) ** 2)
        case Function(method="arsinh", numbers=(a, b)):
            return a * np.arcsinh(v / b), a / np.sqrt(b**2 + v**2)
        case Function(method="erf", numbers=(a, b)):
            return a * special.erf(v / b), 2 * a / (b * np.sqrt(np.pi)) * np.exp(-((v / b) ** 2))
    return None
