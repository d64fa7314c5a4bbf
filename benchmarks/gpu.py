"""What to run first on a GPU: how fast is the card, does it train correctly, and how fast?

    python benchmarks/gpu.py ceilings|right|times|runs [--out FOLDER] [--device cuda] …

`ceilings` measures the card, `right` compares recorded steps with steps one by one, `times` writes rows of
`costs.parquet`, and `runs` trains whole runs of a study into the folders where Snakemake finds them. Needs no
Snakemake. Each part continues after an error, reports it in a line and writes its traceback to `faults.txt`.
Started again, it resumes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onlybn.study import Run
    from onlybn.workflow.paths import Workflow

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

# Architecture, regime, precision, deterministic.
CASES = [
    ("resnet-14", "batchnorm", "bfloat16", True),
    ("resnet-14", "batchnorm", "bfloat16", False),
    ("resnet-14", "batchnorm", "float32", True),
    ("resnet-14", "all", "bfloat16", True),
    ("resnet-14", "no-affine", "bfloat16", True),
    ("resnet-14", "batchnorm+output", "bfloat16", True),
    ("resnet-14", "output", "bfloat16", True),
    ("resnet-14", "random-2", "bfloat16", False),
    ("resnet-14", "random-2", "bfloat16", True),
    ("resnet-14", "batchnorm+output+shortcut", "bfloat16", True),
    ("vgg-11", "all", "bfloat16", True),
    ("wrn-14-4", "all", "bfloat16", True),
    ("vgg-11-head-512", "all", "bfloat16", True),
    ("preactivation-wrn-10-2", "all", "bfloat16", True),
    ("resnet-110", "batchnorm", "bfloat16", True),
]
# The most important first: dataset, batch, steps, replicates, architectures, regimes.
TIMES = [
    ("cifar10", 128, 50, (1, 5), ("resnet-14", "resnet-110", "wrn-14-4"), ("batchnorm", "all")),
    ("cifar10", 128, 5, (1, 5), ("resnet-866",), ("batchnorm", "all")),
    ("cifar10", 128, 8, (1, 5), ("wrn-14-32", "wrn-14-16"), ("batchnorm", "all")),
    ("cifar10", 128, 50, (1, 5), ("resnet-14", "resnet-110", "wrn-14-4"), ("output", "random-2")),
    ("cifar10", 128, 30, (1, 5), ("resnet-56", "wrn-14-8", "vgg-16"), ("batchnorm", "all")),
    ("digits", 32, 50, (1, 5), ("resnet-56",), ("batchnorm", "all")),
    ("cifar10", 128, 50, (2,), ("resnet-14", "resnet-110", "wrn-14-4"), ("batchnorm", "all")),
]
RUNS = [("resnet-14", "batchnorm"), ("resnet-14", "all"), ("resnet-14", "output"), ("wrn-14-4", "batchnorm")]
STUDY = ["study=cifar10", "dataset=cifar10-jpeg", "seeds_per_job=5"]
# Seconds after which a case hangs.
LONGEST = 120


def ceilings(asked: argparse.Namespace) -> None:
    """Print the card's name, and the speed of its memory and its matrix products."""
    import torch

    card, cudnn = torch.cuda.get_device_name(), torch.backends.cudnn.version()
    print(f"{card}, torch {torch.__version__}, cuDNN {cudnn}, {os.cpu_count()} CPUs")
    taken = torch.empty(2**31, dtype=torch.uint8, device="cuda").random_()
    given, matrix = torch.empty_like(taken), torch.randn(8192, 8192, device="cuda").bfloat16()
    for name, work, amount in (
        ("copying, TB/s", lambda: given.copy_(taken), 2**32),
        ("bfloat16 products, TFLOP/s", lambda: matrix @ matrix, 2 * 8192**3),
    ):
        seconds = []
        for _ in range(13):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        print(f"{name}: {amount / median(seconds[3:]) / 1e12:.2f}", flush=True)


def right(asked: argparse.Namespace) -> None:
    """Compare every case in a separate process, two at a time, because an error can end CUDA's context."""
    done = asked.out / "right.jsonl"
    told = [json.loads(line)["case"] for line in done.read_text().splitlines()] if done.exists() else []

    def compared(one: str) -> None:
        try:
            status = subprocess.run(command(asked, "case", one), timeout=LONGEST).returncode
        except subprocess.TimeoutExpired:
            status = f"none after {LONGEST} s"
        if status:
            print(f"FAULT {one}: exit status {status}", flush=True)

    cases = [json.dumps(one) for one in CASES if list(one) not in told and wanted(asked, *one[:2])]
    with ThreadPoolExecutor(2) as some:
        list(some.map(compared, cases))


