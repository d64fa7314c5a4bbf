"""Initialisation: the distribution of the draws, and that a seed gives the same draws everywhere."""

import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from onlybn.networks.draw import build
from onlybn.networks.variants import AFFINES, FEATURES, NAMES, ZERO_BIAS, initialise
from onlybn.randomness import generator


def drawn(variant="kaiming-normal_gamma-uniform", seed=0, name="wrn-14-4"):
    network = build(name, "batchnorm", channels=3, classes=10, size=32)
    initialise(network, variant, seed)
    return network


def test_a_draw_depends_only_on_seed_and_purpose():
    first = generator(3, "weight", "a").standard_normal(5)
    generator(3, "weight", "b").standard_normal(7)
    assert np.array_equal(first, generator(3, "weight", "a").standard_normal(5))
    assert not np.array_equal(first, generator(4, "weight", "a").standard_normal(5))
    assert not np.array_equal(first, generator(3, "weight", "b").standard_normal(5))


def test_draws_are_pinned_so_that_a_seed_always_means_the_same():
    assert generator(0, "order", 1).permutation(8).tolist() == [7, 6, 5, 4, 1, 0, 2, 3]
    weights = drawn(name="resnet-8").convolution.weight.flatten()[:4]
    assert weights.tolist() == pytest.approx([0.06228237, -0.19081955, -0.05658042, -0.12437632], abs=1e-7)


def test_kaiming_normal_has_the_spread_of_fan_in_and_biases_are_pytorchs():
    network = drawn()
    for layer in network.convolutions():
        expected = (2 / layer.weight[0].numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=4 / layer.weight.numel() ** 0.5)
    bound = network.output.in_features**-0.5
    assert network.output.bias.abs().max() <= bound
    assert network.output.bias.std() > bound / 4


def test_gamma_is_uniform_from_0_to_1_and_beta_is_0():
    layers = drawn().normalisations()
    gamma = torch.cat([layer.weight for layer in layers])
    assert 0 <= gamma.min() < 0.01
    assert 0.99 < gamma.max() <= 1
    assert gamma.mean().item() == pytest.approx(0.5, abs=0.02)
    assert all((layer.bias == 0).all() for layer in layers)
    assert all((layer.running_mean == 0).all() and (layer.running_var == 1).all() for layer in layers)


@pytest.mark.parametrize("variant", NAMES)
def test_every_variant_draws_as_its_name_says(variant):
    network = drawn(variant)
    features, affine = variant.split("_")
    weight = network.stages[1][0].convolution_1.weight  # 128 channels of 64 · 9 weights
    rows = weight.flatten(1)
    fan_in = rows.shape[1]
    assert rows.mean().abs() < 0.01
    match features:
        case "orthogonal":
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
        case "binary":
            assert rows.abs().unique().numel() == 1
            assert rows.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
        case "torch-uniform":
            assert rows.abs().max() <= (1 / fan_in) ** 0.5
            assert rows.std().item() == pytest.approx((1 / 3 / fan_in) ** 0.5, rel=0.02)
        case "vgg-gaussian":
            assert rows.abs().max() > 3 * (2 / (9 * 128)) ** 0.5
            assert rows.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
        case "kaiming-uniform" | "kaiming-uniform-zero-bias":
            assert rows.abs().max() <= (6 / fan_in) ** 0.5
            assert rows.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
        case "kaiming-normal":
            assert rows.abs().max() > 3 * (2 / fan_in) ** 0.5
        case "glorot-uniform":
            bound = (6 / (fan_in + 9 * 128)) ** 0.5
            assert 0.99 * bound < rows.abs().max() <= bound
            assert rows.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        case "normal-0.1" | "normal-0.01":
            deviation = float(features.removeprefix("normal-"))
            assert rows.std().item() == pytest.approx(deviation, rel=0.02)
            assert rows.abs().max() > 3 * deviation
        case _:
            pytest.fail(f"{features} is not checked")
    low, high, beta = AFFINES[affine]
    gamma = torch.cat([layer.weight for layer in network.normalisations()])
    assert low <= gamma.min() <= gamma.max() <= high
    assert gamma.mean().item() == pytest.approx((low + high) / 2, abs=0.05)
    assert all((layer.bias == beta).all() for layer in network.normalisations())


def test_biases_are_pytorchs_or_with_weight_companders_and_the_later_draws_0():
    for features in FEATURES:
        network = build("resnet-8", "none", channels=3, classes=10, size=32)
        initialise(network, f"{features}_gamma-one", 0)
        biases = [layer.bias for _, layer in network.named_layers((nn.Conv2d, nn.Linear))]
        assert len(biases) == 10
        if features in ZERO_BIAS:
            assert not any(bias.any() for bias in biases)
        else:
            assert all(bias.all() for bias in biases)
            assert biases[0].abs().max() <= 27**-0.5


def test_linear_layers_beside_the_vggs_gaussian_convolutions_are_he_uniform():
    gaussian, uniform = (
        drawn(f"{features}_gamma-one", name="resnet-8").output.weight
        for features in ("vgg-gaussian", "kaiming-uniform")
    )
    assert torch.equal(gaussian, uniform)


def test_every_kind_of_features_has_a_function_that_is_documented():
    assert all(function.__doc__ for function in FEATURES.values())


DRAW = """
import json, torch
from onlybn import models
from onlybn.networks import regimes
from onlybn.tensors import fingerprint
from onlybn.networks.variants import AFFINES, FEATURES, initialise

prints = {}
variants = [f"{features}_gamma-uniform" for features in FEATURES]
variants += [f"kaiming-normal_{affine}" for affine in AFFINES]
for variant in variants:
    network = models.build("wrn-14-2", channels=3, classes=10)
    initialise(network, variant, 5)
    regimes.apply(network, "random-2", 5)
    prints[variant] = fingerprint(network.state_dict())
print(json.dumps([prints, torch.backends.cpu.get_cpu_capability()]))
"""


@cache
def drawn_elsewhere(**environment):
    """Draw every variant in a process with other code paths; return the fingerprints and torch's path."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRAW],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_seed_names_the_same_bits_under_numpys_and_torchs_portable_code_paths():
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    here, _ = drawn_elsewhere()
    optional = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    portable, path = drawn_elsewhere(
        NPY_DISABLE_CPU_FEATURES=" ".join(optional), ATEN_CPU_CAPABILITY="default"
    )
    assert path == "DEFAULT"
    assert portable == here


def test_an_orthogonal_draw_under_another_blas_kernel_differs_by_rounding_at_most():
    # The order of sums in QR depends on the kernel: only this draw does not have the same bits everywhere.
    here, _ = drawn_elsewhere()
    other, _ = drawn_elsewhere(OPENBLAS_CORETYPE="Prescott")
    for variant in here:
        if variant.startswith("orthogonal"):
            assert other[variant]["sums"] == pytest.approx(here[variant]["sums"], abs=1e-5)
        else:
            assert other[variant] == here[variant]
