"""Clamping: accuracy after setting every small γ to 0 (Figure 6)."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from onlybn.datasets.images import Images
from onlybn.models.network import Network
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.evaluation import evaluate

# The paper's thresholds, and three per decade from 0.001 to 1.
THRESHOLDS = tuple(sorted({0.01, 0.05, 0.1, *np.logspace(-3, 0, 10).round(6).tolist()}))


@torch.no_grad()
def clamping(
    network: Network,
    images: Images,
    *,
    precision: torch.dtype = torch.float32,
    thresholds: Sequence[float] = THRESHOLDS,
) -> pa.Table:
    """Return a row per threshold ε, once with β kept and once with β set to 0 too (beyond the paper).

    Every γ with |γ| < ε is set to 0, and with `beta_too` its β as well; running statistics are kept.
    `clamped` counts these channels, including those of shortcuts. Accuracies are in percent. Afterwards the
    network is unchanged. The table is empty if the network has no γ.
    """
    layers = network.normalisations()
    if not layers:
        return SCHEMAS["clamping"].empty_table()
    gammas = [layer.weight.clone() for layer in layers]
    betas = [layer.bias.clone() for layer in layers]
    channels = sum(gamma.numel() for gamma in gammas)

    def measure() -> dict[str, float]:
        return evaluate(network, images, precision=precision)

    as_trained = measure()
    unclamped = {f"{name}_unclamped": value for name, value in as_trained.items()}
    rows = []
    for beta_too in (False, True):
        before, measured = 0, as_trained
        for threshold in sorted(thresholds):
            small = [gamma.abs() < threshold for gamma in gammas]
            clamped = sum(int(chosen.sum()) for chosen in small)
            if clamped > before:  # the same channels as at the previous threshold need no second test
                for layer, gamma, beta, chosen in zip(layers, gammas, betas, small, strict=True):
                    layer.weight.copy_(gamma.masked_fill(chosen, 0))
                    layer.bias.copy_(beta.masked_fill(chosen, 0) if beta_too else beta)
                before, measured = clamped, measure()
            share = {"clamped_percent": 100 * clamped / channels, "channels": channels}
            row = {"threshold": threshold, "beta_too": beta_too, "clamped": clamped}
            rows.append(row | share | measured | unclamped)
        for layer, gamma, beta in zip(layers, gammas, betas, strict=True):
            layer.weight.copy_(gamma)
            layer.bias.copy_(beta)
    return pa.Table.from_pylist(rows, SCHEMAS["clamping"])
