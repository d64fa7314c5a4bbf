"""The textbook loop to compare with: PIL transforms, DataLoader, float32, NCHW, eager."""

import time
from statistics import median

import numpy as np
import torch
from engine import random_images
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from onlybn.networks.draw import draw
from onlybn.study import Run


class Pictures(Dataset):
    """uint8 images (examples, height, width, channels) as single PIL images, like torchvision's datasets."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: v2.Transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[place])), int(self.labels[place])


def milliseconds(run: Run, device: str, steps: int) -> float:
    """Train for some steps after two untimed ones; return the median time of a step."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    torch.backends.cudnn.allow_tf32 = True  # torch's default, which this project's modules turn off
    training = run.training
    split = random_images("cifar10", training.batch_size * (steps + 2), 1, torch.device("cpu")).train
    pictures = Pictures(split.images.numpy(), split.labels.numpy(), transform)
    loader = iter(DataLoader(pictures, training.batch_size, shuffle=True))
    network, trained = draw(run, channels=3, classes=10)
    network.to(device).train()
    optimiser = torch.optim.SGD(
        trained.values(),
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    criterion = nn.CrossEntropyLoss()
    times = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        batch, target = next(loader)
        batch, target = batch.to(device), target.to(device)
        optimiser.zero_grad()
        logits = network(batch)
        loss = criterion(logits, target)
        loss.backward()
        optimiser.step()
        loss.item()
        (logits.argmax(1) == target).sum().item()
        times.append((time.perf_counter() - started) * 1_000)
    return median(times[2:])
