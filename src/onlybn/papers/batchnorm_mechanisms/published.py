"""What the works give as numbers beside their claims: settings."""

from onlybn.judging import Published, Setting

PLAIN_SGD = {
    "milestones": [],
    "divide_by": 10,
    "warmup": 0,
    "momentum": 0,
    "weight_decay": 0,
    "shift": 0,
    "flip": False,
}
# [I] Section 4.1; [S] Section 2.1, with the weight decay that its Figure 4 shows; [S] Section 2.2.
MNIST = PLAIN_SGD | {"steps": 50_000, "batch_size": 60}
CIFAR10 = PLAIN_SGD | {"steps": 15_000, "batch_size": 128, "weight_decay": 5e-4}
DEEP_LINEAR = PLAIN_SGD | {"steps": 10_000, "batch_size": 1_000, "loss": "squared-error"}
FREE = ("learning_rate", "test_every")


def _stands_for(dataset: str) -> None:
    """No dataset stands in for another: the claims say which runs they are about."""


PUBLISHED = Published(
    {
        "mnist-binary": Setting("MNIST", MNIST, free=FREE),
        "cifar10": Setting("CIFAR-10", CIFAR10, free=FREE),
        "cifar10-jpeg": Setting("CIFAR-10", CIFAR10, "on JPEG-coded images", free=FREE),
        "deep-linear": Setting("synthetic", DEEP_LINEAR, free=FREE),
    },
    _stands_for,
)
