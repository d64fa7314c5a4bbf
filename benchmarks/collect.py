"""The peak memory of collecting the largest tables, and of drawing Figure 4 from them.

    python benchmarks/collect.py [--runs 313] [--out results/benchmarks]

Writes folders of runs of ResNet-866 with random γ and β, without training. One process collects them, another
draws the figure; the table gives the largest resident memory of each.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pyarrow as pa
import report
from torch.nn import BatchNorm2d

from onlybn.files import write_json, write_table
from onlybn.models import build
from onlybn.networks.variants import DEFAULT
from onlybn.runs.affine import affine
from onlybn.runs.records import described
from onlybn.study import Run, Training

ARCHITECTURE = "resnet-866"
JOBS = {
    "collect": """
from onlybn.runs.collect import collect
from onlybn.files import write_tables
from onlybn.runs.records import read_record, run_of
runs = {folder: run_of(read_record(folder)) for folder in sorted(Path("runs").iterdir())}
write_tables(Path("affine.parquet"), collect("features", "affine", runs))
""",
    "draw figure-4": """
from onlybn.drawing.draw import draw
from onlybn.papers import paper
draw(paper("only-batchnorm"), "figure-4", "benchmark", [Path("affine.parquet")], Path("figure-4"))
""",
}
# From the system: getrusage starts with the memory of the process that started this one.
PEAK = r"""
import re
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def make_runs(folder: Path, count: int) -> int:
    """Write the records and affine tables of so many runs; return the rows of each table."""
    network = build(ARCHITECTURE, channels=3, classes=10).to_empty(device="cpu")
    layers = dict(network.named_layers(BatchNorm2d))
    rows = affine(network, {name: (layer.weight, layer.bias) for name, layer in layers.items()})
    training = Training(epochs=160, batch_size=128, learning_rate=0.1)
    rng = np.random.default_rng(0)
    record = {
        "status": "finished",
        "dataset_checksum": "",
        "frozen_digest": "",
        "channels": 3,
        "classes": 10,
        "counts": network.parameter_counts() | {"trainable_parameters": 0},
        "computed": {"processes": 1, "precision": "float32"},
        "wall_clock": {},
    }
    for place in range(count):
        seed, regime = divmod(place, 2)
        run = Run("s", "cifar10", training, ARCHITECTURE, ("all", "batchnorm")[regime], DEFAULT, seed)
        write_json(folder / f"{place:04}" / "run.json", described(run) | record)
        table = rows
        for name in table.column_names[-6:]:
            values = pa.array(rng.normal(0.2, 0.4, len(rows)).astype(np.float32))
            table = table.set_column(table.column_names.index(name), table.field(name), values)
        write_table(folder / f"{place:04}" / "affine.parquet", table)
    return len(rows)


def main() -> None:
    """Measure both, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=313)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        channels = make_runs(Path(folder) / "runs", asked.runs)
        for job, code in JOBS.items():
            command = [sys.executable, "-c", "from pathlib import Path\n" + code + PEAK]
            peak = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows.append({"job": job, "runs": asked.runs, "rows": asked.runs * channels, "peak_mb": int(peak)})
            print(rows[-1], file=sys.stderr)
    report.report("collect", rows, asked.out)


if __name__ == "__main__":
    main()
