"""What BatchNorm does: its figures and tables from collected tables with known answers."""

import json
import math
from functools import cache
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from conftest import run_columns
from matplotlib import pyplot as plt

from onlybn.drawing import draw as drawing
from onlybn.drawing import make as making
from onlybn.observers.inputs import PERCENTS
from onlybn.papers import paper
from onlybn.papers.batchnorm_mechanisms import arms, looks, measures
from onlybn.papers.batchnorm_mechanisms.figures import (
    batch_size,
    deep_linear,
    evaluation,
    gradient_shift,
    landscape,
    learning_rates,
    noisy_batchnorm,
    norms,
    placement,
    sigmoid_mlp,
)
from onlybn.papers.batchnorm_mechanisms.tables import accuracy
from onlybn.papers.batchnorm_mechanisms.tables import learning_rates as learning_rates_table

PAPER = paper("batchnorm-mechanisms")
STEPS, EVERY = 1000, 40
LAYERS = 4
NORMAL = NormalDist()
# How fast a normalisation learns, its effective β · rate early on, and how far a step moves its inputs.
KINDS = {
    "batchnorm": (3.0, 0.8, 0.02),
    "none": (1.0, 2.4, 0.1),
    "batchnorm-noisy": (2.7, 1.0, 1.0),
    "l1": (3.1, 0.7, 0.05),
    "linf": (2.5, 0.9, 0.05),
    "layernorm": (2.0, 1.2, 0.03),
    "ghost-8": (2.2, 0.9, 0.02),
    "ghost-32": (2.6, 0.9, 0.02),
    "batchnorm-after": (3.2, 0.9, 0.02),
}


