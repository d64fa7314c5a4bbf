"""Reading tensors from safetensors files, and their digests."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from onlybn.errors import UserError
from onlybn.machine import machine


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the tensors of a safetensors file, and this project's JSON metadata in it.

    Raises what safetensors, the file system and JSON raise, and KeyError if there is no such metadata.
    """
    with safe_open(path, "pt") as file:
        facts = json.loads((file.metadata() or {})["onlybn"])
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the tensors' bytes, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(tensors[name].cpu().contiguous().numpy())
    return found.hexdigest()


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the tensors' digest, and the sum of each in float64, in the order of their names."""
    return {
        "digest": digest(tensors),
        "sums": [tensors[name].cpu().contiguous().double().sum().item() for name in sorted(tensors)],
    }


def check_drawn(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, Any], *, of: str, seed: int, then: object
) -> None:
    """Compare frozen tensors, drawn again from a seed, with the fingerprint of those of training.

    If only bits differ, this warns: another processor or library may round a draw differently. Raises
    UserError if the sum of any tensor differs by more than 1e-5. `of` names what holds them in messages, and
    `then` the machine of training.
    """
    drawn = fingerprint(tensors)
    if drawn["digest"] == expected["digest"]:
        return
    machines = f"trained on {then}, loaded on {machine()}"
    if not _are_near(drawn["sums"], expected["sums"]):
        raise UserError(
            f"{of}: the frozen weights drawn from seed {seed} are not those of training"
            f" (digest {drawn['digest'][:16]}, expected {expected['digest'][:16]}; {machines})"
        )
    warnings.warn(f"{of}: the frozen weights differ by rounding ({machines})", stacklevel=3)


def _are_near(sums: Sequence[float], expected: Sequence[float]) -> bool:
    return len(sums) == len(expected) and all(
        abs(a - b) <= 1e-5 * max(1.0, abs(b)) for a, b in zip(sums, expected, strict=True)
    )
