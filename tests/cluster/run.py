"""A study on a real Slurm; faults of every kind are injected into its jobs and Snakemake.

python tests/cluster/run.py [--cpus 8] [--keep FOLDER]

Starts a Slurm of one node, runs a small study on digits with `--workflow-profile profiles/slurm`, and
meanwhile cancels a job, kills the processes of a job, kills Snakemake only and restarts it, lets a job time
out, and loses the node. In the end every table and state file is compared with those of a local run, and no
epoch may have been trained twice. Exits with status 1 if anything differs. Needs root, and Debian's slurm-wlm
and munge, which it installs if they are missing.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from checkout import Checkout
from slurm import Slurm, install
from torture import Logs

EPOCHS = 25
STUDY = f"""
dataset: digits
training: {{epochs: {EPOCHS}, batch_size: 128, learning_rate: 0.1, milestones: [20], flip: false}}
seeds: 4
experiments:
  regimes: {{architectures: [resnet-8, resnet-14], regimes: [all, batchnorm]}}
  one: {{architectures: [resnet-14], regimes: [batchnorm]}}
figures: {{figure-2: [regimes], figure-4: [regimes], figure-5: [regimes], figure-7: [one]}}
tables: {{accuracy: [regimes], dead-relu: [one]}}
"""
CONFIG = ("--config", "seeds_per_job=2", "device=cpu")
ESTIMATED = ("planned_on=AMD EPYC (AVX512)", "longest_job=30")
# The GPUs are pretended, and the jobs compute without: half of them ask in one way, half in the other.
GPUS = ("--set-resources", "train:gpu=1", "train-seeds-2-to-3:gres=gpu:1")
# Without accounting, and in less time than people have.
HASTE = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3")
PATIENCE = 1_500.0


class Cluster:
    """The study on Slurm: Snakemake, which may be killed and restarted, and the state of its jobs."""

    def __init__(self, slurm: Slurm, checkout: Checkout):
        self.slurm, self.checkout = slurm, checkout
        self.results = checkout.folder / "results" / "tiny"
        self.logs = Logs(self.results / "logs")
        self.told = (checkout.folder / "snakemake.log").open("w+")
        self.deadline = time.monotonic() + PATIENCE
        self.hit: set[str] = set()
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start Snakemake, as on a login node."""
        self.starts += 1
        self.snakemake = subprocess.Popen(
            self.checkout.command(
                "all", "--workflow-profile", "profiles/slurm", *HASTE, *GPUS, *CONFIG, *ESTIMATED
            ),
            cwd=self.checkout.folder,
            env=self.slurm.env,
            stdout=self.told,
            stderr=self.told,
            start_new_session=True,
        )

    def look(self) -> None:
        """Wait a moment; exit if the study takes too long or Snakemake fails."""
        time.sleep(0.1)
        self.logs.look()
        if time.monotonic() > self.deadline or self.snakemake.poll():
            print((self.checkout.folder / "snakemake.log").read_text()[-6_000:])
            sys.exit(
                "error: the study does not end" if not self.snakemake.poll() else "error: Snakemake failed"
            )

    def training(self) -> list[tuple[str, int, int]]:
        """Return the training jobs that were not disturbed yet: Slurm's number, epochs done and left."""
        found = []
        for job in self.slurm.jobs():
            path = self._log(job)
            if job["JobState"] != "RUNNING" or job["JobId"] in self.hit or path is None:
                continue
            runs = dict(re.findall(r"^(.+): epoch (\d+)/", self.logs.now.get(path, ""), re.M))
            done = sum(map(int, runs.values()))
            if done and self.trains(job["JobId"]):
                found.append((job["JobId"], done, 2 * EPOCHS - done))
        return found

    def _log(self, job: dict[str, str]) -> Path | None:
        """Return the log of a training job, from the comment that the plugin gives it."""
        named = re.fullmatch(
            r"rule_train(-seeds-2-to-3)?_wildcards_([^_]+)_([^_]+)_(.+)", job.get("Comment", "")
        )
        if not named:
            return None
        span = "seeds-2-to-3" if named[1] else "seeds-0-to-1"
        return self.results / "logs" / "train" / named[2] / named[3] / named[4] / f"{span}.log"

    def trains(self, number: str) -> list[psutil.Process]:
        """Return the processes of a job that train."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, IndexError):
                trains = process.cmdline()[-1].endswith("train.py")
                if trains and process.environ().get("SLURM_JOB_ID") == number:
                    found.append(process)
        return found

    def disturb(self, what: str, how: Callable[[str], None], outcome: str) -> None:
        """Disturb the training job that has most epochs left; wait until Slurm reports the outcome."""
        while not (there := self.training()):
            if self.snakemake.poll() is not None:
                sys.exit(f"error: the study ended before {what}")
            self.look()
        number, done, _ = max(there, key=lambda job: job[2])
        self.hit.add(number)
        how(number)
        print(f"{what}: job {number}, after {done} of {2 * EPOCHS} epochs", flush=True)
        self.wait(lambda: self.state(number) == outcome or int(self.told_of(number)["Restarts"]) > 0)

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        while not until():
            self.look()

    def told_of(self, number: str) -> dict[str, str]:
        """Return what Slurm reports about a job."""
        return next(job for job in self.slurm.jobs() if job["JobId"] == number)

    def state(self, number: str) -> str:
        """Return a job's state."""
        return self.told_of(number)["JobState"]

    def kill_snakemake(self) -> list[str]:
        """Kill only Snakemake, during training, and restart it; return its jobs that survived.

        They halt until a job of the next Snakemake waits for one, which otherwise is a matter of luck.
        """
        self.wait(lambda: len(self.training()) >= 2)
        self.snakemake.kill()
        self.snakemake.wait()
        left = [job["JobId"] for job in self.slurm.jobs() if job["JobState"] in ("RUNNING", "PENDING")]
        print(f"Snakemake killed: {len(left)} of its jobs go on", flush=True)
        halted = [process for number in left for process in self.trains(number)]
        for process in halted:
            process.suspend()
        self.start()
        self.wait(lambda: self.waited() > 0)
        for process in halted:
            process.resume()
        return left

    def waited(self) -> int:
        """Return the number of runs whose job waited for another job that trained the run."""
        return self.logs.counted(r"another job trains it; this one waits").total()

    def lose_the_node(self) -> None:
        """Power the node off and on again."""
        self.wait(lambda: bool(self.training()))
        running = [job["JobId"] for job in self.slurm.jobs() if job["JobState"] == "RUNNING"]
        self.hit.update(running)
        self.slurm.lose_the_node()
        print(f"node lost: {len(running)} jobs on it", flush=True)
        self.wait(lambda: all(self.state(number) != "RUNNING" for number in running))
        self.slurm.find_the_node()


