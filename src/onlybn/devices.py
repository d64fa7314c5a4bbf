"""The device of a job, which it claims from other jobs, and its precision."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from onlybn.errors import UserError
from onlybn.jobs import importable
from onlybn.locks import claim
from onlybn.machine import processor


def choose_device(requested: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`; raise UserError for cuda if there is no CUDA device."""
    if requested == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was requested, but torch finds no CUDA device here; allowed: auto, cpu")
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(requested)


def take_devices(requested: str, count: int = 1) -> list[torch.device]:
    """Return a device for each of `count` processes: the CPU, or GPUs that no other job of this user has.

    Waits while too few GPUs are free. The GPUs belong to this process until it ends, however it ends. A
    single device becomes the current one; several are for other processes, and this process does not use
    them. Raises UserError if there are fewer devices than processes.
    """
    device = choose_device(requested)
    if device.type != "cuda":
        return [device] * count
    present = torch.cuda.device_count()
    if present < count:
        raise UserError(
            f"processes_per_run: {count} were requested, but this machine has {present} CUDA devices"
        )
    # By UUIDs, which are the same in every process, whatever its CUDA_VISIBLE_DEVICES.
    names = _uuids() if count == 1 else _uuids_seen_by_another_process()
    folder = Path(tempfile.gettempdir()) / f"onlybn-gpus-{os.getuid()}"
    devices = [torch.device("cuda", index) for index in claim(names, count, folder, "GPU")]
    if count == 1:
        torch.cuda.set_device(devices[0])
    return devices


def _uuids() -> list[str]:
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


def _uuids_seen_by_another_process() -> list[str]:
    """Return the UUIDs without initialising CUDA in this process.

    That would take some 500 MB of the first GPU for a process that computes nothing.
    """
    code = "from onlybn import devices; print(*devices._uuids())"
    command = [sys.executable, "-c", code]
    with importable():
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def free_memory(device: torch.device) -> int:
    """Return the free memory of a GPU, in bytes."""
    return torch.cuda.mem_get_info(device)[0]


def name_of(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with the vector instructions that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()} ({torch.backends.cpu.get_cpu_capability()})"


def choose_precision(requested: str, device: torch.device) -> torch.dtype:
    """Return the dtype of activations: for `auto`, bfloat16 if the device computes in it natively."""
    if requested == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else torch.cpu._is_avx512_bf16_supported()
        )
        return torch.bfloat16 if native else torch.float32
    return getattr(torch, requested)


def name_of_precision(precision: torch.dtype) -> str:
    """Return the name of a dtype as studies and records write it."""
    return str(precision).removeprefix("torch.")
