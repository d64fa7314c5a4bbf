"""A copy of a user's clone with a study, in a separate folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forked

from onlybn.files import sha256

ROOT = Path(__file__).parents[1]
STUDY = """
dataset: digits
training: {epochs: 1, batch_size: 128, learning_rate: 0.1, flip: false}
seeds: 2
experiments:
  affine: {architectures: [resnet-8], regimes: [all, no-affine]}
  batchnorm: {architectures: [resnet-8, resnet-14, wrn-14-2], regimes: [batchnorm]}
  one: {architectures: [resnet-8], regimes: [all, batchnorm]}
figures:
  figure-1: [affine]
  figure-2: [affine, batchnorm]
  figure-3: [batchnorm]
  figure-5: [one]
  figure-6: [one]
  figure-7: [one]
tables:
  table-1: [batchnorm]
  accuracy: [affine, batchnorm]
  dead-relu: [one]
  claims: [affine, batchnorm, one]
"""


class Checkout:
    """A copy of a user's clone, with the study tiny.yaml."""

    def __init__(self, folder: Path, study: str):
        self.folder = folder
        for name in ("Snakefile", "config.yaml", "environment.yml"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("workflow", "profiles"):
            shutil.copytree(ROOT / name, folder / name)
        (folder / "tiny.yaml").write_text(study)
        config = (folder / "config.yaml").read_text().replace("study: digits", "study: tiny.yaml")
        config = config.replace("seeds_per_job: 5", "seeds_per_job: 1").replace("device: auto", "device: cpu")
        (folder / "config.yaml").write_text(config)

    def command(self, *arguments):
        return [sys.executable, "-m", "snakemake", *arguments]

    def snakemake(self, *arguments, **environment) -> subprocess.CompletedProcess:
        if not environment:
            return forked.python_m("snakemake", *arguments, folder=self.folder)
        command, given = self.command(*arguments), {"env": os.environ | environment, "cwd": self.folder}
        return subprocess.run(command, capture_output=True, text=True, timeout=forked.SECONDS, **given)

    def ok(self, *arguments, **environment) -> str:
        done = self.snakemake("--cores", "2", *arguments, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs(self, *arguments) -> dict[str, int]:
        """The jobs, by rule, that a dry run would run."""
        text = self.ok(*arguments, "-n", "--quiet", "rules")
        found = re.findall(r"^([\w-]+) +(\d+)$", text, re.M)
        return {name: int(count) for name, count in found if name != "total"}

    def claims(self) -> str:
        """What the short table of claims prints, or the error."""
        done = forked.python_m("onlybn", "claims", folder=self.folder)
        return done.stdout + done.stderr

    def refusal(self, *arguments) -> str:
        done = self.snakemake(*arguments)
        assert done.returncode != 0
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def digests(self) -> dict[str, str]:
        """The SHA-256 of every table and state file of the study, except those that contain times."""
        results = self.folder / "results" / "tiny"
        kinds = ("parquet", "safetensors", "csv", "md")
        files = (file for kind in kinds for file in results.rglob(f"*.{kind}"))
        without_clock = (file for file in files if file.stem not in ("runs", "provenance"))
        return {str(file.relative_to(results)): sha256(file) for file in without_clock}
