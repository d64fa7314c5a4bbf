"""Time the training loop on random images of a dataset's shape, which cost as much as real ones."""

import time
from collections.abc import Callable
from statistics import mean, median

import torch

from onlybn.datasets import DATASETS
from onlybn.datasets.small import SmallImages, Split
from onlybn.devices import choose_precision
from onlybn.distributed import ALONE
from onlybn.jobs import keep_freed_memory
from onlybn.study import Run
from onlybn.training.evaluation import TEST_BATCH, evaluate
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import _steps


def random_images(dataset: str, examples: int, test_examples: int, device: torch.device) -> SmallImages:
    """Return random bytes in the shape of a dataset's images, or floats where its targets are numbers."""
    facts = DATASETS[dataset]
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        shape = (count, facts.size, facts.size, facts.channels)
        if facts.targets == "numbers":
            drawn = (torch.randn(*some, generator=generator) for some in (shape, (count, facts.classes)))
            return Split(*(tensor.to(device) for tensor in drawn))
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, facts.classes, (count,), generator=generator)
        return Split(pixels.to(device), labels.to(device))

    return SmallImages(
        train=split(examples),
        test=split(test_examples),
        device=device,
        examples=examples,
        channels=facts.channels,
        targets=facts.targets,
        classes=facts.classes,
        mean=[0.5] * facts.channels,
        std=[0.25] * facts.channels,
        checksum="",
    )


ROUNDS = 3


def milliseconds(runs: list[Run], device: str, steps: int) -> dict[str, float]:
    """Return the milliseconds of a step of all replicates together, and of testing one image.

    Each is the median of three rounds after two steps and a test; every round ends by waiting for the device.
    A round takes `steps`, or as many as half a second has room for.
    """
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True
    place = torch.device(device)
    training = runs[0].training
    tested = TEST_BATCH[place.type]
    images = random_images(runs[0].dataset, training.batch_size * (ROUNDS * steps + 2), tested, place)
    precision = choose_precision(training.precision, place)
    replicates = [LiveRun(run, images, precision) for run in runs]
    take = _steps(replicates, place, ALONE)

    def train(count: int) -> None:
        for _ in range(count):
            batches = [replicate.next_batch() for replicate in replicates]
            take(batches, training.batch_size, training.learning_rate)
            for replicate in replicates:
                replicate.step_ended()
        replicates[0].measures.averages()  # waits for the device

    def test() -> None:
        evaluate(replicates[0].network, images, precision=precision)

    steps = max(steps, round(500 / (_timed(lambda: train(2)) / 2)))
    trained = median(_timed(lambda: train(steps)) for _ in range(ROUNDS)) / steps
    test()
    return {"step": trained, "test": median(_timed(test) for _ in range(ROUNDS)) / tested}


def _timed(work) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1_000


def block(
    run: Run, steps: int, *, blocks: int, device: str, recordings: dict | None = None
) -> Callable[[], float]:
    """Return a function that takes some steps of a new run and returns the seconds of one.

    It can be called `blocks` times, and was called once before.
    """
    keep_freed_memory()
    place, training = torch.device(device), run.training
    batch, precision = training.batch_size, choose_precision(training.precision, place)
    images = random_images(run.dataset, batch * (blocks + 1) * steps, batch, place)
    live = LiveRun(run, images, precision, recordings=recordings)
    take = _steps([live], place, ALONE)

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            take([live.next_batch()], batch, training.learning_rate, eagerly=live.is_watched)
            live.step_ended()
        live.measures.averages()  # waits for the device
        return (time.perf_counter() - started) / steps

    seconds()
    return seconds


def alternate(
    baseline: Callable[[], float], others: dict[str, Callable[[], float]], rounds: int
) -> tuple[list[float], dict[str, list[float]]]:
    """Call all functions in each round, the baseline first and last: a change of speed hits all alike.

    Return what the baseline returned in each round, on average, and what each of the others did.
    """
    first, found = [], {name: [] for name in others}
    for _ in range(rounds):
        before = baseline()
        for name, other in others.items():
            found[name].append(other())
        first.append(mean((before, baseline())))
    return first, found
