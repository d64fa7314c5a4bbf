"""The loop to compare with, as a textbook writes it: PIL transforms, DataLoader, float32, NCHW, eager."""

import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from onlybn.training import draw


class Pictures(Dataset):
    """uint8 images (examples, height, width, channels) given one by one as PIL images, like torchvision's."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: v2.Transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[place])), int(self.labels[place])


def milliseconds_per_step(run, images: np.ndarray, labels: np.ndarray, steps: int, device: str) -> float:
    """Train for that many steps after two that are not timed; return the mean time of one."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    training = run.training
    loader = DataLoader(
        Pictures(images, labels, transform), training.batch_size, shuffle=True, drop_last=True
    )
    network, trained = draw(run, channels=3, classes=10)
    network.to(device).train()
    optimiser = torch.optim.SGD(
        trained.values(),
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    criterion = nn.CrossEntropyLoss()
    done, started, total, correct = 0, 0.0, 0.0, 0
    while True:
        for batch, target in loader:
            if done == 2:
                started = time.perf_counter()
            if done == steps + 2:
                return (time.perf_counter() - started) / steps * 1_000
            batch, target = batch.to(device), target.to(device)
            optimiser.zero_grad()
            logits = network(batch)
            loss = criterion(logits, target)
            loss.backward()
            optimiser.step()
            total += loss.item()
            correct += (logits.argmax(1) == target).sum().item()
            done += 1
