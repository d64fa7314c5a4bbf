"""Checkpoints of unfinished runs: a killed job resumes from them, with byte-identical results."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from onlybn.datasets.images import Images
from onlybn.distributed import Group
from onlybn.files import written_whole
from onlybn.jobs import Stop
from onlybn.study import Run
from onlybn.tensors import digest, read_tensors
from onlybn.training.journal import Journal, Row

# The share of the time that writing checkpoints may take.
SHARE = 0.02
# The assumed cost of the first checkpoint, in seconds, and in seconds per byte.
FIRST_COST, FIRST_COST_PER_BYTE = 0.01, 1e-8


class Resumable(Protocol):
    """The part of a live run that checkpoints use."""

    run: Run
    images: Images
    group: Group
    frozen_digest: str
    recordings: dict[str, dict[str, Any]]
    taken: int
    resumed: list[dict[str, Any]]
    is_over: bool
    journal: list[Row]

    def tensors(
        self, gather: Callable[[Tensor], Tensor], between_tests: bool | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, by default those of the current progress."""

    def record(self) -> dict[str, Any]:
        """Return the facts of a checkpoint, besides tensors and rows; `taken` and `tested` are among them."""

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any], rows: list[Row]) -> None:
        """Restore a checkpoint."""


def discard(checkpoint: Path) -> None:
    """Delete a checkpoint and its journal, as far as they are there."""
    for path in (checkpoint, _rows(checkpoint)):
        path.unlink(missing_ok=True)


def _rows(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}-rows.jsonl")


class Checkpoints:
    """Writes a checkpoint of each run, at most for a share of the time, and also every `every` steps.

    A checkpoint is also written at the end of training, and at the next step after `stop` is set, which then
    raises KeyboardInterrupt. `paths` are by seed; a seed without a path has no checkpoints. `computed` is
    what a run's bits depend on besides its specification; a checkpoint with another `computed` is ignored.
    Rows are appended to a journal beside the checkpoint. With `by_thread`, for a GPU, a thread writes while
    training continues; what the thread raises is raised at the next step.
    """

    def __init__(
        self,
        paths: Mapping[int, Path],
        computed: Mapping[str, Any],
        *,
        every: int = 0,
        share: float = SHARE,
        stop: Stop | None = None,
        by_thread: bool = False,
    ):
        self.paths, self.computed, self.every, self.stop = paths, dict(computed), every, stop
        self.journals = {seed: Journal(_rows(path)) for seed, path in paths.items()}
        self.share, self.kept_at, self.cost = share, time.perf_counter(), None
        self.thread = ThreadPoolExecutor(1) if by_thread else None
        self.started, self.unwritten = self.kept_at, []

    def step_ended(self, live: Sequence[Resumable]) -> None:
        """Stop if requested; write checkpoints if it is time."""
        self.pause(live)
        # The processes of a group have no common clock; they agree only at tests.
        by_steps = self.every and live[0].taken % self.every == 0
        if by_steps or (live[0].group.size == 1 and self._is_time(live)):
            self._keep(live)

    def tested(self, live: Sequence[Resumable]) -> None:
        """Stop if requested; write checkpoints if it is time or a run has ended."""
        self.pause(live)
        group = live[0].group
        due = torch.tensor(int(group.leads and self._is_time(live)), device=live[0].images.device)
        if any(run.is_over for run in live) or group.total(due):
            self._keep(live)

    def pause(self, live: Sequence[Resumable]) -> None:
        """If a stop is requested, write checkpoints and raise KeyboardInterrupt."""
        if self.stop is not None and self.stop.asked:
            self._keep(live)
            self.wait()
            names = ", ".join(str(run.run) for run in live)
            print(f"{names}: stopped; the next start resumes from here", flush=True)
            raise KeyboardInterrupt

    def wait(self) -> None:
        """Wait until all checkpoints are written; raise what the writing raised."""
        unwritten, self.unwritten = self.unwritten, []
        if unwritten:
            self.kept_at = max(write.result() for write in unwritten)
            self.cost = self.kept_at - self.started

    def restore(self, live: Resumable) -> None:
        """Resume a run from its checkpoint; print the reason if the checkpoint cannot be used.

        The processes of a group all resume, or all restart.
        """
        path = self.paths.get(live.run.seed)
        if path is None:
            return
        tensors, facts, rows, reason = {}, {}, [], None
        try:
            tensors, facts = read_tensors(path)
            reason = self._mismatch(tensors, facts, live)
            if reason is None:
                rows = self.journals[live.run.seed].read(facts["journal"])
        except FileNotFoundError:
            reason = "is missing"
        except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            reason = f"is damaged ({error})"
        refused = live.group.total(torch.tensor(int(reason is not None), device=live.images.device))
        if not refused:
            live.restore(tensors, facts, rows)
            reached = live.resumed[-1]
            within = f" and {reached['steps']} steps" * bool(reached["steps"])
            message = f"resuming after epoch {reached['epoch']}{within}"
            if live.run.training.unit == "step":
                message = f"resuming after step {live.taken:,}"
        else:
            self.journals[live.run.seed] = Journal(self.journals[live.run.seed].path)
            message = f"restarting: its checkpoint {reason or 'cannot be read by all processes'}"
        if live.group.leads and reason != "is missing":
            print(f"{live.run}: {message}", flush=True)

    def discard(self, seed: int) -> None:
        """Delete a run's checkpoint and journal."""
        discard(self.paths[seed])

    def _is_time(self, live: Sequence[Resumable]) -> bool:
        if not all(write.done() for write in self.unwritten):
            return False
        self.wait()
        if self.cost is None:
            kept = [tensor for run in live for tensor in run.tensors(lambda tensor: tensor).values()]
            self.cost = FIRST_COST + FIRST_COST_PER_BYTE * sum(tensor.nbytes for tensor in kept)
        return (time.perf_counter() - self.kept_at) * self.share >= self.cost

    def _keep(self, live: Sequence[Resumable]) -> None:
        self.wait()  # so that at most one state of each run is in memory
        self.started = time.perf_counter()
        for run in live:
            if run.run.seed in self.paths:
                tensors = run.tensors(run.group.gather)  # all processes take part
                if run.group.leads:
                    self._write(run, copied(tensors) if self.thread else partial(_on_host, tensors))
        if not self.unwritten:
            self.kept_at = time.perf_counter()
            self.cost = self.kept_at - self.started

    def _write(self, live: Resumable, tensors: Callable[[], dict[str, Tensor]]) -> None:
        path, journal = self.paths[live.run.seed], self.journals[live.run.seed]
        rows, facts = live.journal[journal.rows :], self._facts(live) | live.record()
        write = partial(_write, path, journal, rows, facts, tensors)
        if self.thread:
            self.unwritten.append(self.thread.submit(write))
        else:
            write()

    def _mismatch(
        self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], live: Resumable
    ) -> str | None:
        here = self._facts(live)
        for name, expected in here.items():
            if name in facts and facts[name] != expected:
                return f"is of another {name.replace('_', ' ')} ({facts[name]}, here {expected})"
        if facts["content"] != digest(tensors):
            return "is damaged (its content does not match its digest)"
        if not {*here, *live.record(), "journal"} <= facts.keys():
            return "was not written by this version"
        size, between_tests = live.group.size, facts["taken"] > facts["tested"]
        expected = live.tensors(lambda tensor: tensor.expand(size, *tensor.shape), between_tests)
        return None if _kinds(tensors) == _kinds(expected) else "was not written by this version"

    def _facts(self, live: Resumable) -> dict[str, Any]:
        """Return the facts that must match for a checkpoint to be used."""
        return {
            "specification": live.run.digest,
            "seed": live.run.seed,
            "dataset": live.images.checksum,
            "computation": self.computed,
            "draw_of_frozen_weights": live.frozen_digest,
            "choice_of_recordings": live.recordings,
        }


