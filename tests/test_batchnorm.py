"""BatchNorm fused with an addition and a ReLU: agrees with float64, up to the rounding of bfloat16."""

import pytest
import torch
from torch import nn

from onlybn.models import build
from onlybn.models.batchnorm import _is_fast, normalise
from onlybn.networks.variants import DEFAULT, initialise

SHAPES = [(8, 16, 6, 6), (3, 16, 5, 5), (5, 3, 7, 3), (4, 32, 4, 4), (2, 64, 1, 1), (64, 48, 2, 2)]


def case(shape, seed=0):
    """An activation far from mean 0, something to add, a gradient, and a BatchNorm with γ of both signs."""
    g = torch.Generator().manual_seed(seed)
    x, added, dy = (torch.randn(shape, generator=g) for _ in range(3))
    x = 3 * x + torch.arange(shape[1])[:, None, None]
    layer = nn.BatchNorm2d(shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.randn(shape[1], generator=g))
        layer.bias.copy_(torch.randn(shape[1], generator=g))
    as_used = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}
    return [tensor.to(**as_used) for tensor in (x, added, dy)], layer


@pytest.mark.parametrize("with_relu", [True, False])
@pytest.mark.parametrize("with_added", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_fused_operation_agrees_with_float64(shape, with_added, with_relu):
    (x, added, dy), layer = case(shape)
    reference = nn.BatchNorm2d(shape[1]).double()
    reference.load_state_dict(layer.state_dict())
    wide, wide_added = (t.double().requires_grad_() for t in (x, added))
    expected = reference(wide) + (wide_added if with_added else 0)
    if with_relu:
        expected = expected.relu()
    expected.backward(dy.double())

    x.requires_grad_()
    added.requires_grad_()
    given = added if with_added else None
    y = normalise(x, layer, nn.ReLU() if with_relu else None, given)
    assert y.grad_fn.name() == "_FusedBackward"
    y.backward(dy)
    torch.testing.assert_close(y.double(), expected, rtol=2e-2, atol=2e-2)
    # Compare norms, since an output close to 0 may be on the other side of the ReLU after rounding.
    assert (x.grad - wide.grad).norm() < 0.05 * wide.grad.norm() + 0.01
    torch.testing.assert_close(layer.weight.grad.double(), reference.weight.grad, rtol=0.05, atol=0.3)
    torch.testing.assert_close(layer.bias.grad.double(), reference.bias.grad, rtol=0.05, atol=0.3)
    torch.testing.assert_close(layer.running_mean.double(), reference.running_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_var.double(), reference.running_var, rtol=1e-4, atol=1e-5)
    if with_added:
        assert (added.grad - wide_added.grad).norm() < 0.05 * wide_added.grad.norm()


def test_a_variance_is_right_however_far_the_mean():
    x = (100 + torch.randn(64, 16, 8, 8)).to(torch.bfloat16, memory_format=torch.channels_last)
    layer, reference = nn.BatchNorm2d(16), nn.BatchNorm2d(16).double()
    normalise(x, layer)
    reference(x.double())
    torch.testing.assert_close(layer.running_var.double(), reference.running_var, rtol=1e-5, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_so_that_divergence_is_noticed(value):
    (x, _, _), layer = case((4, 16, 4, 4))
    x[0, 0, 0, 0] = value
    assert not normalise(x, layer, nn.ReLU()).isfinite().all()


def test_it_is_used_only_for_bfloat16_on_one_thread_of_a_cpu():
    (x, added, _), layer = case((2, 16, 4, 4))
    assert _is_fast(x, None)
    assert not _is_fast(x.float(), None)
    assert not _is_fast(x.contiguous(), None)
    assert not _is_fast(x, added.contiguous())
    x.requires_grad_()
    assert normalise(x, layer.eval()).grad_fn.name() != "_FusedBackward"
    assert normalise(x, layer.train()).grad_fn.name() == "_FusedBackward"
    torch.set_num_threads(2)
    try:
        assert not _is_fast(x, None)
    finally:
        torch.set_num_threads(1)


def test_frozen_parameters_get_no_gradient():
    (x, _, dy), layer = case((4, 16, 4, 4))
    normalise(x, layer, nn.ReLU()).backward(dy)
    assert x.grad is None
    assert layer.weight.grad is not None
    layer.requires_grad_(False)
    assert normalise(x, layer, nn.ReLU()).grad_fn is None


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_agrees_with_float64_and_calls_hooks_of_the_relu(shape):
    (x, added, _), layer = case(shape)
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    reference = nn.BatchNorm2d(shape[1]).double().eval()
    reference.load_state_dict(layer.eval().state_dict())
    relu, heard = nn.ReLU(), []
    expected = (reference(x.double()) + added.double()).relu()
    torch.testing.assert_close(normalise(x, layer, relu, added).double(), expected, rtol=2e-2, atol=2e-2)
    relu.register_forward_hook(lambda module, inputs, output: heard.append(output))
    shown = normalise(x, layer, relu, added)
    assert heard[0] is shown
    torch.testing.assert_close(shown.double(), expected, rtol=3e-2, atol=8e-2)


@pytest.mark.parametrize("with_added", [True, False])
def test_a_second_derivative_equals_that_of_torchs_layers(with_added):
    (x, added, direction), layer = case((4, 3, 5, 5))
    reference = nn.BatchNorm2d(3).double()
    reference.load_state_dict(layer.state_dict())
    layer = layer.double()

    def product(function, batchnorm):
        """The Hessian of a loss by activations, γ and β, times a direction."""
        moved = [x.double().requires_grad_(), *batchnorm.parameters()]
        loss = function(moved[0], added.double() if with_added else 0).sin().sum()
        gradients = torch.autograd.grad(loss, moved, create_graph=True)
        directions = [direction.double(), *(torch.ones(3, dtype=torch.float64) for _ in range(2))]
        return torch.autograd.grad(
            sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)), moved
        )

    relu = nn.ReLU(inplace=True)
    ours = product(lambda x, added: normalise(x, layer, relu, added if with_added else None), layer)
    theirs = product(lambda x, added: (reference(x) + added).relu(), reference)
    for one, other in zip(ours, theirs, strict=True):
        assert other.abs().max() > 0.01
        torch.testing.assert_close(one, other)


