"""A training job that kills itself: python killed.py WORK DATASET SIGNAL CALLED NTH PROCESSES RUN…

On the NTH call of the function CALLED, "module:name.name", the process sends itself the signal. Each RUN is
the output of `onlybn.runs.records.described`.
"""

import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from onlybn.jobs import Terminal, job
from onlybn.runs import block, records


def main(work: str, dataset: str, number: str, called: str, nth: str, processes: str, *runs: str) -> None:
    module, _, names = called.partition(":")
    *owners, name = names.split(".")
    owner = import_module(module)
    for inner in owners:
        owner = getattr(owner, inner)
    function, calls = getattr(owner, name), 0

    def fatal(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == int(nth):
            os.kill(os.getpid(), getattr(signal, number))
        return function(*args, **kwargs)

    setattr(owner, name, fatal)
    block.SHARE = 0.0  # where checkpoints are kept must not depend on this machine's clock
    some = [records.run_of(json.loads(run)) for run in runs]
    folder = Path(work)
    with job(folder / "log"):
        block.train_block(
            some,
            [folder / "runs" / f"seed-{run.seed}" for run in some],
            work=folder / "work",
            replaced=folder / "replaced",
            dataset=Path(dataset),
            data_dir=folder,
            device="cpu",
            deterministic=False,
            threads=1,
            processes=int(processes),
            workers=0,
            checkpoint_every=3,
            terminal=Terminal(1),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