def main() -> None:
    """Run the study on Slurm with faults, and here without; compare; exit with 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cpus", type=int, default=8, help="jobs side by side; may exceed the machine's")
    parser.add_argument("--keep", type=Path, help="a new folder for everything, which stays")
    asked = parser.parse_args()
    install()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped test stops its daemons too
    started = time.monotonic()
    with ExitStack() as made:
        folder = asked.keep or Path(made.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
        for name in ("here", "cluster", "slurm"):
            (folder / name).mkdir(parents=True)
        undisturbed = Checkout(folder / "here", STUDY)
        here = subprocess.Popen(
            undisturbed.command("all", "--cores", "2", "--quiet", "all", *CONFIG),
            cwd=undisturbed.folder,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        made.callback(end, here)
        if here.wait():
            sys.exit("error: the study does not run here")
        expected = undisturbed.digests()
        print(f"undisturbed, here: {len(expected)} tables and state files", flush=True)
        slurm = made.enter_context(Slurm(folder / "slurm", asked.cpus))
        cluster = Cluster(slurm, Checkout(folder / "cluster", STUDY))
        made.callback(lambda: end(cluster.snakemake))
        left = disturbed(cluster)
        wrong = report(cluster, left, expected)
        print(f"{time.monotonic() - started:.0f} s")
    sys.exit(wrong > 0)


def end(snakemake: subprocess.Popen) -> None:
    """Kill Snakemake, and what it started here."""
    with suppress(ProcessLookupError):
        os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()


def disturbed(cluster: Cluster) -> list[str]:
    """Inject every fault, and wait for the end; return the jobs that a killed Snakemake left."""
    slurm = cluster.slurm

    def kill(number: str) -> None:
        for process in cluster.trains(number):
            process.kill()

    def end_time(number: str) -> None:
        # Slurm looks at time limits twice a minute. It wakes what it then ends.
        for process in cluster.trains(number):
            process.suspend()
        slurm.command("scontrol", "update", f"jobid={number}", "EndTime=now+1seconds")

    cluster.disturb("time limit", end_time, "TIMEOUT")
    cluster.disturb("scancel", lambda number: slurm.command("scancel", number), "CANCELLED")
    cluster.disturb("SIGKILL", kill, "FAILED")
    left = cluster.kill_snakemake()
    cluster.lose_the_node()
    cluster.wait(lambda: cluster.snakemake.poll() is not None)
    cluster.logs.look()
    return left


def report(cluster: Cluster, left: list[str], expected: dict[str, str]) -> int:
    """Print the outcome; return the number of errors."""
    jobs = cluster.slurm.jobs()
    states = Counter(job["JobState"] for job in jobs)
    text = (cluster.checkout.folder / "snakemake.log").read_text()
    found = cluster.checkout.digests()
    wrong = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    counted = cluster.logs.counted
    repeated = sum(count - 1 for count in counted(r"(.+: epoch \d+)/").values())
    numbers = {
        "jobs submitted": len(jobs),
        "finished": states["COMPLETED"],
        "cancelled": states["CANCELLED"],
        "killed, alone or with the node": states["FAILED"],
        "at their time limit": states["TIMEOUT"],
        "lost with the node, and started again by Slurm": sum(int(job["Restarts"]) > 0 for job in jobs),
        "retried by Snakemake": text.count("Trying to restart job"),
        "starts of Snakemake": cluster.starts,
        "jobs that outlived it": len(left),
        "jobs that waited for those": cluster.waited(),
        "checkpoints gone on from": counted(r"(.+): resuming after").total(),
        "epochs repeated": repeated,
        "jobs that asked for a GPU by --gpus": sum("gpu" in job.get("TresPerJob", "") for job in jobs),
        "and by --gres": sum("gpu" in job.get("TresPerNode", "") for job in jobs),
        "tables and state files equal": f"{len(expected) - len(wrong)} of {len(expected)}",
    }
    for name, number in numbers.items():
        print(f"{number!s:>8}  {name}")
    for name in wrong:
        print(f"differs: {name}")
    other = {state for state in states if state not in ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT")}
    if other:
        print(f"left in Slurm: {', '.join(other)}")
    missing = [state for state in ("CANCELLED", "FAILED", "TIMEOUT") if not states[state]]
    if missing:
        print(f"never seen: {', '.join(missing)}")
    return len(wrong) + len(other) + len(missing)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; all that this started has ended")