def test_the_fused_operation_refuses_a_second_derivative_even_of_a_constant_gradient():
    (x, _, _), layer = case((4, 16, 4, 4))
    x.requires_grad_()
    y = normalise(x, layer, nn.ReLU())
    with pytest.raises(RuntimeError, match="no second derivative; compute in float32, or on two threads"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def listen(network, kind):
    """Record the output of each module of that kind, and the gradient that a BatchNorm gets."""
    given, came = {}, {}
    for name, module in network.named_layers(kind):
        module.register_forward_hook(lambda *call, name=name: given.update({name: call[2]}))
        if kind is nn.BatchNorm2d:
            module.register_full_backward_hook(lambda *call, name=name: came.update({name: call[2][0]}))
    return given, came


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.ReLU])
@pytest.mark.parametrize("training", [True, False])
def test_hooks_on_a_layer_are_called_wherever_it_is_computed(kind, training):
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = {}
    for precision in (torch.bfloat16, torch.float32):
        network = build("resnet-14", channels=1, classes=10)
        initialise(network, DEFAULT, 0)
        network = network.to(memory_format=torch.channels_last).train(training)
        heard, came = listen(network, kind)
        with (
            torch.set_grad_enabled(training),
            torch.autocast("cpu", precision, enabled=precision == torch.bfloat16),
        ):
            logits = network(images)
        if training:
            logits.float().square().sum().backward()
            assert came.keys() == (heard.keys() if kind is nn.BatchNorm2d else {}.keys())
            assert all(gradient.abs().sum() > 0 for gradient in came.values())
        assert heard.keys() == dict(network.named_layers(kind)).keys()
        found[precision] = heard
    for name, output in found[torch.bfloat16].items():
        expected = found[torch.float32][name]
        assert (output.float() - expected).norm() < 0.05 * expected.norm(), name
