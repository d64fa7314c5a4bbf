"""Where an unfinished run stands, kept on disk: a killed job goes on from there to the very same end."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from onlybn.files import written_whole
from onlybn.jobs import Stop
from onlybn.tensors import digest, read_tensors

if TYPE_CHECKING:
    from onlybn.training.live_run import LiveRun


class Checkpoints:
    """Keeps each replicate's checkpoint at the end of an epoch, and within one every so many steps.

    `paths` are by seed; a seed without one keeps none. `computed` is what the bits of a run depend on beside
    its specification: a checkpoint of anything else is not gone on from. When `stop` is asked for, a
    checkpoint is kept at the next step, and then KeyboardInterrupt is raised.
    """

    def __init__(
        self,
        paths: Mapping[int, Path],
        computed: Mapping[str, Any],
        *,
        every: int = 0,
        stop: Stop | None = None,
    ):
        self.paths, self.computed, self.every, self.stop = paths, dict(computed), every, stop

    def step_ended(self, replicates: Sequence["LiveRun"]) -> None:
        """Stop if the work is to stop; keep checkpoints if it is time."""
        self.pause(replicates)
        if self.every and replicates[0].steps % self.every == 0:
            self._keep(replicates)

    def epoch_ended(self, replicates: Sequence["LiveRun"]) -> None:
        """Stop if the work is to stop; otherwise keep checkpoints too."""
        self.pause(replicates)
        self._keep(replicates)

    def pause(self, replicates: Sequence["LiveRun"]) -> None:
        """If the work is to stop, keep checkpoints and raise KeyboardInterrupt."""
        if self.stop is not None and self.stop.asked:
            self._keep(replicates)
            names = ", ".join(str(replicate.run) for replicate in replicates)
            print(f"{names}: stopped; the next start goes on from here", flush=True)
            raise KeyboardInterrupt

    def restore(self, replicate: "LiveRun") -> None:
        """Put a replicate where its checkpoint left it; say why if there is one that is not its own.

        The processes of a group all go on, or all begin again.
        """
        path = self.paths.get(replicate.run.seed)
        if path is None:
            return
        tensors, facts, reason = {}, {}, None
        try:
            tensors, facts = read_tensors(path)
            reason = self._mismatch(tensors, facts, replicate)
        except FileNotFoundError:
            reason = "is missing"
        except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            reason = f"is damaged ({error})"
        group = replicate.group
        refused = group.total(torch.tensor(int(reason is not None), device=replicate.images.device))
        if not refused:
            replicate.restore(tensors, facts)
            within = f" and {replicate.steps} steps" * bool(replicate.steps)
            told = f"going on after epoch {replicate.epoch}{within}"
        else:
            told = f"starting again, since its checkpoint {reason or 'cannot be read by all processes'}"
        if group.leads and reason != "is missing":
            print(f"{replicate.run}: {told}", flush=True)

    def _keep(self, replicates: Iterable["LiveRun"]) -> None:
        for replicate in replicates:
            if replicate.run.seed in self.paths:
                tensors = replicate.tensors(replicate.group.gather)  # which all processes take part in
                if replicate.group.leads:
                    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
                    facts = self._facts(replicate) | replicate.record() | {"content": digest(tensors)}
                    with written_whole(self.paths[replicate.run.seed]) as path:
                        save_file(tensors, path, metadata={"onlybn": json.dumps(facts)})

    def _mismatch(
        self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], replicate: "LiveRun"
    ) -> str | None:
        for name, expected in self._facts(replicate).items():
            if facts[name] != expected:
                return f"is of another {name.replace('_', ' ')} ({facts[name]}, here {expected})"
        if facts["content"] != digest(tensors):
            return "is damaged (its content is not that of its digest)"
        size = replicate.group.size
        here = replicate.tensors(lambda tensor: tensor.expand(size, *tensor.shape), facts["steps"] > 0)
        if _kinds(tensors) != _kinds(here) or not replicate.record().keys() <= facts.keys():
            return "is not one of this version"
        return None

    def _facts(self, replicate: "LiveRun") -> dict[str, Any]:
        """Return what must be the same for a checkpoint to be gone on from."""
        return {
            "specification": replicate.run.digest,
            "seed": replicate.run.seed,
            "dataset": replicate.images.checksum,
            "computation": self.computed,
            "draw_of_frozen_weights": replicate.frozen_digest,
        }


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