class World:
    """Collected tables of arms in settings, two seeds each; the last seed of the last arm diverges at half.

    A setting is an architecture and a learning rate.
    """

    def __init__(self, kinds=("batchnorm", "none"), settings=(("resnet-8", 0.1),), seeds=2, **columns):
        self.columns, self.last = columns, (kinds[-1], settings[-1], seeds - 1)
        self.runs = [(k, s, seed) for s in settings for k in kinds for seed in range(seeds)]
        self.rng = np.random.default_rng(0)

    def table(self, rows) -> pd.DataFrame:
        """A table of what `rows` yields of each run, from its kind, rate, steps and seed."""
        found = []
        for run in self.runs:
            kind, (architecture, rate), seed = run
            steps, lost = np.arange(0, STEPS, EVERY), run == self.last
            training = {"steps": STEPS, "batch_size": 128, "learning_rate": rate}
            named = {"normalisation": kind, "recipe": f"x{rate:g}".replace(".", "-"), "steps": STEPS}
            named |= {"status": "diverged" if lost else "finished", "epochs": 0}
            named |= {"training": json.dumps(training), "dataset": "cifar10"} | self.columns
            columns = run_columns(architecture, named.pop("regime", "all"), seed, **named)
            steps = steps[steps < STEPS / 2] if lost else steps
            found += [columns | row for row in rows(*KINDS[kind], rate, steps, seed)]
        return pd.DataFrame(found)

    def accuracies(self, fast, rate, steps, seed):
        return 10 + 80 * (1 - np.exp(-fast * (1 + np.log10(rate) / 3) * steps / 300)) + seed

    @property
    def metrics(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps[1::2] + EVERY:
                value = self.accuracies(fast, rate, step, seed)
                for split, less in (("train", 0.0), ("test", 4.0)):
                    row = {"epoch": step // 100, "step": float(step), "split": split}
                    row |= {"loss": 2.5 * (1 - value / 100), "top_1": value - less, "top_5": 99.0}
                    yield row | {"learning_rate": rate}

        return self.table(rows)

    @property
    def curve(self):
        def rows(fast, beta, moves, rate, steps, seed):
            values = self.accuracies(fast, rate, steps, seed) + self.rng.normal(0, 2, len(steps))
            for step, value in zip(steps, values, strict=True):
                row = {"epoch": 1 + step // 100, "step": step, "top_1": value, "learning_rate": rate}
                yield row | {"loss": 2.5 * (1.05 - value / 100)}

        return self.table(rows)

    @property
    def inputs(self):
        def rows(fast, beta, moves, rate, steps, seed):
            normal = np.array([NORMAL.inv_cdf(min(max(p / 100, 1e-3), 1 - 1e-3)) for p in PERCENTS])
            for step in steps:
                for number in range(LAYERS):
                    centre, wide = moves * step / 100 + 0.1 * number, 1 + step / STEPS * number / 5
                    means = centre + np.arange(4) * 0.1
                    yield {
                        "epoch": 1,
                        "step": step,
                        "layer": f"layers.{number}",
                        "number": number,
                        "unit": seed,
                        "unit_percentiles": centre + wide * normal,
                        "all_percentiles": centre + 1.2 * wide * normal,
                        "means": means.astype("float32"),
                        "variances": np.full(4, wide, "float32"),
                        "mean_step": moves * (1 + 0.2 * self.rng.random()),
                        "variance_step": moves * (1 + 0.2 * self.rng.random()) / 2,
                    }

        return self.table(rows)

    @property
    def gradient_shift(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps:
                for number in range(LAYERS):
                    norm = 2 * np.exp(-step / STEPS) + 0.1 * number
                    cosine = np.cos(beta * number / LAYERS * (1 + 0.2 * self.rng.random()))
                    relative = math.sqrt(2 - 2 * cosine)
                    row = {"epoch": 1, "step": step, "layer": f"layers.{number}", "number": number}
                    row |= {"norm": norm, "shift": relative * norm, "relative": relative}
                    yield row | {"cosine": cosine}

        return self.table(rows)

    @property
    def landscape(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps:
                loss = 2.3 * math.exp(-fast * step / 600) + 0.05
                now = 2.0 + (beta - 2.0) * math.exp(-step / 300)  # rate · β
                for direction, part in (("gradient", 1.0), ("random-1", 0.2), ("random-2", 0.3)):
                    for factor in (0.0, 0.5, 1.0, 2.0, 4.0):
                        norm = 1 + seed
                        beta_now = now / rate * (0.5 + factor / 8) * part
                        row = {"epoch": 1, "step": step, "direction": direction, "factor": factor}
                        row |= {
                            "learning_rate": rate,
                            "loss": loss * (1 + beta * part * (factor - 1) ** 2 / 9),
                        }
                        row |= {"decay": 0.3, "gradient_change": beta_now * factor * rate * norm}
                        row |= {"gradient_norm": norm, "beta": beta_now if factor else None}
                        yield row | {"cosine": 1 - factor / 4}

        return self.table(rows)

    @property
    def reestimated(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for epoch in (1, 5, 10):
                for name, more in (("running", -10 / epoch), ("pooled", 0.0)):
                    value = self.accuracies(fast, rate, 100 * epoch, seed) + more
                    row = {"epoch": epoch, "step": 100 * epoch, "statistics": name, "loss": 1.0}
                    yield row | {"top_1": value, "top_5": 99.0}

        return self.table(rows)

    @property
    def identity(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps:
                for number in range(LAYERS):
                    row = {"epoch": 1, "step": step, "layer": f"bn{number}", "number": number}
                    row |= {"error": 1e-14 * (1 + number + seed), "mean_share": 0.3 - 0.03 * number}
                    yield row | {"normalised_share": 0.1 + 0.02 * number, "ratio": 0.8}

        return self.table(rows)

    @property
    def statistics(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for place, shift in enumerate(evaluation.SHIFTS):
                for name in evaluation.STATISTICS:
                    if shift != "clean" and name in ("batch-1", "batch-2", "batch-8", "batch-1000"):
                        continue
                    value = 90.0 - (30 if name == "running" else 8) * place / 3 + seed
                    value = 10.0 if name == "batch-1" else value
                    for layer in range(LAYERS):
                        row = {"shift": shift, "statistics": name, "loss": 1.0, "top_1": value}
                        row |= {"top_5": 99.0, "not_finite": 0, "classes": 10, "apart": 0.1}
                        yield row | {"layer": layer, "name": f"bn{layer}", "largest": 5.0 + place * layer}

        return self.table(rows)

    def kind(self, name):
        return getattr(self, name.replace("-", "_"))


@cache
def collected(kind: str, **world) -> pd.DataFrame:
    return World(**world).kind(kind)