def one_case(asked: argparse.Namespace) -> None:
    """Compare one case, print the result, and mark it as done."""
    from onlybn.runs.block import _set_up

    *given, deterministic = json.loads(asked.case)
    _set_up(1, deterministic)
    found = case(*given, device=asked.device)
    print(
        "{}: recorded against one by one: largest relative difference {difference:.1e}, loss {losses},"
        " test loss {tests}, {seconds} s; recorded again, same bits: {same_bits}".format(asked.case, **found),
        flush=True,
    )
    with (asked.out / "right.jsonl").open("a") as file:
        print(json.dumps({"case": [*given, deterministic], **found}), file=file)


def case(architecture: str, regime: str, precision: str, *, device: str, dataset: str = "cifar10") -> dict:
    """Train two replicates on three whole batches and a partial one, eagerly and twice as training does it.

    Returns the largest difference of a tensor that training changes, relative to its largest value; the
    first replicate's losses in training and in a test, either way; seconds; and whether the second time gave
    the same bits as the first.
    """
    import torch
    from engine import random_images

    from onlybn.distributed import ALONE
    from onlybn.networks.state import learned
    from onlybn.training import loop
    from onlybn.training.evaluation import evaluate
    from onlybn.training.live_run import LiveRun
    from onlybn.training.steps import EagerSteps

    place, dtype = torch.device(device), getattr(torch, precision)
    images, batch = random_images(dataset, 3 * 128 + 80, 1_000, place), 128
    found = []
    for eagerly in (True, False, False):
        runs = [run_of(dataset, architecture, regime, batch, precision, seed) for seed in (0, 1)]
        live = [LiveRun(run, images, dtype) for run in runs]
        steps = EagerSteps(live) if eagerly else loop._steps(live, place, ALONE)
        started = time.perf_counter()
        for whole in (batch, batch, batch, 80):
            steps([run.next_batch() for run in live], whole, 0.1)
            for run in live:
                run.step_ended()
        loss = live[0].measures.averages()["loss"]
        seconds = time.perf_counter() - started
        tested = evaluate(live[0].network, images, precision=dtype)["loss"]
        tensors = [tensor.double().cpu() for run in live for tensor in learned(run.network).values()]
        found.append((tensors, loss, tested, seconds))
    (one, *_), (other, *_), (again, *_) = found
    apart = [(a - b).abs().max() / a.abs().max().clamp(min=1e-9) for a, b in zip(one, other, strict=True)]
    return {
        "difference": float(max(apart)),
        "losses": [round(loss, 5) for _, loss, _, _ in found[:2]],
        "tests": [round(tested, 5) for _, _, tested, _ in found[:2]],
        "seconds": [round(seconds, 1) for *_, seconds in found[:2]],
        "same_bits": all(torch.equal(a, b) for a, b in zip(other, again, strict=True)),
    }


def times(asked: argparse.Namespace) -> None:
    """Measure steps and tests into `costs-gpu.parquet`, and print the peak of memory beside the model's."""
    import engine
    import pandas as pd
    import torch

    from onlybn.devices import choose_precision, name_of, name_of_precision
    from onlybn.training.side_by_side import memory

    place, until = torch.device(asked.device), time.monotonic() + 60 * asked.minutes
    precision = choose_precision("auto", place)
    file = asked.out / "costs-gpu.parquet"
    rows = pd.read_parquet(file).to_dict("records") if file.exists() else []
    points = [
        (dataset, batch, asked.steps or steps, *point)
        for dataset, batch, steps, together, names, regimes in TIMES
        for point in product(names, regimes, together)
    ]
    for dataset, batch, steps, architecture, regime, together in points:
        row = {"device": name_of(place), "precision": name_of_precision(precision), "dataset": dataset}
        row |= {"architecture": architecture, "regime": regime, "batch": batch, "replicates": together}
        done = any(row.items() <= other.items() for other in rows)
        if done or not wanted(asked, architecture, regime) or together > asked.most:
            continue
        if time.monotonic() > until:
            print("the time is up; the same command goes on from here", flush=True)
            break
        started, peak = time.perf_counter(), ""
        runs = [run_of(dataset, architecture, regime, batch, row["precision"], s) for s in range(together)]
        try:
            row |= engine.milliseconds(runs, asked.device, steps)
            rows.append(row)
            pd.DataFrame(rows).to_parquet(file)
        except Exception:
            tell_fault(asked, f"{architecture} {regime}, {together} together")
        if place.type == "cuda":
            images = engine.random_images(dataset, 1, 1, torch.device("cpu"))
            expected = memory(runs[0], images, precision, together) / 2**30
            peak = f", {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB (expected {expected:.1f})"
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        shown = {name: value for name, value in row.items() if name not in ("device", "precision")}
        print(f"{shown}{peak}, {time.perf_counter() - started:.1f} s", flush=True)


