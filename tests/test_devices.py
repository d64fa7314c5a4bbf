"""The device of a job, and that concurrent jobs do not share GPUs."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from onlybn import devices
from onlybn.devices import choose_device, choose_precision, take_devices
from onlybn.errors import UserError

# A job that claims GPUs, prints them, and keeps them until it is ended.
JOB = """
import sys
from pathlib import Path
from onlybn.locks import claim
print(*claim(["one", "two"], int(sys.argv[2]), Path(sys.argv[1]), "GPU"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Start a job that claims some of two GPUs."""
    started = []

    def do(count=1):
        command = [sys.executable, "-c", JOB, str(tmp_path), str(count)]
        job = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(job)
        return job

    yield do
    for job in started:
        with job:
            job.kill()


def test_jobs_side_by_side_take_different_gpus_and_the_third_waits_until_one_is_killed(start):
    first = start()
    assert first.stdout.readline() == "0\n"
    second = start()
    assert second.stdout.readline() == "1\n"
    third = start()
    assert third.stdout.readline() == "waiting for a GPU: other jobs have 2 of 2\n"
    second.kill()
    assert third.stdout.readline() == "1\n"


def test_a_job_that_waits_for_two_gpus_holds_none(start):
    first = start()
    assert first.stdout.readline() == "0\n"
    both = start(2)
    assert both.stdout.readline() == "waiting for a GPU: other jobs have 1 of 2\n"
    other = start()
    assert other.stdout.readline().startswith(("1", "waiting"))
    first.kill()
    other.kill()
    assert both.stdout.readline() == "0 1\n"


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Make torch report GPUs that do not exist."""

    def see(*uuids):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(uuids))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        named = [SimpleNamespace(uuid=uuid) for uuid in uuids]
        monkeypatch.setattr(torch.cuda, "get_device_properties", named.__getitem__)
        chosen = []
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        return chosen

    # A job of several processes gets UUIDs from another process, which has no such GPUs.
    monkeypatch.setattr(devices, "_uuids_seen_by_another_process", devices._uuids)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    return see


def test_a_job_claims_a_free_gpu_by_its_uuid_and_computes_there(gpus):
    chosen = gpus("a", "b", "c")
    assert take_devices("auto") == chosen == [torch.device("cuda", 0)]
    gpus("b", "a")  # another order, as CUDA_VISIBLE_DEVICES may give it
    assert take_devices("cuda") == [torch.device("cuda", 0)]
    gpus("a", "b", "c", "d")
    assert take_devices("cuda", 2) == [torch.device("cuda", 2), torch.device("cuda", 3)]


def test_a_job_initialises_cuda_only_in_the_processes_that_compute(monkeypatch, tmp_path):
    class Untouched:
        """A torch.cuda that gives the number of GPUs, and fails for anything else."""

        def __getattr__(self, name):
            raise AssertionError(f"torch.cuda.{name} may initialise CUDA")

        def is_available(self):
            return True

        def device_count(self):
            return 2

    monkeypatch.setattr(torch, "cuda", Untouched())
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    commands = []
    run = lambda command, **given: commands.append(command) or SimpleNamespace(stdout="a b\n")  # noqa: E731
    monkeypatch.setattr(devices.subprocess, "run", run)
    assert take_devices("auto", 2) == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert len(commands) == 1
    with pytest.raises(AssertionError, match="get_device_properties"):
        take_devices("auto")


def test_another_process_reports_uuids(python_without_the_package):
    assert devices._uuids_seen_by_another_process() == devices._uuids()


def test_without_a_gpu_every_process_computes_on_the_cpu_and_too_few_gpus_are_rejected(gpus):
    gpus()
    assert take_devices("auto", 3) == [torch.device("cpu")] * 3
    gpus("a")
    with pytest.raises(
        UserError, match="processes_per_run: 2 were requested, but this machine has 1 CUDA devices"
    ):
        take_devices("auto", 2)


def test_cuda_without_a_device_is_rejected_in_one_sentence(gpus):
    gpus()
    with pytest.raises(UserError, match="device: cuda was requested"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_auto_is_bfloat16_only_if_that_is_native(monkeypatch):
    for native, expected in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert choose_precision("auto", torch.device("cpu")) == expected
