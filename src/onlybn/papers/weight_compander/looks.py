"""How the methods look in every figure."""

from collections.abc import Iterable
from itertools import cycle

from onlybn.drawing.looks import COLOURS, OTHER_COLOURS, OTHER_MARKS, Look
from onlybn.papers.weight_compander.functions import METHODS, PARTS, parsed

_METHODS = {
    "none": (COLOURS[7], "o"),
    "arctan": (COLOURS[0], "D"),
    "linear": (COLOURS[1], "s"),
    "powerpropagation": (COLOURS[3], "v"),
    "weight-norm": (COLOURS[2], "^"),
    "arsinh": (COLOURS[9], "<"),
    "erf": (COLOURS[4], ">"),
    "arctan-fine": (COLOURS[5], "P"),
    "arctan-coarse": (COLOURS[6], "X"),
}


def ordered(names: Iterable[str]) -> list[str]:
    """Return names of functions, once each: the baseline, the paper's methods, then others."""
    methods, parts = list(METHODS), list(PARTS)

    def place(name: str) -> tuple:
        function = parsed(name)
        method = methods.index(function.method) if function.method in methods else len(methods)
        return method, parts.index(function.part), function.numbers, name

    return sorted(set(names), key=place)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return the look of each function, in their order; methods that the paper lacks get other colours."""
    others = zip(cycle(OTHER_COLOURS), cycle(OTHER_MARKS), strict=False)
    found = {}
    for name in ordered(names):
        function = parsed(name)
        colour, mark = _METHODS.get(function.method) or next(others)
        found[name] = Look(function.label, colour, mark)
    return found
