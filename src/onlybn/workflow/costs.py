"""The cost of a run: step times measured on a device, and estimates for networks that were not measured.

The table `costs.parquet` beside this module has the times measured by `benchmarks/scaling.py`, a row per
device, precision, dataset, architecture and regime.
"""

from functools import cache

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from onlybn.axes import NORMALISATION, Values
from onlybn.configuration import COSTS
from onlybn.datasets import DATASETS, Dataset
from onlybn.errors import UserError
from onlybn.networks.work import Work, built, work

# Memory of a training process (benchmarks/memory.py): interpreter, libraries and compiled kernels in MB; and
# its peak in units of all activations in float32, with a backward pass and without.
PROCESS_MB, KEPT, KEPT_FORWARD = 700, 4.0, 1.5


def memory(
    dataset: Dataset, architecture: str, regime: str, batch: int, values: Values = (), more: int = 0
) -> int:
    """Return the peak memory of a run on a CPU, in MB, without the dataset; `more` is of `more_tensors`."""
    from onlybn.training.evaluation import TEST_BATCH

    done = work(dataset, architecture, regime, values)
    training = batch * (KEPT if done.activation_gradients else KEPT_FORWARD)
    activations = max(training, TEST_BATCH["cpu"] * KEPT_FORWARD) * done.activations
    # Gradients, momentum, and the copies of a checkpoint.
    tensors = activations + (4 + more) * done.trained
    return round(PROCESS_MB + 4 * tensors / 2**20) + memory_of_weights(dataset, architecture)


@cache
def memory_of_weights(dataset: Dataset, architecture: str) -> int:
    """Return twice the size of a network's weights, in MB, which drawing them needs."""
    parameters = built(dataset, architecture, NORMALISATION.default).parameter_counts()["parameters"]
    return round(2 * 4 * parameters / 2**20)


def memory_of_checkpoint(
    dataset: Dataset, architecture: str, regime: str, values: Values = (), more: int = 0
) -> int:
    """Return the memory of a checkpoint written by a thread, in MB: weights, momentum, the last test's state.

    `more` is of `more_tensors`. The factor of two is there because torch rounds page-locked memory up to a
    power of two.
    """
    return round(2 * (3 + more) * 4 * work(dataset, architecture, regime, values).trained / 2**20)


def measured() -> pd.DataFrame:
    """Return the measured times, in milliseconds.

    `step` is a step of `batch` images by `replicates` together, and `test` the test of one image.
    """
    if not COSTS.is_file():
        raise UserError("plan: no step times were measured; run python benchmarks/scaling.py")
    return pd.read_parquet(COSTS)


def measured_precision(table: pd.DataFrame, device: str, requested: str) -> str:
    """Return a study's precision on a device: `auto` is bfloat16 if that was measured there."""
    if requested != "auto":
        return requested
    present = set(table.loc[table["device"] == device, "precision"])
    return "bfloat16" if "bfloat16" in present else "float32"


def is_processor(device: str) -> bool:
    """Return whether a device is a processor: its name ends with vector instructions in brackets."""
    return "(" in device


def nearest_measured(table: pd.DataFrame, device: str, precision: str) -> str:
    """Return a processor, or a similar one if it was not measured in that precision.

    The similar one has the same vector instructions, if one was measured; of several it is the slowest. A
    GPU, or a processor without a similar one, is returned itself: `Times` then reports what is missing.
    """
    candidates = table[(table["precision"] == precision) & table["device"].map(is_processor)]
    if not is_processor(device) or candidates.empty or device in set(candidates["device"]):
        return device
    alike = candidates[candidates["device"].str.endswith(device[device.rindex("(") :])]
    candidates = alike if len(alike) else candidates
    return candidates.groupby("device")["step"].median().idxmax()


# How far, in doublings, a network's width may be from the measured ones before a GPU's plan mentions it:
# between measured widths, and beyond them.
NEAR, BEYOND = 1.1, 0.5


