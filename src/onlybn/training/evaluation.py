"""Loss and accuracy of a network, accumulated on its device."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlybn.datasets import Targets
from onlybn.datasets.images import Images
from onlybn.distributed import ALONE, Group
from onlybn.models.network import Network

# Images per test batch, by device; this only changes the speed.
TEST_BATCH = {"cpu": 128, "cuda": 1_000}

# By default cuDNN computes float32 convolutions in TF32, which rounds their inputs to 10 bits.
torch.backends.cudnn.allow_tf32 = False


@torch.no_grad()
def evaluate(
    network: Network,
    images: Images,
    *,
    precision: torch.dtype = torch.float32,
    group: Group = ALONE,
    before_batch: Callable[[], None] = lambda: None,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """Test on the test images, with BatchNorm's running statistics; return `Measures.averages`.

    `forward` maps images to logits in place of the network, in a precision of its own; by default the network
    itself is called, in `precision`.
    """
    network.eval()
    measures = Measures(images.device, images.targets)
    arithmetic = arithmetic_in(precision, images.device) if forward is None else nullcontext()
    with nn.utils.parametrize.cached():
        for batch, labels in images.test_batches(TEST_BATCH[images.device.type], group):
            before_batch()
            if len(labels):  # a process of a group may have no part of a small last batch
                with arithmetic:
                    logits = (forward or network)(batch)
                measures.add(batch_loss(logits, labels), logits, labels)
    return measures.averages(group)


def batch_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return a batch's loss, which is what training minimises.

    It is the mean cross-entropy, in nats, if the labels are classes, int64 (batch,), and half the sum of
    squared errors if they are numbers, (batch, numbers) of the shape of the logits. It is computed in float32
    at least.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if labels.is_floating_point():
        return F.mse_loss(logits, labels, reduction="sum") / 2
    return F.cross_entropy(logits, labels)


def arithmetic_in(precision: torch.dtype, device: torch.device) -> torch.autocast:
    """Return the context in which networks on this device compute activations in this precision."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


class Measures:
    """Adds up examples, loss and hits on the device, so that the host waits only once, at the end."""

    def __init__(self, device: torch.device, targets: Targets = "classes"):
        self.targets = targets
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)

    def clear(self) -> None:
        """Reset the sums."""
        self.sums.zero_()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its `batch_loss`, logits (batch, classes) and labels."""
        examples = len(labels)
        self.sums[0] += examples
        if self.targets == "numbers":
            self.sums[1] += loss.double()
            return
        # Count the classes ranked before the label, ties in the order of classes: 0 is a hit for top-1, up to
        # 4 for top-5. Written so that a logit that is not a number never gives a hit.
        correct = logits.gather(1, labels[:, None])
        classes = torch.arange(logits.shape[1], device=labels.device)
        after = (logits < correct) | ((logits == correct) & (classes >= labels[:, None]))
        better = len(classes) - after.sum(dim=1)
        self.sums[1] += loss.double() * examples
        self.sums[2] += (better < 1).sum()
        self.sums[3] += (better < 5).sum()

    def averages(self, group: Group = ALONE) -> dict[str, float | None]:
        """Return the loss per example of a group, in nats, and top-1 and top-5 accuracy, in percent.

        The accuracies are None if the targets are numbers.
        """
        examples, loss, *hits = group.total(self.sums.clone()).tolist()
        has_hits = self.targets == "classes"
        top_1, top_5 = (100 * hit / examples if has_hits else None for hit in hits)
        return {"loss": loss / examples, "top_1": top_1, "top_5": top_5}