def runs(asked: argparse.Namespace) -> None:
    """Train whole runs; each block of seeds is a process that holds the GPU until it ends."""
    from onlybn.datasets.prepare import prepare

    workflow = opened(asked)
    dataset = workflow.study.definition.dataset
    folder = Path(workflow.dataset_files(dataset)[0]).parent
    if not (folder / "dataset.json").exists():
        prepare(dataset, Path(workflow.study.data_dir), folder)
    for (architecture, regime), seeds in product(RUNS, workflow.study.seed_blocks()):
        if wanted(asked, architecture, regime):
            block = json.dumps([architecture, regime, seeds])
            with subprocess.Popen(command(asked, "block", block, *asked.config)) as job:
                try:
                    if status := job.wait():
                        print(f"FAULT {block}: exit status {status}", flush=True)
                except KeyboardInterrupt:
                    job.terminate()  # it writes a checkpoint
                    raise


def one_block(asked: argparse.Namespace) -> None:
    """Train one block into the folders in which Snakemake looks for it."""
    from onlybn.jobs import Terminal
    from onlybn.networks.variants import DEFAULT
    from onlybn.runs.block import train_block

    workflow = opened(asked)
    study = workflow.study
    architecture, regime, seeds = json.loads(asked.case)
    some = [study.run(architecture, regime, DEFAULT, seed) for seed in seeds]
    folders, works = zip(*map(workflow.places, some), strict=True)
    point = dict(zip(("architecture", "regime", "variant"), some[0].point, strict=True))
    train_block(
        some,
        list(folders),
        work=works[0].parent,
        replaced=workflow.replaced(point),
        dataset=Path(workflow.dataset_files(study.definition.dataset)[0]).parent,
        data_dir=Path(study.data_dir),
        device=study.device,
        deterministic=study.deterministic,
        threads=1,
        processes=1,
        workers=0,
        checkpoint_every=study.checkpoint_every,
        recordings=[study.recordings(run) for run in some],
        terminal=Terminal(os.open(os.devnull, os.O_WRONLY)),  # the log has everything
    )


def opened(asked: argparse.Namespace) -> "Workflow":
    """Open the study that the command line names."""
    import yaml

    from onlybn.workflow.paths import open_workflow

    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config |= {"device": asked.device, "results_dir": str(asked.out / "results")}
    for pair in [*STUDY, *asked.config]:
        key, _, value = pair.partition("=")
        config[key] = yaml.safe_load(value)
    return open_workflow(config, ROOT / "workflow" / "studies")


def command(asked: argparse.Namespace, part: str, one: str, *more: str) -> list[str]:
    """Return the command that does one case or block of a part in another process."""
    given = [part, *more, "--case", one, "--out", str(asked.out), "--device", asked.device]
    return [sys.executable, __file__, *given]


def run_of(dataset: str, architecture: str, regime: str, batch: int, precision: str, seed: int) -> "Run":
    """Return a run to be measured."""
    from onlybn.networks.variants import DEFAULT
    from onlybn.study import Run, Training

    training = Training(epochs=1, batch_size=batch, learning_rate=0.1, precision=precision, flip=False)
    return Run("benchmark", dataset, training, architecture, regime, DEFAULT, seed)


def wanted(asked: argparse.Namespace, architecture: str, regime: str) -> bool:
    """Return whether the command line selects a point; without a selection it selects all."""
    given = ((asked.architectures, architecture), (asked.regimes, regime))
    return all(not names or name in names.split(",") for names, name in given)


def tell_fault(asked: argparse.Namespace, of: str) -> None:
    """Report the current exception in a line, and save its traceback."""
    with (asked.out / "faults.txt").open("a") as file:
        print(of, traceback.format_exc(), sep="\n", file=file)
    print(f"FAULT {of}: {' '.join(str(sys.exception()).split())[:300]}", flush=True)


PARTS = {
    "ceilings": ceilings,
    "right": right,
    "case": one_case,
    "times": times,
    "runs": runs,
    "block": one_block,
}


def main() -> int:
    """Do one part; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help=f"of `runs`; {' '.join(STUDY)}")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--architectures", help="only these of the part's architectures")
    parser.add_argument("--regimes", help="only these of the part's regimes")
    parser.add_argument("--minutes", type=float, default=8, help="`times`: start no point later than this")
    parser.add_argument(
        "--most", type=int, default=5, help="`times`: the largest number of replicates together"
    )
    parser.add_argument("--steps", type=int, help="`times`: steps in a round")
    parser.add_argument("--case", help="`case` and `block`: which one, as JSON")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        PARTS[asked.part](asked)
    except KeyboardInterrupt:
        print(f"{asked.part}: stopped; the same command goes on from here", flush=True)
        return 1
    except Exception:
        tell_fault(asked, asked.case or asked.part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
