"""The fixed cost of a job: interpreter, imports, data, and what a run needs before its first step.

python benchmarks/startup.py [--rounds 5]
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))

import report

PREPARE = """
from pathlib import Path; from onlybn.datasets.prepare import prepare
prepare("digits", Path("."), Path({folder!r}) / "digits")
"""
JOB = """
import time
from pathlib import Path
from tempfile import mkdtemp
from onlybn.jobs import job
from onlybn.workflow.paths import open_workflow
from onlybn.runs.block import train_block
from onlybn.study import Run, Training
training = Training(epochs=1, batch_size=1437, learning_rate=0.1, shift=0, flip=False, precision="auto")
run = Run("s", "digits", training, "resnet-14", "batchnorm", "kaiming-normal_gamma-uniform", 0)
made = Path(mkdtemp(dir={folder!r}))
with job(made / "log") as terminal:
    train_block(
        [run], [made / "seed-0"], work=made / "work", replaced=made / "replaced",
        dataset=Path({folder!r}) / "digits", data_dir=Path("."), device="auto", deterministic=False,
        threads=1, processes=1, workers=0, checkpoint_every=0, terminal=terminal,
    )
"""
STAGES = {
    "interpreter": "pass",
    "import torch": "import torch",
    "imports of a training job": "import onlybn.workflow.paths, onlybn.runs.block",
    "a whole training job of one step (digits, ResNet-14)": JOB,
    "imports of a drawing job": "import onlybn.drawing.draw, onlybn.papers.only_batchnorm.figures.accuracy",
}


def main() -> None:
    """Run each stage in fresh processes, round by round, and report medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in STAGES}
    with TemporaryDirectory() as folder:
        _run(PREPARE.format(folder=folder))
        for _ in range(asked.rounds + 1):  # the first one fills the disk's cache
            for name, code in STAGES.items():
                started = time.perf_counter()
                _run(code.format(folder=folder))
                times[name].append(time.perf_counter() - started)
    rows = [{"stage": name, "seconds": median(found[1:])} for name, found in times.items()]
    report.report("startup", rows, asked.out)


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
