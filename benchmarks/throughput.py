"""Training images per second: the engine against a textbook loop, side by side.

    python benchmarks/throughput.py [--device cuda] [--architectures resnet-14,…] [--regimes all,…]

On the CPU the textbook loop uses two threads, and the engine two processes of one thread each, so both use
two cores. `--threads 1` gives each one thread. `--precision float32` compares at the textbook's precision.
`--before` adds the engine of another checkout; `--dataset digits` compares with that one only. Rounds
alternate between them. A round that is more than a tenth off the median is measured again, at most three
rounds of a point. The table gives medians, and the lowest and highest ratio of a round. Images are random
bytes of the dataset's shape, which cost as much as real ones.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

import report

ARCHITECTURES = "resnet-14,resnet-56,resnet-110,wrn-14-4,vgg-16"
REGIMES = "all,batchnorm,output"
BATCHES = {"cifar10": 128, "digits": 32}
TOLERANCE = 0.1
REPEATS = 3


def measure(asked: argparse.Namespace) -> float:
    """Return milliseconds per step, measured in this process."""
    import engine
    import textbook
    import torch

    from onlybn.networks.variants import DEFAULT
    from onlybn.study import Run, Training

    torch.set_num_threads(asked.threads)
    batch = BATCHES[asked.dataset]
    training = Training(epochs=1, batch_size=batch, learning_rate=0.1, precision=asked.precision)
    run = Run("benchmark", asked.dataset, training, asked.architectures, asked.regimes, DEFAULT, seed=0)
    if asked.measure == "textbook":
        return textbook.milliseconds(run, asked.device, asked.steps)
    return engine.milliseconds([run], asked.device, asked.steps)["step"]


def images_per_second(kind: str, asked: argparse.Namespace, architecture: str, regime: str) -> float:
    """Measure in new processes: one with all threads, or for an engine one per thread."""
    processes = asked.threads if kind != "textbook" and asked.device == "cpu" else 1
    source = {"PYTHONPATH": str(asked.before / "src")} if kind == "before" else {}
    command = [sys.executable, __file__, "--measure", kind, "--architectures", architecture]
    command += ["--regimes", regime, "--device", asked.device, "--precision", asked.precision]
    command += ["--dataset", asked.dataset]
    command += ["--steps", str(asked.steps), "--threads", str(asked.threads // processes)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | source)
        for _ in range(processes)
    ]
    texts = [process.communicate()[0] for process in running]
    return sum(BATCHES[asked.dataset] / float(text.split()[-1]) * 1_000 for text in texts)


def kinds_of(asked: argparse.Namespace) -> list[str]:
    """Return the kinds of loop; the ratio compares the last with the first."""
    others = {"textbook": asked.dataset == "cifar10", "before": asked.before is not None}
    return [*(kind for kind, there in others.items() if there), "engine"]


def rounds_of(
    asked: argparse.Namespace, architecture: str, regime: str
) -> tuple[list[tuple[float, ...]], int]:
    """Return the images per second of each kind, round by round, and how many rounds were repeated."""

    def once() -> tuple[float, ...]:
        return tuple(images_per_second(kind, asked, architecture, regime) for kind in kinds_of(asked))

    rounds, repeated = [once() for _ in range(asked.rounds)], 0
    while repeated < REPEATS:
        middle = [median(rates) for rates in zip(*rounds, strict=True)]
        off = [max(abs(r / m - 1) for r, m in zip(rates, middle, strict=True)) for rates in rounds]
        if max(off) <= TOLERANCE:
            break
        rounds[off.index(max(off))] = once()
        repeated += 1
    return rounds, repeated


def main() -> None:
    """Measure every architecture and regime, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dataset", default="cifar10", choices=BATCHES)
    parser.add_argument("--architectures", default=ARCHITECTURES)
    parser.add_argument("--regimes", default=REGIMES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", help="the engine's; the textbook loop has float32")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(measure(asked))
        return
    rows = []
    for architecture in asked.architectures.split(","):
        for regime in asked.regimes.split(","):
            rounds, repeated = rounds_of(asked, architecture, regime)
            rates = map(median, zip(*rounds, strict=True))
            ratios = [rates[-1] / rates[0] for rates in rounds]
            rows.append(
                {
                    "architecture": architecture,
                    "regime": regime,
                    **{f"{k} (images/s)": rate for k, rate in zip(kinds_of(asked), rates, strict=True)},
                    "ratio": median(ratios),
                    "lowest": min(ratios),
                    "highest": max(ratios),
                    "repeated": repeated,
                }
            )
            print(rows[-1], file=sys.stderr)
    options = (asked.device, asked.dataset, asked.precision, f"{asked.threads}-threads")
    usual = ("cpu", "cifar10", "auto", "2-threads")
    named = [option for option, one in zip(options, usual, strict=True) if option != one]
    report.report("-".join(["throughput", *named]), rows, asked.out)


if __name__ == "__main__":
    main()
