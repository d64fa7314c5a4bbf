"""Training images per second: the engine against a textbook loop, side by side.

    python benchmarks/throughput.py [--device cuda] [--architectures resnet-14,…] [--regimes all,…]

On the CPU the textbook loop has two threads, and the engine two processes of one thread each, at once:
what two cores do with either. Rounds alternate between the two; the table gives medians. Images are
random bytes of CIFAR-10's shape, which costs what real ones cost.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

import report

ARCHITECTURES = "resnet-14,resnet-56,resnet-110,wrn-14-4,vgg-16"
REGIMES = "all,batchnorm,output"
BATCH = 128


def measure(kind: str, architecture: str, regime: str, device: str, steps: int, threads: int) -> float:
    """Return milliseconds per step; the body of one process."""
    import engine
    import textbook
    import torch

    from onlybn.networks.variants import DEFAULT
    from onlybn.study import Run, Training

    torch.set_num_threads(threads)
    training = Training(epochs=1, batch_size=BATCH, learning_rate=0.1, precision="auto")
    run = Run("benchmark", "cifar10", training, architecture, regime, DEFAULT, seed=0)
    if kind == "textbook":
        return textbook.milliseconds(run, device, steps)
    return engine.milliseconds([run], device, steps)["step"]


def run_once(kind: str, processes: int, *arguments: str) -> list[float]:
    """Measure in that many processes at once, each with the rest of two threads."""
    command = [sys.executable, __file__, "--measure", kind, *arguments, "--threads", str(2 // processes)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    texts = [process.communicate()[0] for process in running]
    return [float(text.split()[-1]) for text in texts]


def main() -> None:
    """Measure every architecture and regime, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--architectures", default=ARCHITECTURES)
    parser.add_argument("--regimes", default=REGIMES)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        point = (asked.measure, asked.architectures, asked.regimes, asked.device, asked.steps, asked.threads)
        print(measure(*point))
        return
    rows = []
    together = 2 if asked.device == "cpu" else 1
    for architecture in asked.architectures.split(","):
        for regime in asked.regimes.split(","):
            point = ["--architectures", architecture, "--regimes", regime, "--device", asked.device]
            point += ["--steps", str(asked.steps)]
            rates: dict[str, list[float]] = {"textbook": [], "engine": []}
            for _ in range(asked.rounds):
                for kind, processes in (("textbook", 1), ("engine", together)):
                    times = run_once(kind, processes, *point)
                    rates[kind].append(sum(BATCH / time * 1_000 for time in times))
            ours, theirs = median(rates["engine"]), median(rates["textbook"])
            rows.append(
                {
                    "architecture": architecture,
                    "regime": regime,
                    "textbook (images/s)": theirs,
                    "engine (images/s)": ours,
                    "ratio": ours / theirs,
                }
            )
            print(f"{architecture} {regime}: {theirs:.0f} and {ours:.0f} images/s", file=sys.stderr)
    report.report("throughput" + ("" if asked.device == "cpu" else f"-{asked.device}"), rows, asked.out)


if __name__ == "__main__":
    main()