class Times:
    """Step times of one replicate on one device in one precision: measured, or else estimated by a fit.

    The fit is a sum of non-negative costs, one for each kind of `Work`, by least squares of the relative
    error. A GPU computes a wide network at twenty times the rate of a narrow one, so its fit is corrected by
    width. If steps of `together` replicates were measured, each replicate has its share of such a step.
    Raises UserError, with the measured devices, if nothing was measured for this device.
    """

    def __init__(self, table: pd.DataFrame, device: str, precision: str, together: int = 1):
        here = table[(table["device"] == device) & (table["precision"] == precision)]
        alike = here["replicates"] == (together if (here["replicates"] == together).any() else 1)
        here = here[alike].assign(step=lambda rows: rows["step"] / rows["replicates"])
        if here.empty:
            known = sorted(set(zip(table["device"], table["precision"], strict=True)))
            names = "; ".join(f"{name} ({kind})" for name, kind in known)
            raise UserError(
                f"plan: no step times of '{device}' in {precision}; measured are: {names}; measure this one"
                " with python benchmarks/scaling.py"
            )
        rows = here[["dataset", "architecture", "regime", "batch", "step"]].itertuples(index=False)
        steps = [(DATASETS[d], *point, step) for d, *point, step in rows]
        tests = here.groupby(["dataset", "architecture"])["test"].median()
        tests = [(DATASETS[d], a, time) for (d, a), time in tests.items()]
        self.known = {(_shape(d), *point): step for d, *point, step in steps}
        self.known_tests = {(_shape(d), a): time for d, a, time in tests}
        self.by_width = not is_processor(device)
        steps = [(work(*point), point[-1], batch, step) for *point, batch, step in steps]
        tests = [(work(*point, "output"), "output", 1, time) for *point, time in tests]
        self.steps, self.tests = (_Fit(rows, by_width=self.by_width) for rows in (steps, tests))

    def step(
        self, dataset: Dataset, architecture: str, regime: str, batch: int, values: Values = ()
    ) -> float:
        """Return the milliseconds of a step.

        Networks were measured with BatchNorm; of one with other layers, the fit gives the ratio to that.
        """
        alike = "random-2" if regime.startswith("random-") else regime
        known = self.known.get((_shape(dataset), architecture, alike, batch))
        return self._of(self.steps, known, (dataset, architecture, regime), values, alike, batch)

    def test(self, dataset: Dataset, architecture: str, values: Values = ()) -> float:
        """Return the milliseconds to test one image."""
        known = self.known_tests.get((_shape(dataset), architecture))
        return self._of(self.tests, known, (dataset, architecture, "output"), values, "output", 1)

    @staticmethod
    def _of(fit: "_Fit", known: float | None, point: tuple, values: Values, alike: str, batch: int) -> float:
        if known is None:
            return fit(work(*point, values), alike, batch)
        if not values:
            return known
        return known * fit(work(*point, values), alike, batch) / fit(work(*point), alike, batch)

    def is_guess(self, dataset: Dataset, architecture: str) -> bool:
        """Return whether no similar width was measured, on a device whose rate depends on the width."""
        return self.by_width and self.steps.is_far(work(dataset, architecture, "output").width)


def _shape(dataset: Dataset) -> tuple[int, int, int]:
    """Return all of a dataset that a step's time depends on: CIFAR-10 and its JPEG copy are alike."""
    return dataset.channels, dataset.size, dataset.classes


class _Fit:
    """Milliseconds by work, fitted to measured rows (work, regime, batch, time).

    With `by_width`, the sum of costs is corrected by the ratio of measured to fitted time, for the same
    regime if it was measured. The logarithm of the ratio is interpolated between widths, and constant beyond
    them.
    """

    def __init__(self, rows: list[tuple[Work, str, int, float]], *, by_width: bool):
        features = np.array([done.per_step(batch) / time for done, _, batch, time in rows])
        size = features.max(axis=0)
        size[size == 0] = 1
        costs, _ = nnls(features / size, np.ones(len(rows)))
        self.costs = costs / size
        left = pd.DataFrame(
            {
                "regime": [regime for _, regime, *_ in rows],
                "width": [round(2 * done.width) / 2 for done, *_ in rows],
                "left": -np.log(np.maximum(features @ self.costs, 1e-12)) if by_width else 0.0,
            }
        )
        self.left = left.groupby("width")["left"].mean()
        self.left_of = {
            regime: some.groupby("width")["left"].mean() for regime, some in left.groupby("regime")
        }

    def __call__(self, done: Work, regime: str, batch: int) -> float:
        left = self.left_of.get(regime, self.left)
        return float(done.per_step(batch) @ self.costs * np.exp(np.interp(done.width, left.index, left)))

    def is_far(self, width: float) -> bool:
        """Return whether a width is beyond the measured ones, or more than a doubling from the nearest."""
        known = self.left.index
        beyond = max(known.min() - width, width - known.max())
        return beyond > BEYOND or np.abs(known - width).min() > NEAR
