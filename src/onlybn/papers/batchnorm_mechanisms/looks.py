"""How the normalisations look in every figure."""

import math
import re
from collections.abc import Iterable
from itertools import cycle

import seaborn as sns

from onlybn.drawing.looks import COLOURS, OTHER_COLOURS, OTHER_MARKS, Look

BATCHNORM, NONE = "batchnorm", "none"
_LOOKS = {
    NONE: Look("none", "0.25", "s"),
    "none-noisy": Look("noise alone", COLOURS[5], "v"),
    BATCHNORM: Look("BatchNorm", COLOURS[0], "o"),
    "batchnorm-noisy": Look("noisy BatchNorm", COLOURS[1], "^"),
    "batchnorm-after": Look("BatchNorm after", COLOURS[3], "D"),
    "l1": Look("ℓ1", COLOURS[2], "<"),
    "l2": Look("ℓ2", COLOURS[4], ">"),
    "linf": Look("ℓ∞", COLOURS[9], "P"),
    "layernorm": Look("LayerNorm", "#882255", "p"),
    "instancenorm": Look("InstanceNorm", "#999933", "*"),
}
# Normalisations with a number: the label before it, the shades from a small number to a large one, the mark.
_NUMBERED = {
    "groupnorm": ("GroupNorm", ("0.75", "0.45"), "h"),
    "ghost": ("ghost", (sns.light_palette(COLOURS[0], 4)[1], COLOURS[0]), "d"),
}
_SHADES = 9  # for numbers up to 2⁸


def numbered(name: str) -> tuple[str, int] | None:
    """Return the kind and the number of a normalisation such as `ghost-16`; None if it has no number."""
    found = re.fullmatch(r"([a-z]+)-(\d+)", name)
    return (found[1], int(found[2])) if found and found[1] in _NUMBERED else None


def ordered(names: Iterable[str]) -> list[str]:
    """Return names of normalisations, once each: the papers', then those with a number, then others."""
    known, kinds = list(_LOOKS), list(_NUMBERED)

    def place(name: str) -> tuple:
        if name in known:
            return 0, known.index(name), 0, ""
        kind, number = numbered(name) or ("", 0)
        return (1, kinds.index(kind), number, "") if kind else (2, 0, 0, name)

    return sorted(set(names), key=place)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return the look of each normalisation, in their order; those that no paper has get other colours."""
    others = zip(cycle(OTHER_COLOURS), cycle(OTHER_MARKS), strict=False)
    found = {}
    for name in ordered(names):
        if name in _LOOKS:
            found[name] = _LOOKS[name]
        elif of := numbered(name):
            label, ends, mark = _NUMBERED[of[0]]
            shade = min(_SHADES - 1, int(math.log2(of[1]))) if of[1] else 0
            found[name] = Look(f"{label} {of[1]}", sns.blend_palette(ends, _SHADES)[shade], mark)
        else:
            found[name] = Look(name, *next(others))
    return found


def label(name: str) -> str:
    """Return a normalisation as shown to a reader."""
    return looks([name])[name].label
