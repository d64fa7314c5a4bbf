"""What the paper gives as numbers beside its claims: schedules, networks, tolerances (Appendix B)."""

from onlybn import custom
from onlybn.datasets import known
from onlybn.judging import Published, Setting

# Schedules as published (Appendix B): what of a run's training must agree for its values to be judged.
CIFAR10_TRAINING = {
    "epochs": 160,
    "batch_size": 128,
    "learning_rate": 0.1,
    "milestones": [80, 120],
    "divide_by": 10,
    "warmup": 0,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "shift": 0.125,
    "flip": True,
}
IMAGENET_TRAINING = CIFAR10_TRAINING | {
    "shift": 0,
    "epochs": 90,
    "batch_size": 1024,
    "learning_rate": 0.4,
    "milestones": [30, 60, 80],
    "warmup": 5,
}


def _stands_for(dataset: str) -> str | None:
    """Photographs stand in for ImageNet and other images for CIFAR-10, but for the user's own."""
    if custom.is_custom(dataset):
        return None
    return "ImageNet" if known(dataset).photographs else "CIFAR-10"


PUBLISHED = Published(
    {
        "cifar10": Setting("CIFAR-10", CIFAR10_TRAINING),
        "cifar10-jpeg": Setting("CIFAR-10", CIFAR10_TRAINING, "on JPEG-coded images"),
        "imagenet": Setting("ImageNet", IMAGENET_TRAINING),
    },
    _stands_for,
)
# How many networks of each family the paper has.
NETWORKS = {"resnet": 7, "wrn": 5, "vgg": 4, "imagenet-resnet": 5}
# The share of γ near 0, and so of the features that clamping there disables: "a quarter to a half", printed
# as 24 to 38 % too.
NEAR_ZERO = (23.5, 50.5)
