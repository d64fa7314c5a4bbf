"""Kill a study's jobs and workflows at random moments until it is done, and compare its results.

python tests/torture.py [--kills 50] [--seed 0]

Real training: digits, ResNet-14 and ResNet-32, `batchnorm` and `random-2`, two seeds. Each kill is a SIGKILL
to one training job, to Snakemake only (whose jobs survive), or to Snakemake and all its jobs; then the same
command is started again. Between starts the study is sometimes edited in place, to another learning rate or
back, and Snakemake's records are sometimes deleted; the last start is of the original study. In the end every
table and state file is compared with those of an undisturbed study. The last line counts kills, edits,
resumes and differences. (It also counts epochs that were completed twice without an edit in between.)
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from checkout import Checkout

STUDY = """
dataset: digits
training: {epochs: 16, batch_size: 128, learning_rate: 0.1, milestones: [12], flip: false}
seeds: 2
experiments:
  killed: {architectures: [resnet-14, resnet-32], regimes: [batchnorm, random-2]}
figures: {}
tables: {accuracy: [killed]}
"""
EDITED = STUDY.replace("learning_rate: 0.1", "learning_rate: 0.2")
TARGET = ("accuracy", "--config", "seeds_per_job=2", "checkpoint_every=3")


class Logs:
    """Everything that training jobs wrote to their logs, which a retry empties."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.now: dict[Path, str] = {}
        self.past: list[str] = []

    def look(self) -> None:
        """Read the existing logs; keep the content of logs that vanished since the last look."""
        there: list[Path] = []
        with suppress(FileNotFoundError):  # Snakemake takes folders away meanwhile
            there = list(self.folder.rglob("*.log"))
        for path in {*there, *self.now}:
            text = ""
            with suppress(FileNotFoundError):
                text = path.read_text()
            if not text.startswith(self.now.get(path, "")):
                self.past.append(self.now[path])
            self.now[path] = text

    def counted(self, pattern: str) -> Counter[str]:
        """Count the matches of the pattern."""
        return Counter(
            found for text in [*self.past, *self.now.values()] for found in re.findall(pattern, text)
        )


def trains(process: psutil.Process) -> bool:
    """Return whether this is the Python process of a training job."""
    try:
        return process.name().startswith("python") and process.cmdline()[-1].endswith("train.py")
    except (psutil.NoSuchProcess, IndexError):
        return False


def kill(snakemake: psutil.Process, rng: random.Random) -> str | None:
    """Send SIGKILL to a training job, Snakemake, or both; return which, or None if it does not exist."""
    with suppress(psutil.NoSuchProcess):
        family = snakemake.children(recursive=True)
        what = rng.choice(["a job", "a job", "Snakemake and its jobs", "Snakemake alone"])
        if what == "a job":
            jobs = [process for process in family if trains(process)]
            if not jobs:
                return None
            rng.choice(jobs).kill()
        else:
            for process in [snakemake, *(family if what == "Snakemake and its jobs" else [])]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        return what
    return None


def edit(checkout: Checkout, rng: random.Random) -> int:
    """Sometimes edit the study in place, or back, and sometimes delete Snakemake's records."""
    file = checkout.folder / "tiny.yaml"
    before = file.read_text()
    if rng.random() < 0.3:
        file.write_text(STUDY if before == EDITED else EDITED)
    if rng.random() < 0.3:
        shutil.rmtree(checkout.folder / ".snakemake", ignore_errors=True)
    return file.read_text() != before


def disturb(checkout: Checkout, kills: int, rng: random.Random, done: Counter[str]) -> tuple[Logs, int]:
    """Start the study again and again until it is complete, with up to that many kills and some edits.

    Returns its logs, and how often it was edited.
    """
    logs, edits = Logs(checkout.folder / "results"), 0
    status, left = None, 10  # starts that nothing kills; the study must end in fewer
    while status != 0:
        if status is not None and done.total() < kills:
            edits += edit(checkout, rng)
        elif (checkout.folder / "tiny.yaml").read_text() == EDITED:
            (checkout.folder / "tiny.yaml").write_text(STUDY)
            edits += 1
        left -= done.total() >= kills
        if not left:
            sys.exit("error: the study does not end though nothing disturbs it")
        running = subprocess.Popen(
            checkout.command("--cores", "2", *TARGET),
            cwd=checkout.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        snakemake, moment = psutil.Process(running.pid), 0.0
        while (status := running.poll()) is None:
            now = time.perf_counter()
            logs.look()
            if now > moment:
                what = kill(snakemake, rng) if moment and done.total() < kills else None
                done.update([what] if what else [])
                moment = now + rng.uniform(3, 14)
            time.sleep(0.05)
        logs.look()
        if status == 0 and (checkout.folder / "tiny.yaml").read_text() == EDITED:
            status = 1  # complete, but not the study that was begun
    return logs, edits


def main() -> None:
    """Run the study undisturbed and disturbed; exit with status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, done = random.Random(asked.seed), Counter()
    studies = resumes = repeated = differences = edits = 0
    with TemporaryDirectory() as folder:
        undisturbed = Checkout(Path(folder), STUDY)
        undisturbed.ok(*TARGET)
        expected = undisturbed.digests()
    print(f"undisturbed: {len(expected)} tables and state files", flush=True)
    while done.total() < asked.kills:
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            checkout = Checkout(Path(folder), STUDY)
            logs, edited = disturb(checkout, asked.kills, rng, done)
            # Runs of a job that outlives an edited study's Snakemake wait for that study.
            kept = ("replaced", "work") if edited else ("replaced",)
            found = {k: v for k, v in checkout.digests().items() if not k.startswith(kept)}
        studies += 1
        edits += edited
        resumes += logs.counted("(.+): resuming after").total()
        again = logs.counted(r"(.+: epoch \d+)/").values()
        repeated += sum(count - 1 for count in again) if not edited else 0
        wrong = [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
        differences += len(wrong)
        kinds = ", ".join(f"{count} of {what}" for what, count in done.items())
        print(f"study {studies}: complete; kills so far: {kinds}", *wrong, sep="\n  ", flush=True)
    print(
        f"{done.total()} kills, {edits} edits, {resumes} resumes, {repeated} epochs repeated in studies"
        f" without an edit, {differences} differences"
        f" (in {studies} studies of {len(expected)} files)"
    )
    sys.exit(differences > 0)


if __name__ == "__main__":
    main()
