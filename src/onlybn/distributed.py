"""Training one run in several processes, each on its part of every batch (torch's DDP)."""

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from onlybn.errors import UserError
from onlybn.jobs import importable
from onlybn.networks.reparametrise import with_functions

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure


@dataclass(frozen=True)
class Group:
    """The processes that train one run: the rank of this process, from 0, and the number of processes.

    Parameters, order and augmentation are the same in all processes, since they are drawn from the seed.
    Gradients are averaged over the whole batch, and measures over all examples. BatchNorm normalises each
    process's part of a batch by the statistics of that part; running statistics are averaged over processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes the run's folder and reports progress."""
        return self.rank == 0

    def parts(self, count: int, batch_size: int) -> Iterator[slice]:
        """Yield this process's part of each batch of `count` examples; part sizes differ by at most one."""
        for start in range(0, count, batch_size):
            whole = min(batch_size, count - start)
            yield slice(start + whole * self.rank // self.size, start + whole * (self.rank + 1) // self.size)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wrap the network so that backward passes average gradients over processes."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        # The optimiser computes the gradients of functions' own parameters, the same in every process.
        own = {id(p) for _, psi in with_functions(network) for p in psi.parameters()}
        names = [n for n, p in network.named_parameters(remove_duplicate=False) if id(p) in own]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, names)
        return DistributedDataParallel(
            network, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )

    def weigh(self, loss: Tensor, part: int, whole: int) -> Tensor:
        """Weight the mean loss of a part so that DDP's mean over processes is the whole batch's mean."""
        return loss if self.size == 1 else loss * (part * self.size / whole)

    def total(self, sums: Tensor) -> Tensor:
        """Add up a tensor over the processes."""
        if self.size > 1:
            distributed.all_reduce(sums)
        return sums

    @torch.no_grad()
    def gather(self, tensor: Tensor) -> Tensor:
        """Stack the tensors (…) of all processes into one (processes, …)."""
        if self.size == 1:
            return tensor[None]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(found, tensor)
        return torch.stack(found)

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.size > 1:
            for tensor in tensors:
                tensor.copy_(self.total(tensor.clone()) / self.size)


ALONE = Group()


def launch(processes: int, module: str, arguments: Mapping[str, Any]) -> None:
    """Run `python -m module` with the arguments as JSON in so many processes, as torchrun does.

    If one fails, all are stopped. Then this raises UserError with the sentence of that process, or
    RuntimeError for any other error, whose traceback the process has printed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    handlers = {caught: signal.getsignal(caught) for caught in signals}
    heeded = [caught.name for caught, handler in handlers.items() if handler is not signal.SIG_IGN]
    with TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=f"onlybn-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",  # the machine's name does not always resolve
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            signals_to_handle=",".join(heeded),  # what nohup ignores stays ignored
        )
        try:
            with importable():
                elastic_launch(config, sys.executable)("-m", module, json.dumps(arguments))
        except SignalException:  # torch's handlers, which stop the processes, hide which signal it was
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            raise _fault(error.failures) from None
        finally:
            for caught, handler in handlers.items():
                signal.signal(caught, handler)


def _fault(failures: "Mapping[int, ProcessFailure]") -> Exception:
    """Return the exception for failed processes, by rank: a user's mistake first, or else the earliest error.

    If one process stops, the others fail too, since they wait for it.
    """
    ordered = sorted(failures.items(), key=lambda failure: failure[1].timestamp)
    messages = {
        rank: failure.message if isinstance(failure.message, str) else failure.message["message"]
        for rank, failure in ordered
    }
    mistake = f"{UserError.__name__}: "
    for message in messages.values():
        if message.startswith(mistake):
            return UserError(message.removeprefix(mistake))
    rank, message = next(iter(messages.items()))
    return RuntimeError(f"process {rank} failed: {message}")


def join(devices: Sequence[str]) -> tuple[Group, torch.device]:
    """Join the processes that `launch` started, with a device for each; return the group and the device."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device(devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Group(rank, size), device
