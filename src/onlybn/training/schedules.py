"""The learning rate of every step (Appendix B)."""

import numpy as np

from onlybn.study import Training


def learning_rates(training: Training, steps_per_epoch: int) -> np.ndarray:
    """Return the learning rate of every step, float64 (steps,).

    Milestones and warm-up have the unit of the length of training: epochs (fractions are allowed) or steps.
    During warm-up the rate grows linearly to its full value; at each milestone it is divided.
    """
    unit = steps_per_epoch if training.unit == "epoch" else 1
    steps = training.length * unit
    done = np.arange(steps) / unit
    rates = np.full(steps, training.learning_rate)
    for milestone in training.milestones:
        rates[done >= milestone] /= training.divide_by
    warm = done < training.warmup
    rates[warm] *= (np.flatnonzero(warm) + 1) / max(1, warm.sum())
    return rates
