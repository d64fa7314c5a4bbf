"""BatchNorm on a GPU: the kernels in Triton's interpreter on a CPU, against float64 and torch."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from checkout import ROOT
from torch import nn
from torch.nn import functional as F

from onlybn.models import batchnorm, build
from onlybn.networks.variants import DEFAULT, initialise

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, which is for Linux")

# Partial tiles of pixels and of channels; a short last part; several tiles of channels.
SHAPES = [(8, 16, 6, 6), (3, 24, 5, 5), (16, 16, 9, 8), (2, 80, 3, 7), (3, 64, 1, 2)]
# The kernels' results for cases from the parent process. Triton reads the variable when it is imported.
CHILD = """
import sys
import torch
sys.path.insert(0, "tests")
from test_triton_kernels import CALLS, STEPS, batchnorm, trained
trained(batchnorm.normalise, *STEPS[0])
assert "triton" not in sys.modules, "a CPU's job does not import Triton"
batchnorm._is_on_gpu = lambda x, added: True
batchnorm._is_fast = lambda x, added: False
torch.set_num_threads(1)
torch.save({name: call() for name, call in CALLS.items()}, sys.argv[1])
"""
# Every kernel compiled in bfloat16 for an H100, which needs no GPU.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from onlybn.models import triton_kernels

types = dict.fromkeys(("x", "y", "dy", "dx", "added", "d_added"), "*bf16")
types |= dict.fromkeys(("pixels", "channels", "span", "parts"), "i32")
types |= dict.fromkeys(("eps", "momentum"), "fp32")
fixed = {"TILES": 2, "PIXELS": 16, "CHANNELS": 16, "PARTS": 16, "RELU": True}
for name, kernel in vars(triton_kernels).items():
    if isinstance(kernel, triton.JITFunction) and name != "_masked":
        signature = {n: "constexpr" if n in fixed else types.get(n, "*fp32") for n in kernel.arg_names}
        constants = {(kernel.arg_names.index(n),): v for n, v in fixed.items() if n in signature}
        triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32))
        print(name)
"""


def case(shape):
    """An activation far from mean 0, something to add, a gradient, and a BatchNorm with γ of both signs.

    All values are representable in bfloat16, so that every precision has the same inputs.
    """
    g = torch.Generator().manual_seed(0)
    x, added, dy = (torch.randn(shape, generator=g) for _ in range(3))
    x = 3 * x + 10 * torch.arange(shape[1])[:, None, None]
    layer = nn.BatchNorm2d(shape[1], momentum=0.3)
    for value in layer.parameters():
        value.data.normal_(generator=g)
    layer.running_mean.normal_(generator=g)
    layer.running_var.uniform_(0.5, 2, generator=g)
    rounded = (tensor.bfloat16().float() for tensor in (x, added, dy))
    return [tensor.contiguous(memory_format=torch.channels_last) for tensor in rounded], layer


def trained(function, shape, with_relu, with_added, dtype=torch.float32):
    """The results of a step: the output, the updated statistics, and the gradients."""
    (x, added, dy), layer = case(shape)
    layer = layer.to(torch.promote_types(dtype, torch.float32))
    x, added = (tensor.to(dtype).requires_grad_() for tensor in (x, added))
    y = function(x, layer, nn.ReLU() if with_relu else None, added if with_added else None)
    y.backward(dy := dy.to(dtype))
    found = {"y": y.detach(), "dy": dy, "mean": layer.running_mean, "var": layer.running_var, "dx": x.grad}
    found |= {"d_weight": layer.weight.grad, "d_bias": layer.bias.grad}
    return found | ({"d_added": added.grad} if with_added else {})


def evaluated(function, shape, dtype=torch.float32):
    """The results of an evaluation."""
    (x, added, _), layer = case(shape)
    with torch.no_grad():
        y = function(x.to(dtype), layer.to(dtype).eval(), nn.ReLU(), added.to(dtype))
    return {"y": y, "mean": layer.running_mean, "var": layer.running_var}


def curved(function, dtype=torch.float32):
    """The Hessian of a loss by activations, what is added, γ and β, times a direction."""
    (x, added, direction), layer = case((4, 3, 5, 5))
    layer, direction = layer.to(dtype), direction.to(dtype)
    x, added = (tensor.to(dtype).requires_grad_() for tensor in (x - 10, added))
    moved = [x, added, *layer.parameters()]
    loss = function(x, layer, nn.ReLU(), added).sin().sum()
    gradients = torch.autograd.grad(loss, moved, create_graph=True)
    along = [direction, direction, torch.ones(3), torch.ones(3)]
    product = sum((g * d).sum() for g, d in zip(gradients, along, strict=True))
    return dict(zip(["x", "added", "weight", "bias"], torch.autograd.grad(product, moved), strict=True))


def stepped(function, dtype=torch.float32):
    """The gradients and running statistics of a whole network whose convolutions are frozen."""
    network = build("resnet-14", channels=1, classes=10)
    initialise(network, DEFAULT, 0)
    network.to(dtype=dtype, memory_format=torch.channels_last)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.requires_grad_(False)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    F.cross_entropy(network(images), torch.arange(4)).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return gradients | dict(network.named_buffers())


def spoiled(function, value):
    """The results for an activation with one value that is not finite."""
    (x, _, _), layer = case((4, 16, 4, 4))
    x[0, 0, 0, 0] = value
    return {"y": function(x, layer, nn.ReLU()).detach()}


