"""Time per step by depth, width and regime, also of several replicates together: the data of `make plan`.

    python benchmarks/scaling.py [--device cuda] [--precision auto] [--datasets cifar10,digits]
        [--architectures wrn-14-8,…] [--steps 4]

On the CPU, one process per core measures at once, with one thread each, like the jobs of the workflow; the
table gives their means. The times replace the earlier ones of this device in
`src/onlybn/workflow/costs.parquet`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pandas as pd
import pyarrow as pa
import report

REGIMES = ("all", "batchnorm", "output", "random-2")
# Dataset, batch, architectures, regimes.
GRID = [
    ("cifar10", 128, ("resnet-14", "resnet-32", "resnet-56", "wrn-14-2", "wrn-14-4", "vgg-11"), REGIMES),
    ("cifar10", 128, ("vgg-11-half",), ("all",)),
    ("digits", 32, ("resnet-14", "resnet-56", "wrn-14-4", "vgg-11"), REGIMES),
    ("digits", 64, ("vgg-8-half",), ("all",)),
    ("digits", 60, ("mlp-100-100-100-sigmoid",), ("all",)),
    ("mnist10k-binary", 60, ("mlp-100-100-100-sigmoid",), ("all",)),
    ("deep-linear", 1_000, ("deep-linear-25",), ("all",)),
    ("imagenette160", 16, ("imagenet-resnet-18", "imagenet-resnet-50"), REGIMES),
]
KEYS = ["device", "precision", "dataset", "architecture", "regime", "batch", "replicates"]
COSTS = Path(__file__).parents[1] / "src" / "onlybn" / "workflow" / "costs.parquet"


def measure(
    device: str, precision: str, datasets: list[str], steps: int, given: list[str] | None = None
) -> list[dict]:
    """Measure the grid's lines of these datasets in this process; return a row for each point.

    `given` architectures replace the grid's.
    """
    import engine
    import torch

    from onlybn.devices import choose_precision, name_of, name_of_precision
    from onlybn.networks.variants import DEFAULT
    from onlybn.study import Run, Training

    place = torch.device(device)
    torch.set_num_threads(1)
    resolved = name_of_precision(choose_precision(precision, place))
    rows = []
    for dataset, batch, architectures, regimes in (line for line in GRID if line[0] in datasets):
        training = Training(
            epochs=1, batch_size=batch, learning_rate=0.1, precision=resolved, shift=0, flip=False
        )
        for architecture in given or architectures:
            for regime in regimes:
                for replicates in (1, 2, 5) if place.type == "cuda" else (1,):
                    runs = [
                        Run("benchmark", dataset, training, architecture, regime, DEFAULT, seed)
                        for seed in range(replicates)
                    ]
                    rows.append(
                        {
                            "device": name_of(place),
                            "precision": resolved,
                            "dataset": dataset,
                            "architecture": architecture,
                            "regime": regime,
                            "batch": batch,
                            "replicates": replicates,
                            **engine.milliseconds(runs, device, steps),
                        }
                    )
                    print(rows[-1], file=sys.stderr)
    return rows


def main() -> None:
    """Measure, report, and save the times for `make plan`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--datasets", default=",".join(line[0] for line in GRID))
    parser.add_argument("--architectures", type=lambda names: names.split(","), help="instead of the grid's")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        datasets = asked.datasets.split(",")
        given = asked.architectures
        print(json.dumps(measure(asked.device, asked.precision, datasets, asked.steps, given)))
        return
    processes = os.cpu_count() if asked.device == "cpu" else 1
    command = [sys.executable, __file__, "--measure", "--device", asked.device]
    command += ["--precision", asked.precision, "--datasets", asked.datasets, "--steps", str(asked.steps)]
    command += ["--architectures", ",".join(asked.architectures)] if asked.architectures else []
    quiet = [None, *[subprocess.DEVNULL] * (processes - 1)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=to, text=True) for to in quiet]
    tables = [pd.DataFrame(json.loads(process.communicate()[0])) for process in running]
    found = tables[0].assign(
        **{name: sum(t[name] for t in tables) / len(tables) for name in ("step", "test")}
    )
    report.report(f"scaling-{asked.device}-{found['precision'].iloc[0]}", found.to_dict("records"), asked.out)
    kept = pd.read_parquet(COSTS) if COSTS.exists() else found.iloc[:0]
    table = pd.concat([kept, found]).drop_duplicates(KEYS, keep="last", ignore_index=True)
    report.write_table(COSTS, pa.Table.from_pandas(table, preserve_index=False))


if __name__ == "__main__":
    main()
