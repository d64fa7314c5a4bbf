"""Whether a study's runs can be trained and recorded as it asks; torch is imported if needed."""

from collections.abc import Iterable
from functools import cache, partial
from typing import TYPE_CHECKING

from onlybn import custom, datasets, models
from onlybn.axes import NORMALISATION
from onlybn.errors import UserError
from onlybn.networks import regimes
from onlybn.study import Study

if TYPE_CHECKING:
    from onlybn.models.network import Network


def check_fits(study: Study) -> None:
    """Raise UserError, with a sentence for each misfit, if a built-in architecture cannot train a run.

    A recording at an epoch that a run does not reach, or of a layer that its network lacks, is a misfit too.
    Custom code is not run: its runs are checked in their jobs.
    """
    misfits: set[str] = set()
    checked: set[tuple] = set()
    network = cache(_of_dataset)
    shown = {experiment: study.kinds_shown(experiment) for experiment in study.experiments}
    for experiment, run in ((name, run) for name in study.experiments for run in study.points(name)):
        if any(map(custom.is_custom, (run.architecture, run.dataset))):
            continue
        built = run.value(NORMALISATION), run.architecture, run.dataset
        misfits |= {*study.unrecordable(run, partial(network, *built))}
        if "activations" in shown[experiment] and not models.architecture(run.architecture).has_relu:
            misfits.add(f"{run.architecture} has no ReLU, whose activations a figure or table shows")
        is_convolutional = models.architecture(run.architecture).has_convolutions
        if regimes.trains_entries(run.regime) and not is_convolutional:
            misfits.add(regimes.without_convolutions(run.regime, run.architecture))
        batch = run.training.smallest_batch(datasets.known(run.dataset).examples[0])
        batch //= study.processes_per_run  # of the process with the fewest
        if (run.structure or not is_convolutional) and (*built, batch) not in checked:
            checked.add((*built, batch))
            try:
                shape = datasets.shape(datasets.known(run.dataset))
                check_normalisation(*built[:2], **shape, batches=[batch])
            except UserError as error:
                misfits.add(str(error))
    if misfits:
        raise UserError("\n".join(f"study: {misfit}" for misfit in sorted(misfits)))


def _of_dataset(normalisation: str, architecture: str, dataset: str) -> "Network":
    return _network(normalisation, architecture, **datasets.shape(datasets.known(dataset)))


def _network(normalisation: str, architecture: str, *, channels: int, classes: int, size: int) -> "Network":
    """Return a network with weights that are not drawn."""
    from onlybn.networks.draw import build
    from onlybn.networks.variants import allocate

    network = build(architecture, normalisation, channels=channels, classes=classes, size=size)
    allocate(network)
    return network


def check_normalisation(
    normalisation: str, architecture: str, *, channels: int, classes: int, size: int, batches: Iterable[int]
) -> None:
    """Raise UserError, in one sentence, if an architecture cannot train with a normalisation.

    Images have `channels` and `size` × `size` pixels; `batches` are the numbers of images in a batch.
    """
    import torch
    from torch import nn

    from onlybn.models.normalisations import normalised_together

    network = _network(normalisation, architecture, channels=channels, classes=classes, size=size).eval()
    names = {layer: name for name, layer in network.named_normalisations()}
    batch = min(batches)

    def check(layer: nn.Module, given: tuple[torch.Tensor]) -> None:
        if normalised_together(layer, (batch, *given[0].shape[1:])) < 2:
            raise UserError(
                f"{normalisation} does not fit {architecture} on images of {size}×{size} pixels in batches of"
                f" {batch}: {names[layer]} would normalise a single value, which has no variance; choose"
                " larger groups, batches or images, or another normalisation"
            )

    for layer in names:
        layer.register_forward_pre_hook(check)
    with torch.no_grad():
        network(torch.zeros(1, channels, size, size))
