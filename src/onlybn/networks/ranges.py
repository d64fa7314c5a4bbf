"""Whether drawn weights fit the functions through which they train, for all seeds of a study at once."""

import math
from collections.abc import Iterator
from dataclasses import replace

from onlybn import custom, datasets
from onlybn.axes import REPARAMETRISATION
from onlybn.errors import UserError
from onlybn.networks.draw import draw
from onlybn.networks.reparametrise import check_range, function, layers_through, part_of
from onlybn.study import Run, Study

# The largest |w| of a draw, and the layer that has it.
Largest = tuple[float, str]


def check_ranges(study: Study) -> None:
    """Raise UserError, with a sentence for each misfit, if a drawn weight lies outside the range of its Ψ.

    Each sentence holds for all seeds of its runs. Custom code is not run: its runs are checked in their jobs.
    """
    points: dict[tuple, tuple[Run, dict[int, None]]] = {}
    for experiment in study.experiments:
        for run in study.points(experiment):
            name = run.value(REPARAMETRISATION)
            if name == REPARAMETRISATION.default or any(
                map(custom.is_custom, (name, run.architecture, run.regime, run.dataset))
            ):
                continue
            _, seeds = points.setdefault((run.dataset, *run.point), (run, {}))
            seeds |= dict.fromkeys(run.with_seed(seed).drawn_from for seed in study.seeds(experiment))
    drawn: dict[tuple, Largest] = {}  # shared by all functions on the same layers
    misfits = {line for run, seeds in points.values() for line in _misfits(run, list(seeds), drawn)}
    if misfits:
        raise UserError("\n".join(sorted(misfits)))


def _misfits(run: Run, seeds: list[int], drawn: dict[tuple, Largest]) -> Iterator[str]:
    name = run.value(REPARAMETRISATION)
    psi = function(name)
    if math.isinf(getattr(psi, "limit", math.inf)):
        return
    found = []
    for seed in seeds:
        key = (run.dataset, run.architecture, run.regime, run.variant, part_of(name), seed)
        if key not in drawn:
            drawn[key] = _largest(replace(run, values=(), seed=seed), name)
        found.append((*drawn[key], seed))
    largest, layer, seed = max(found)
    try:
        check_range(name, layer, largest, psi, f" in seed {seed} of {len(seeds)}" * (len(seeds) > 1))
    except UserError as error:
        yield f"study: {run.architecture} {run.variant}: {error}"


def _largest(run: Run, name: str) -> Largest:
    images = datasets.known(run.dataset)
    network, _ = draw(run, channels=images.channels, classes=images.classes, size=images.size)
    layers = layers_through(network, name)
    return max((float(layer.weight.detach().abs().max()), layer_name) for layer_name, layer in layers)
