"""Tensors in safetensors files, and what tells one set of them from another."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the tensors of a safetensors file, and what this project told in it as JSON.

    Raises what safetensors, the file system and JSON raise, and KeyError if nothing is told.
    """
    with safe_open(path, "pt") as file:
        facts = json.loads((file.metadata() or {})["onlybn"])
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over the tensors' bytes, sorted by name."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(tensors[name].cpu().contiguous().numpy())
    return found.hexdigest()


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the tensors' digest, and each one's sum in float64, sorted by name."""
    return {
        "digest": digest(tensors),
        "sums": [tensors[name].cpu().contiguous().double().sum().item() for name in sorted(tensors)],
    }
