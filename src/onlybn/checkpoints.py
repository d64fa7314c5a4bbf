"""Where an unfinished run stands, kept on disk: a killed job goes on from there to the very same end."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onlybn.files import written_whole
from onlybn.jobs import Stop

if TYPE_CHECKING:
    from onlybn.training import Replicate


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

    def step_ended(self, replicates: Sequence["Replicate"]) -> None:
        """Keep checkpoints if it is time, or if the work is to stop."""
        if self.every and replicates[0].steps % self.every == 0:
            self._keep(replicates)
        self.pause(replicates)

    def epoch_ended(self, replicates: Sequence["Replicate"]) -> None:
        """Keep checkpoints."""
        self._keep(replicates)
        self.pause(replicates)

    def pause(self, replicates: Sequence["Replicate"]) -> None:
        """If the work is to stop, keep checkpoints and raise KeyboardInterrupt."""
        if self.stop is not None and self.stop.asked:
            self._keep(replicates)
            names = ", ".join(str(replicate.run) for replicate in replicates)
            print(f"{names}: stopped; the next start goes on from here", flush=True)
            raise KeyboardInterrupt

    def restore(self, replicate: "Replicate") -> None:
        """Put a replicate where its checkpoint left it; say why if there is one that is not its own."""
        path = self.paths.get(replicate.run.seed)
        if path is None or not path.exists():
            return
        try:
            tensors, facts = _read(path)
            reason = self._mismatch(tensors, facts, replicate)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            reason = f"is damaged ({error})"
        if reason is None:
            replicate.restore(tensors, facts)
            within = f" and {replicate.steps} steps" * bool(replicate.steps)
            told = f"going on after epoch {replicate.epoch}{within}"
        else:
            told = f"starting again, since its checkpoint {reason}"
        if replicate.group.leads:
            print(f"{replicate.run}: {told}", flush=True)

    def _keep(self, replicates: Iterable["Replicate"]) -> None:
        for replicate in replicates:
            if replicate.run.seed in self.paths:
                tensors = replicate.tensors()  # which all processes of a group gather
                if replicate.group.leads:
                    facts = self._facts(replicate) | replicate.record()
                    with written_whole(self.paths[replicate.run.seed]) as path:
                        save_file(
                            {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
                            path,
                            metadata={"onlybn": json.dumps(facts)},
                        )

    def _mismatch(
        self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], replicate: "Replicate"
    ) -> str | None:
        for name, expected in self._facts(replicate).items():
            if facts[name] != expected:
                return f"is of another {name.replace('_', ' ')} ({facts[name]}, here {expected})"
        expected = replicate.tensors(within_epoch=facts["steps"] > 0)
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in expected.items()}:
            return "has other tensors"
        return None

    def _facts(self, replicate: "Replicate") -> dict[str, Any]:
        """Return what must be the same for a checkpoint to be gone on from."""
        return {
            "specification": replicate.run.digest,
            "seed": replicate.run.seed,
            "dataset": replicate.images.checksum,
            "computation": self.computed,
            "draw_of_frozen_weights": replicate.frozen_digest,
        }


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        facts = json.loads((file.metadata() or {})["onlybn"])
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