def torchs(x, layer, relu, added=None):
    y = layer(x)
    y = y if added is None else y + added
    return y if relu is None else relu(y)


STEPS = [(shape, relu, added) for shape in SHAPES[:2] for relu in (True, False) for added in (True, False)]
STEPS += [(shape, both, both) for shape in SHAPES[2:] for both in (True, False)]
CALLS = {f"{step}": lambda step=step: trained(batchnorm.normalise, *step) for step in STEPS}
CALLS |= {f"test {shape}": lambda shape=shape: evaluated(batchnorm.normalise, shape) for shape in SHAPES}
CALLS |= {"curved": lambda: curved(batchnorm.normalise), "network": lambda: stepped(batchnorm.normalise)}
CALLS |= {f"{value}": lambda v=value: spoiled(batchnorm.normalise, float(v)) for value in ("nan", "inf")}
CALLS |= {"bfloat16": lambda: trained(batchnorm.normalise, *STEPS[4], dtype=torch.bfloat16)}
CALLS |= {"again": CALLS[f"{STEPS[8]}"]}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """The results of each call with interpreted kernels, in a separate process."""
    path = tmp_path_factory.mktemp("triton") / "found.pt"
    child = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, path]
    done = subprocess.run(command, env=child, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    return torch.load(path)


def assert_near(found, expected, rtol=2e-5):
    """Compare by the largest value of each tensor, or of each channel's statistics."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        error, size = (found[name].double() - tensor).abs().max(), tensor.abs().max()
        assert error <= rtol * size + 1e-6, f"{name}: {error} of {size}"


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_agrees_with_float64_in_outputs_statistics_and_gradients(step, interpreted):
    assert_near(interpreted[f"{step}"], trained(torchs, *step, dtype=torch.float64))


def test_bfloat16_is_computed_in_float32_and_rounded_once(interpreted):
    found, expected = interpreted["bfloat16"], trained(torchs, *STEPS[4], dtype=torch.float64)
    for name in ("y", "dx", "d_added"):
        assert found[name].dtype == torch.bfloat16
        error, expected_value = (found.pop(name) - expected[name]).abs(), expected.pop(name).abs()
        # The interpreter truncates where a GPU rounds.
        assert (error <= 2**-7 * expected_value + 1e-4).all(), name
    assert_near(found, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_evaluation_agrees_with_float64_and_changes_no_statistics(shape, interpreted):
    assert_near(interpreted[f"test {shape}"], evaluated(torchs, shape, dtype=torch.float64))


def test_a_whole_network_gets_torchs_gradients_and_running_statistics(interpreted):
    assert_near(interpreted["network"], stepped(torchs, dtype=torch.float64), rtol=1e-4)


def test_a_second_derivative_equals_that_of_torchs_layers(interpreted):
    assert_near(interpreted["curved"], curved(torchs, dtype=torch.float64), rtol=1e-4)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_nan_and_infinity_stay_so_that_divergence_is_noticed(value, interpreted):
    y = interpreted[value]["y"]
    assert not y[:, 0].isfinite().all()
    assert y[:, 1:].isfinite().all()


def test_the_same_step_gives_the_same_bits(interpreted):
    for name, tensor in interpreted[f"{STEPS[8]}"].items():
        assert torch.equal(tensor, interpreted["again"][name])


def test_every_kernel_compiles_in_bfloat16_for_a_gpu(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 6


def test_without_triton_torchs_layers_are_used_and_the_log_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(batchnorm, "_is_on_gpu", lambda x, added: True)
    batchnorm.gpu_kernels.cache_clear()
    shape = SHAPES[0]
    for _ in range(2):
        found = trained(batchnorm.normalise, shape, True, True)
    batchnorm.gpu_kernels.cache_clear()
    for one, other in zip(found.values(), trained(torchs, shape, True, True).values(), strict=True):
        assert torch.equal(one, other)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("BatchNorm uses torch's layers, which are slower, since Triton fails here (")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_on_a_gpu_a_step_agrees_with_float64_and_a_graph_gives_the_same_bits(step, dtype):
    shape, with_relu, with_added = step
    (x, added, dy), layer = case(shape)
    x, added, dy = (tensor.to("cuda", dtype) for tensor in (x, added, dy))
    layer.cuda()
    relu = nn.ReLU() if with_relu else None

    def run():
        moved = [x.requires_grad_(), *layer.parameters(), *([added.requires_grad_()] if with_added else [])]
        y = batchnorm.normalise(x, layer, relu, added if with_added else None)
        assert y.grad_fn.name() == "_FusedBackward"
        return [y.detach(), *torch.autograd.grad(y, moved, dy)]

    eager = run()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = run()
    graph.replay()
    assert all(torch.equal(one, other) for one, other in zip(eager, recorded, strict=True))
    wide = nn.BatchNorm2d(shape[1]).cuda().double()
    wide.weight.data.copy_(layer.weight)
    wide.bias.data.copy_(layer.bias)
    moved = [x.detach().double().requires_grad_(), *wide.parameters()]
    moved += [added.detach().double().requires_grad_()] if with_added else []
    y = torchs(moved[0], wide, relu, moved[3] if with_added else None)
    for found, expected in zip(eager, [y.detach(), *torch.autograd.grad(y, moved, dy.double())], strict=True):
        allowed = 0.03 if dtype == torch.bfloat16 else 2e-5
        assert (found - expected).norm() < allowed * expected.norm() + 1e-5