def _write(
    path: Path,
    journal: Journal,
    rows: Sequence[Row],
    facts: Mapping[str, Any],
    tensors: Callable[[], dict[str, Tensor]],
) -> float:
    """Write the rows and then the checkpoint that refers to them; return the time when it is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    journal.append(rows)
    held = tensors()
    facts = dict(facts) | {"journal": journal.position(), "content": digest(held)}
    with written_whole(path) as temporary:
        save_file(held, temporary, metadata={"onlybn": json.dumps(facts)})
    return time.perf_counter()


def _on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def copied(tensors: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Start to copy tensors to the host, all in one piece; return a function that waits and returns them.

    They have their values at the time of the call, and are contiguous; the device continues meanwhile.
    """
    # Wider dtypes come first, so that each tensor starts at a multiple of its item size.
    kinds = {
        name: (tensor.shape, tensor.dtype, tensor.nbytes)
        for name, tensor in sorted(tensors.items(), key=lambda named: -named[1].itemsize)
    }
    whole = torch.cat([tensors[name].flatten().view(torch.uint8) for name in kinds])
    host = torch.empty(whole.shape, dtype=torch.uint8, pin_memory=whole.is_cuda)
    host.copy_(whole, non_blocking=True)
    event, device = torch.cuda.Event() if whole.is_cuda else None, whole.device
    if event:
        event.record()

    def arrived() -> dict[str, Tensor]:
        if event:
            with torch.cuda.device(device):  # a thread starts on the first GPU, and would take memory there
                event.synchronize()
        parts = host.split([size for _, _, size in kinds.values()])
        named = zip(kinds.items(), parts, strict=True)
        return {name: part.view(dtype).view(shape) for (name, (shape, dtype, _)), part in named}

    return arrived


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
