"""Steps of replicates that train side by side: one after the other, or as one CUDA graph."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
Branch = Callable[[], None]


class Trained(Protocol):
    """The part of a replicate that steps use."""

    def step(self, images: Tensor, labels: Tensor, whole: int, rate: float | Tensor) -> None:
        """Train on a batch, or on a part of a batch that has `whole` examples.

        Does not wait for the device, unless an observer looks at this step.
        """

    def moved(self) -> list[Tensor]:
        """Return every tensor that a step changes; their addresses stay the same."""


class EagerSteps:
    """Steps of replicates one after the other, operation by operation."""

    def __init__(self, replicates: Sequence[Trained]):
        self.replicates = replicates

    def __call__(
        self, batches: Sequence[Batch], whole: int, rate: float | Tensor, *, eagerly: bool = True
    ) -> None:
        """Train each replicate on its batch."""
        for replicate, (images, labels) in zip(self.replicates, batches, strict=True):
            replicate.step(images, labels, whole, rate)


class CudaRecorder:
    """Records branches as a CUDA graph, each on its own stream or all on one; its graphs share memory.

    On one stream, each branch reuses the memory of the previous one.
    """

    def __init__(self, *, at_once: bool = True):
        self.at_once = at_once
        self.streams: list[torch.cuda.Stream] = []
        self.pool = None

    def __call__(self, branches: Sequence[Branch]) -> Branch:
        """Record the branches; return a function that replays them.

        Before, the branches run three times outside the graph, so that libraries choose their algorithms and
        allocate their workspaces.
        """
        if not self.streams:
            some = [torch.cuda.Stream() for _ in (branches if self.at_once else branches[:1])]
            self.streams = some if self.at_once else some * len(branches)

        def run() -> None:
            main = torch.cuda.current_stream()
            for stream, branch in zip(self.streams, branches, strict=True):
                stream.wait_stream(main)
                with torch.cuda.stream(stream):
                    branch()
            for stream in self.streams:
                main.wait_stream(stream)

        for _ in range(3):
            run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that pin memory for photographs, may use CUDA meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            run()
        self.pool = graph.pool()
        return graph.replay


class GraphSteps:
    """Steps of all replicates as one recorded graph for each batch size.

    A graph costs the host one call instead of one for each of thousands of small kernels, and the branches of
    small networks run concurrently. It differs from `EagerSteps` only in the rounding of the rate; an eager
    step of this class rounds the rate in the same way.
    """

    def __init__(
        self,
        replicates: Sequence[Trained],
        device: torch.device,
        record: Callable[[Sequence[Branch]], Branch] | None = None,
    ):
        self.replicates = replicates
        self.eager = EagerSteps(replicates)
        self.rate = torch.zeros((), device=device)
        self.record = record or CudaRecorder()
        self.recorded: dict[int, tuple[list[Batch], Branch]] = {}

    def __call__(self, batches: Sequence[Batch], whole: int, rate: float, *, eagerly: bool = False) -> None:
        """Train each replicate on its batch."""
        self.rate.fill_(rate)
        if eagerly:
            self.eager(batches, whole, self.rate)
            return
        if whole not in self.recorded:
            self.recorded[whole] = self._record(batches, whole)
        inputs, replay = self.recorded[whole]
        for (images, labels), (recorded_images, recorded_labels) in zip(batches, inputs, strict=True):
            recorded_images.copy_(images)
            recorded_labels.copy_(labels)
        replay()

    def _record(self, batches: Sequence[Batch], whole: int) -> tuple[list[Batch], Branch]:
        inputs = [(images.clone(), labels.clone()) for images, labels in batches]
        branches = [
            partial(replicate.step, *batch, whole, self.rate)
            for replicate, batch in zip(self.replicates, inputs, strict=True)
        ]
        # Recording really takes steps, so restore what they changed.
        moved = [tensor for replicate in self.replicates for tensor in replicate.moved()]
        before = [tensor.clone() for tensor in moved]
        replay = self.record(branches)
        with torch.no_grad():
            for tensor, value in zip(moved, before, strict=True):
                tensor.copy_(value)
        return inputs, replay
