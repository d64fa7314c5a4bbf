"""What pruning and folding do to networks: accuracy, size and speed beside the clamped network.

    python benchmarks/export.py DATA_DIR [RUN ...] [--thresholds 0.01]

By default for the committed networks of ResNet-14, on the test images of CIFAR-10 (JPEG) below DATA_DIR.
The four networks (clamped, folded, pruned, both) take a batch of 128 in turn; times are medians of 15 rounds
on one thread, in float32.
"""

import argparse
import copy
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

sys.path.insert(0, str(Path(__file__).parent))

import report

import onlybn
from onlybn.datasets.prepare import prepare
from onlybn.datasets.small import read
from onlybn.exporting.fold import fold
from onlybn.exporting.prune import clamp, prune
from onlybn.runs.records import read_record
from onlybn.training.evaluation import evaluate

NETWORKS = Path(__file__).parents[1] / "results" / "reference" / "networks"
ROUNDS, BATCH = 15, 128


def variants(run: Path, threshold: float, image: torch.Tensor) -> dict[str, torch.nn.Module]:
    """Return the clamped network of a run, and what is made of it."""
    clamped = onlybn.load(run)
    clamp(clamped, threshold)
    found = {"clamped": clamped}
    for name in ("folded", "pruned", "pruned and folded"):
        found[name] = network = copy.deepcopy(clamped)
        if name.startswith("pruned"):
            prune(network, image)
        if name.endswith("folded"):
            fold(network, image)
    return found


@torch.no_grad()
def seconds(networks: dict[str, torch.nn.Module], images: torch.Tensor) -> dict[str, list[float]]:
    """Return the seconds of a batch, by network and round."""
    taken = {name: [] for name in networks}
    for _ in range(1 + ROUNDS):
        for name, network in networks.items():
            started = time.perf_counter()
            network(images)
            taken[name].append(time.perf_counter() - started)
    return {name: times[1:] for name, times in taken.items()}


def main() -> None:
    """Print a table: a row per run, threshold and network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("runs", type=Path, nargs="*", default=sorted(NETWORKS.iterdir()))
    parser.add_argument("--thresholds", default="0.01")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for run in asked.runs:
        record = read_record(run)
        with TemporaryDirectory() as folder:
            prepared = Path(folder) / record["dataset"]
            prepare(record["dataset"], asked.data_dir, prepared)
            images = read(prepared, torch.device("cpu"))
        batch = images.normalise(images.test.images[:BATCH])
        for threshold in map(float, asked.thresholds.split(",")):
            networks = variants(run, threshold, batch[:1])
            taken = seconds(networks, batch)
            for name, network in networks.items():
                with torch.no_grad():
                    apart = (network(batch) - networks["clamped"](batch)).abs().max()
                ratios = [a / b for a, b in zip(taken["clamped"], taken[name], strict=True)]
                rows.append(
                    {
                        "run": f"{record['architecture']} {record['regime']} seed {record['seed']}",
                        "threshold": threshold,
                        "network": name,
                        "test accuracy (%)": evaluate(network, images)["top_1"],
                        "parameters": sum(p.numel() for p in network.parameters()),
                        "logits apart": f"{float(apart):.0e}",
                        "ms for 128 images": round(1e3 * median(taken[name]), 1),
                        "times as fast": round(median(ratios), 2),
                    }
                )
    report.report("export", rows, asked.out)


if __name__ == "__main__":
    main()
