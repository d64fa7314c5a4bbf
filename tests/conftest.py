"""What the tests share: the digits, prepared once, and the smallest real run on them."""

import gc
import json
import math
import os
import shutil
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from checkout import ROOT, STUDY, Checkout

from onlybn import locks
from onlybn.datasets.prepare import prepare
from onlybn.datasets.small import SmallImages, Split, read
from onlybn.models import architecture, build
from onlybn.networks.variants import DEFAULT
from onlybn.study import Run, Training

BUILTIN = ROOT / "workflow" / "studies"
# The slowest files come first, so that workers, which take a file at a time, end at about the same time.
LONGEST = ("test_workflow.py", "test_extend.py", "test_checkpoints.py", "test_claims.py", "test_figures.py")
# Snakemake's configuration if nothing is given on the command line.
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))


@cache
def counts(architecture_name: str) -> dict[str, int]:
    return build(architecture_name, channels=3, classes=10, size=32).parameter_counts()


def run_columns(name: str, regime: str, seed: int, **changes) -> dict:
    """The columns that collect puts in front of every run's rows."""
    described = architecture(name)
    columns = {
        "study": "s",
        "dataset": "digits",
        "experiment": "e",
        "architecture": name,
        "family": described.family,
        "depth": described.depth,
        "width": described.width,
        "regime": regime,
        "variant": DEFAULT,
        "seed": seed,
        "status": "finished",
        "epochs": 2,
        "training": json.dumps({"epochs": 2, "batch_size": 32, "learning_rate": 0.1}),
        **counts(name),
    }
    return columns | changes


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory) -> Checkout:
    """A checkout in which the whole tiny study was run; tests leave it complete.

    It is run once: each worker of pytest-xdist gets a copy.
    """
    checkout = Checkout(tmp_path_factory.mktemp("checkout"), STUDY)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        checkout.text = checkout.ok()
        return checkout
    kept, text = (tmp_path_factory.getbasetemp().parent / name for name in ("reproduced", "reproduced.txt"))
    held = locks.lock(kept.with_suffix(".lock"), "", patience=math.inf)
    if not text.exists():
        text.write_text(checkout.ok())
        shutil.copytree(checkout.folder, kept)
    else:
        shutil.copytree(kept, checkout.folder, dirs_exist_ok=True)
    os.close(held)
    checkout.text = text.read_text()
    return checkout


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)
    gc.freeze()  # statsmodels collects garbage, which takes half a second among all that was imported


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("datasets") / "digits"
    prepare("digits", Path("unused"), folder)
    return folder


@pytest.fixture(scope="session")
def digits(digits_folder) -> SmallImages:
    return read(digits_folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def few_digits(digits) -> SmallImages:
    """The first 100 training and 70 test images."""
    return replace(
        digits,
        examples=100,
        train=Split(digits.train.images[:100], digits.train.labels[:100]),
        test=Split(digits.test.images[:70], digits.test.labels[:70]),
    )


@pytest.fixture
def make_run():
    def make(architecture="resnet-8", regime="batchnorm", seed=0, **training) -> Run:
        hyperparameters = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1, "flip": False} | training
        return Run(
            study="test",
            dataset="digits",
            training=Training(**hyperparameters),
            architecture=architecture,
            regime=regime,
            variant="kaiming-normal_gamma-uniform",
            seed=seed,
        )

    return make


@pytest.fixture
def python_without_the_package(monkeypatch, tmp_path):
    """Let processes start a Python that finds what is installed, but none of its editable packages."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", str(Path(torch.__file__).parents[1]))


def recorded_by_running(calls):
    """Stand in for a CUDA graph: recording takes three steps, and each replay takes one."""

    def record(branches):
        def run():
            for branch in branches:
                branch()

        for _ in range(3):
            run()
        calls.append(len(branches))
        return run

    return record


class Silent:
    """A terminal that shows nothing."""

    def say(self, line):
        self.line = line

    def report(self, line):
        self.say(line)


@pytest.fixture
def train_block(tmp_path):
    """Run a training job on the CPU; its runs' folders are `tmp_path/runs/seed-N`."""

    def train(runs, dataset, processes=1, recordings=None):
        from onlybn.runs import block

        folders = [tmp_path / "runs" / f"seed-{run.seed}" for run in runs]
        block.train_block(
            runs,
            folders,
            work=tmp_path / "work",
            replaced=tmp_path / "replaced",
            dataset=dataset,
            data_dir=tmp_path,
            device="cpu",
            deterministic=False,
            threads=1,
            processes=processes,
            workers=0,
            checkpoint_every=0,
            terminal=Silent(),
            recordings=recordings,
        )
        return folders

    return train
