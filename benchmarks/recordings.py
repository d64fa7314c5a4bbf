"""What each recording costs, as a share of training at its default number of steps between looks.

    python benchmarks/recordings.py [--architectures resnet-14,vgg-11] [--rounds 5] [--device cuda]

All runs live in one process, on one thread of a CPU. In each round every recording takes a block of steps and
looks at each of them; steps without recordings come first and last, so that a change of the machine's speed
hits all alike. A look costs the time that such a step takes in addition. The share is that cost over the time
of the steps between two looks (`weights`, which looks at tests, is shown for 100 steps). `reestimated` and
`generalisation` are left out: for each of their epochs they add two tests, or one, and a pass over at most
10,000 training images. Images are random bytes of CIFAR-10's shape.
"""

import argparse
import sys
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parent))

import report
from engine import alternate, block

from onlybn import observers
from onlybn.study import Run, Training
from onlybn.workflow.plan import TESTS_OF_A_LOOK

RECORDINGS = [name for name in observers.OBSERVERS if name not in TESTS_OF_A_LOOK]


def main() -> None:
    """Print a table: a row per architecture and recording."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", default="resnet-14,vgg-11")
    parser.add_argument("--recordings", default=",".join(RECORDINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps in a block")
    parser.add_argument("--precision", default="auto", help="float32, bfloat16 or auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    training = Training(epochs=1, batch_size=128, learning_rate=1e-3, precision=asked.precision)
    rows = []
    for architecture in asked.architectures.split(","):
        run = Run("benchmark", "cifar10", training, architecture, "all", "kaiming-uniform_gamma-one", 0)

        def watched(recordings, run=run):
            blocks = {"blocks": 2 * asked.rounds, "device": asked.device}
            return block(run, asked.steps, recordings=recordings, **blocks)

        others = {name: watched({name: {"every": 1}}) for name in asked.recordings.split(",")}
        steps, found = alternate(watched({}), others, asked.rounds)
        for name, seconds in found.items():
            every = [look - step for look, step in zip(seconds, steps, strict=True)]
            between = observers.check(name)["every"] or 100
            shares = [100 * look / step / between for look, step in zip(every, steps, strict=True)]
            rows.append(
                {
                    "network": architecture,
                    "recording": name,
                    "ms a step": round(1e3 * median(steps), 2),
                    "ms a look": round(1e3 * median(every), 2),
                    "every": between,
                    "share (%)": round(median(shares), 2),
                    "lowest": round(min(shares), 2),
                    "highest": round(max(shares), 2),
                    "rounds": asked.rounds,
                }
            )
    report.report("recordings", rows, asked.out)


if __name__ == "__main__":
    main()
