"""Statistics: a finished network tested with other statistics of its normalisation, and on shifted images."""

from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor, nn

from onlybn.datasets.images import Images
from onlybn.models.network import Network
from onlybn.networks.state import running_statistics
from onlybn.networks.statistics import by_batch, pooled, reestimated, write
from onlybn.randomness import generator
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.evaluation import Measures, arithmetic_in, batch_loss

CLEAN = "clean"
# Batch sizes whose own statistics are tested, on clean and on shifted images, and those of a network without
# running statistics. The last batch may be partial; its statistics are its own.
SIZES, SIZES_SHIFTED = (1, 2, 8, 32, 128, 1_000), (32, 128)
SIZES_WITHOUT, SIZES_WITHOUT_SHIFTED = (1, 128), (128,)
# Images per batch wherever the size is no matter of the statistics, and in estimating them anew.
BATCH = 128
# Of more training images, or test images, so many are drawn, the same ones for every run.
MOST = 10_000
# Standard deviation of the noise, in units of the range of a pixel.
NOISE = 0.1


@torch.no_grad()
def statistics(network: Network, images: Images, *, precision: torch.dtype = torch.float32) -> pa.Table:
    """Return a row per shift, statistics and normalisation layer, in the order of the forward pass.

    The network stays in evaluation mode: only the statistics differ, and afterwards it has its own again.
    `running` are the statistics of training. `batch-N` are those of each batch of N test images. The others
    are estimated from the run's training images, without augmentation: `cumulative` and `pooled` as
    `onlybn.networks.statistics.reestimated` says, `pooled-shifted` from images that are shifted like the test
    images. Shifted images have fewer rows: no `cumulative`, and of the batches only some sizes. Networks
    without running statistics have only `running`, and `batch-1` and `batch-128` to compare.

    `apart` is the largest difference of a logit from that of `running`, on the same images. `not_finite`
    counts the images with a logit that is not finite, and `predicted` the classes that are. `largest`
    is the largest absolute output of the `layer`, γ and β included. A network without layers has one row with
    layer -1. Where the targets are numbers, there are no shifts and no classes.
    """
    network.eval()
    images = images.with_fewer_tests(MOST)
    training = images.unaugmented(MOST)
    arithmetic = arithmetic_in(precision, images.device)
    running = {name: tensor.clone() for name, tensor in running_statistics(network).items()}
    rows = []
    with arithmetic, nn.utils.parametrize.cached():
        clean = reestimated(network, _batches(training)) if running else {}
        for shift in (CLEAN, *(SHIFTS if images.targets == "classes" else ())):
            tested = partial(_tested, network, images, shift)
            written = {"running": running}
            if shift == CLEAN:
                written |= clean
            elif running:
                again = pooled(network, _batches(training, shift=shift))
                written |= {"pooled": clean["pooled"], "pooled-shifted": again}
            found = {}
            for name, values in written.items():
                write(network, values)
                found[name] = tested(BATCH)
            write(network, running)
            for size in _sizes(shift, bool(running)):
                with by_batch(network):
                    found[f"batch-{size}"] = tested(size)
            _, own = found["running"]
            for name, (layers, logits) in found.items():
                apart = (logits - own).abs().max().item()
                rows += [{"shift": shift, "statistics": name, "apart": apart, **layer} for layer in layers]
    return pa.Table.from_pylist(rows, SCHEMAS["statistics"])


def _sizes(shift: str, has_running: bool) -> tuple[int, ...]:
    if has_running:
        return SIZES if shift == CLEAN else SIZES_SHIFTED
    return SIZES_WITHOUT if shift == CLEAN else SIZES_WITHOUT_SHIFTED


def _tested(network: Network, images: Images, shift: str, size: int) -> tuple[list[dict], Tensor]:
    """Return what a test gives as a row per layer, and the logits, (images, classes)."""
    named = {layer: name for name, layer in network.named_normalisations()}
    layers = [layer for layer in network.normalisation_places() if layer in named]
    largest: dict[nn.Module, Tensor] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        here = output.abs().amax().float()
        largest[layer] = torch.maximum(largest.get(layer, here), here)  # a value that is no number stays

    hooks = [layer.register_forward_hook(look) for layer in layers]
    measures, collected = Measures(images.device, images.targets), []
    try:
        for batch, labels in _labelled_batches(images, size, shift):
            collected.append(network(batch).float())
            measures.add(batch_loss(collected[-1], labels), collected[-1], labels)
    finally:
        for hook in hooks:
            hook.remove()
    logits = torch.cat(collected)
    row = measures.averages() | {"not_finite": int((~logits.isfinite()).any(dim=1).sum()), "predicted": None}
    if images.targets == "classes":
        row["predicted"] = len(logits.argmax(dim=1).unique())
    if not layers:
        return [row | {"layer": -1}], logits
    return [
        row | {"layer": number, "name": named[layer], "largest": largest[layer].item()}
        for number, layer in enumerate(layers)
    ], logits


def _batches(images: Images, size: int = BATCH, shift: str = CLEAN) -> Iterator[Tensor]:
    return (batch for batch, _ in _labelled_batches(images, size, shift))


def _labelled_batches(images: Images, size: int, shift: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the test split in order, with shifted pixels, and labels; the last batch may be partial."""
    first = 0
    for batch, labels in images.test_batches(size):
        yield (batch if shift == CLEAN else shifted(images, batch, shift, first)), labels
        first += len(labels)


def shifted(images: Images, batch: Tensor, shift: str, first: int = 0) -> Tensor:
    """Shift the pixels, in [0, 1], of normalised images, (batch, channels, height, width).

    `first` is the place of the first image in its split: each image has noise of its own.
    """
    mean, std = (torch.tensor(of, device=batch.device)[:, None, None] for of in (images.mean, images.std))
    with torch.autocast(batch.device.type, enabled=False):  # it would round pixels that are blurred
        pixels = SHIFTS[shift](batch * std + mean, first).clamp(0, 1)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def _adjusted(adjust: str, factor: float, pixels: Tensor, first: int) -> Tensor:
    """Adjust by a function of torchvision, which knows images of one or three channels; others are grey."""
    from torchvision.transforms.v2 import functional

    shown = pixels if pixels.shape[1] in (1, 3) else pixels.flatten(0, 1)[:, None]
    return getattr(functional, adjust)(shown, factor).view(pixels.shape)


def _blurred(pixels: Tensor, first: int) -> Tensor:
    """Blur with a deviation of one pixel, by a kernel of 5×5, or less for smaller images."""
    from torchvision.transforms.v2.functional import gaussian_blur

    return gaussian_blur(pixels, kernel_size=2 * min(2, pixels.shape[-1] - 1) + 1, sigma=1.0)


def _noisy(pixels: Tensor, first: int) -> Tensor:
    noise = torch.empty(pixels.shape)
    for place, of_image in enumerate(noise, start=first):
        of_image.copy_(torch.from_numpy(generator(0, "noise", place).standard_normal(of_image.shape)))
    return pixels + NOISE * noise.to(pixels.device)


def _inverted(pixels: Tensor, first: int) -> Tensor:
    from torchvision.transforms.v2.functional import invert

    return invert(pixels)


# Functions of pixels in [0, 1], (batch, channels, height, width), and of the place of the first image.
SHIFTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "contrast-0.3": partial(_adjusted, "adjust_contrast", 0.3),
    "contrast-3": partial(_adjusted, "adjust_contrast", 3.0),
    "brightness": partial(_adjusted, "adjust_brightness", 1.5),
    "blur": _blurred,
    "noise": _noisy,
    "inversion": _inverted,
}
