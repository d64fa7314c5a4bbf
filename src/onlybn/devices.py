"""What a job computes on: its device, which other jobs then leave alone, and in which precision."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from onlybn.errors import UserError
from onlybn.locks import claim
from onlybn.machine import processor


def choose_device(asked: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` means here; raise UserError for cuda without one."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no CUDA device here; allowed: auto, cpu")
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)


def take_devices(asked: str, count: int = 1) -> list[torch.device]:
    """Return a device for each of `count` processes: the CPU, or GPUs that no other job of this user has.

    Waits while too few GPUs are free. They are this process's until it ends, however it ends. One device is
    made the current one; of several, which other processes compute on, this one touches none. Raises
    UserError if there are fewer of them than processes.
    """
    device = choose_device(asked)
    if device.type != "cuda":
        return [device] * count
    there = torch.cuda.device_count()
    if there < count:
        raise UserError(f"processes_per_run: {count} were asked for, but there are {there} CUDA devices")
    # By a name that holds in every process, whatever CUDA_VISIBLE_DEVICES lets it see.
    names = _uuids() if count == 1 else _uuids_seen_by_another_process()
    folder = Path(tempfile.gettempdir()) / f"onlybn-gpus-{os.getuid()}"
    devices = [torch.device("cuda", index) for index in claim(names, count, folder, "GPU")]
    if count == 1:
        torch.cuda.set_device(devices[0])
    return devices


def _uuids() -> list[str]:
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


def _uuids_seen_by_another_process() -> list[str]:
    """Return the UUIDs without CUDA being initialised here.

    It would take some 500 MB of the first GPU for a process that computes nothing.
    """
    code = "from onlybn import devices; print(*devices._uuids())"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU's memory that nothing has taken."""
    return torch.cuda.mem_get_info(device)[0]


def name_of(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with the vector instructions that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()} ({torch.backends.cpu.get_cpu_capability()})"


def choose_precision(asked: str, device: torch.device) -> torch.dtype:
    """Return the dtype of activations: for `auto`, bfloat16 where the device computes in it natively."""
    if asked == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else torch.cpu._is_avx512_bf16_supported()
        )
        return torch.bfloat16 if native else torch.float32
    return getattr(torch, asked)


def name_of_precision(precision: torch.dtype) -> str:
    """Return the name of a dtype as studies and records write it."""
    return str(precision).removeprefix("torch.")
