"""The learning rate of every step (Appendix B)."""

import numpy as np

from onlybn.study import Training


def learning_rates(training: Training, steps_per_epoch: int) -> np.ndarray:
    """Return the learning rate of every step, float64 (steps,).

    Milestones and warm-up are fractions of training. During warm-up the rate grows linearly to its full
    value; at each milestone it is divided.
    """
    steps = training.epochs * steps_per_epoch
    epoch = np.arange(steps) / steps_per_epoch
    rates = np.full(steps, training.learning_rate)
    for milestone in training.milestones:
        rates[epoch >= milestone] /= training.divide_by
    warm = epoch < training.warmup
    rates[warm] *= (np.flatnonzero(warm) + 1) / max(1, warm.sum())
    return rates
