"""The whole graph of the CIFAR-10 study, with training and analyses replaced by tables of a few rows.

python tests/load.py [--deaths 0.05] [--cores 2]

Every job is a separate process; some are killed by SIGKILL and retried. In the end every table must have its
rows. Prints the wall time, and the peak memory of Snakemake itself.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pyarrow.parquet as pq
import yaml
from checkout import ROOT, Checkout

from onlybn.workflow.paths import open_workflow

FAKES = Path(__file__).with_name("fakes")
EPOCHS = 2


def run_to_the_end(checkout: Checkout, cores: int) -> tuple[int, int]:
    """Start Snakemake until it succeeds; return the number of starts, and its peak memory in bytes."""
    starts, peak, status = 0, 0, None
    while status != 0:
        starts += 1
        if starts > 20:
            sys.exit("error: the study does not end")
        with (checkout.folder / "snakemake.log").open("a") as log:
            running = subprocess.Popen(
                checkout.command("all", "--cores", str(cores), "--quiet", "all"),
                cwd=checkout.folder,
                stdout=log,
                stderr=log,
            )
        snakemake = psutil.Process(running.pid)
        while (status := running.poll()) is None:
            peak = max(peak, snakemake.memory_info().rss)
            time.sleep(0.2)
    return starts, peak


def main() -> None:
    """Run the study, check its tables, and print its cost; exit with status 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--deaths", type=float, default=0.05)
    parser.add_argument("--cores", type=int, default=2)
    asked = parser.parse_args()
    study = (ROOT / "workflow" / "studies" / "only_batchnorm" / "cifar10.yaml").read_text()
    with TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder), study)
        scripts = checkout.folder / "workflow" / "scripts"
        for fake in FAKES.glob("*.py"):
            shutil.copy(fake, scripts / fake.name)
        os.environ["DEATHS"] = str(asked.deaths)
        config = yaml.safe_load((checkout.folder / "config.yaml").read_text())
        config |= {
            "study": str(checkout.folder / "tiny.yaml"),
            "results_dir": str(checkout.folder / "results"),
        }
        workflow = open_workflow(config, checkout.folder / "workflow" / "studies")
        started = time.perf_counter()
        starts, peak = run_to_the_end(checkout, asked.cores)
        seconds = time.perf_counter() - started
        died = len(list(checkout.folder.glob("deaths/*")))
        wrong, tables, rows = [], 0, 0
        for experiment in workflow.study.experiments:
            runs = len(list(workflow.study.runs(experiment)))
            path = Path(workflow.experiment_pattern.format(experiment=experiment, collected="metrics"))
            found = pq.read_metadata(path).num_rows if path.exists() else 0
            tables, rows = tables + 1, rows + found
            if found != runs * EPOCHS * 2:
                wrong.append(f"{experiment}: {found} rows of {runs * EPOCHS * 2}")
        lacking = [file for file in workflow.everything if not Path(file).exists()]
        runs = len(list((checkout.folder / "results").rglob("run.json")))
    print(*wrong, *lacking, sep="\n")
    print(
        f"{runs} runs, {rows} rows in {tables} experiments, {died} deaths, {starts} starts of Snakemake:"
        f" {seconds / 60:.1f} min, {peak / 2**20:.0f} MiB at most for Snakemake;"
        f" {len(wrong) + len(lacking)} things wrong"
    )
    sys.exit(bool(wrong or lacking))


if __name__ == "__main__":
    main()
