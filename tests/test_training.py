"""The training loop: its schedule, its numbers against an independent reference, and divergence."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from onlybn.networks.draw import draw
from onlybn.randomness import generator
from onlybn.study import Training, changed
from onlybn.training.evaluation import Measures
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train
from onlybn.training.optimisers import SGD
from onlybn.training.schedules import learning_rates


def textbook(run, images):
    """Train the run as in a textbook: NCHW, torch.optim, one image at a time; return test losses."""
    training = run.training
    network, _ = draw(run, channels=1, classes=10)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(
        parameters,
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    mean, std = images.mean[0], images.std[0]
    count = len(images.train)
    losses = []
    for epoch in range(1, training.epochs + 1):
        if epoch - 1 in training.milestones:
            for group in optimiser.param_groups:
                group["lr"] /= 10
        network.train()
        order = generator(run.seed, "order", epoch).permutation(count)
        moves = generator(run.seed, "shift", epoch).integers(-1, 2, (count, 2))
        for start in range(0, count, training.batch_size):
            batch = []
            for place, index in enumerate(order[start : start + training.batch_size], start=start):
                image = np.pad(images.train.images[index, :, :, 0].numpy(), 1)
                down, right = 1 - moves[place]
                image = torch.from_numpy(image[down : down + 8, right : right + 8] / 255.0).float()
                batch.append((image[None] - mean) / std)
            labels = images.train.labels[order[start : start + training.batch_size]]
            optimiser.zero_grad()
            F.cross_entropy(network(torch.stack(batch)), labels).backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            test = images.test.images.permute(0, 3, 1, 2) / 255
            logits = network((test - mean) / std)
            losses.append(F.cross_entropy(logits, images.test.labels).item())
    return losses


@pytest.mark.parametrize("regime", ["all", "batchnorm", "random-2"])
def test_losses_equal_those_of_a_textbook_loop(regime, few_digits, make_run):
    run = make_run(regime=regime, epochs=3, milestones=[2])
    rows = train(run, few_digits).rows
    measured = [row["loss"] for row in rows if row["split"] == "test"]
    assert measured == pytest.approx(textbook(run, few_digits), rel=2e-3)


def test_the_same_run_gives_the_same_bits_and_another_seed_does_not(few_digits, make_run):
    first, again = train(make_run(), few_digits), train(make_run(), few_digits)
    assert first.rows == again.rows
    assert all(torch.equal(a, b) for a, b in zip(first.trained.values(), again.trained.values(), strict=True))
    assert train(make_run(seed=1), few_digits).rows != first.rows


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_tensor_as_learning_rate_gives_the_same_step_and_keeps_gradients(momentum):
    g = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=g) for shape in ((5,), (16, 3, 3, 3), (8, 4, 1, 1), (7, 6))]
    optimisers = []
    for _ in range(2):
        layer = nn.ParameterList(value.clone() for value in drawn).to(memory_format=torch.channels_last)
        optimisers.append(SGD(layer, momentum=momentum, weight_decay=0.01))
    for _ in range(3):
        gradients = [torch.randn(value.shape, generator=g) for value in drawn]
        for optimiser, rate in zip(optimisers, (0.1, torch.tensor(0.1)), strict=True):
            for parameter, gradient in zip(optimiser.parameters, gradients, strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            optimiser.step(rate)
            for parameter, gradient in zip(optimiser.parameters, gradients, strict=True):
                assert torch.equal(parameter.grad, gradient)
        for moved in zip(*(optimiser.parameters for optimiser in optimisers), strict=True):
            torch.testing.assert_close(*moved, rtol=1e-5, atol=1e-6)
    if momentum:
        for kept in zip(*(optimiser.buffers for optimiser in optimisers), strict=True):
            torch.testing.assert_close(*kept, rtol=1e-5, atol=1e-6)


def test_milestones_divide_the_rate_at_their_share_of_training():
    training = Training(epochs=160, batch_size=128, learning_rate=0.1, milestones=[80, 120])
    rates = learning_rates(training, steps_per_epoch=391)
    assert len(rates) == 160 * 391
    assert rates[80 * 391 - 1] == 0.1
    assert rates[80 * 391] == pytest.approx(0.01)
    assert rates[120 * 391] == rates[-1] == pytest.approx(0.001)


def test_fractions_of_an_epoch_fall_on_steps():
    training = Training(epochs=3, batch_size=1, learning_rate=1, milestones=[1.5])
    assert learning_rates(training, 4).tolist() == [1.0] * 6 + [0.1] * 6


def test_warmup_grows_linearly_to_the_full_rate():
    training = Training(epochs=4, batch_size=1, learning_rate=0.4, warmup=2)
    assert learning_rates(training, 2).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, *[0.4] * 4])


def test_a_length_in_steps_has_milestones_and_warmup_in_steps():
    training = Training(steps=6, batch_size=1, learning_rate=1, milestones=[4], warmup=2)
    assert learning_rates(training, steps_per_epoch=4).tolist() == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1])


SHARED = {"batch_size": 25, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, "epochs or steps is missing; give one of the two as the length of training"),
        ({"epochs": 1, "steps": 2}, "epochs and steps are both given; give one of the two as the length"),
        ({"epochs": 1, "test_every": 2}, "test_every needs steps; a run whose length is in epochs is"),
        ({"steps": 9, "milestones": [9.5]}, "milestones 9.5 are not before the last step, 9"),
        ({"steps": 9, "warmup": 9}, "warmup of 9 steps is not shorter than the 9 steps"),
        ({"epochs": 9, "milestones": [3, 9]}, "milestones 9 are not before the last epoch, 9"),
        ({"epochs": 9, "warmup": 9.5}, "warmup of 9.5 epochs is not shorter than the 9 epochs"),
    ],
)
def test_an_impossible_length_gives_one_sentence(keys, sentence):
    with pytest.raises(ValidationError) as raised:
        Training(**SHARED, **keys)
    (fault,) = raised.value.errors()
    assert str(fault["ctx"]["error"]).startswith(sentence)


def test_a_specification_contains_only_the_given_length():
    by_epochs, by_steps = Training(**SHARED, epochs=3), Training(**SHARED, steps=10, test_every=4)
    assert {"steps", "test_every"}.isdisjoint(by_epochs.specified)
    assert "epochs" not in by_steps.specified
    assert by_steps.specified | {"epochs": 3} == by_epochs.specified | {"steps": 10, "test_every": 4}
    assert Training(**by_steps.specified) == by_steps
    assert (by_epochs.steps_of(100), by_epochs.tests(100)) == (12, 3)
    assert (by_steps.steps_of(100), by_steps.tests(100)) == (10, 3)
    assert Training(**SHARED, steps=10).tests(100) == 3


@pytest.mark.parametrize(
    ("keys", "changes", "expected"),
    [
        ({"epochs": 4}, {"epochs": 8}, {"epochs": 8, "milestones": [4, 6], "warmup": 2}),
        ({"epochs": 4}, {"steps": 40}, {"steps": 40, "milestones": [20, 30], "warmup": 10}),
        (
            {"steps": 4, "test_every": 3},
            {"steps": 2},
            {"steps": 2, "test_every": 3, "milestones": [1, 1.5], "warmup": 0.5},
        ),
        ({"steps": 4, "test_every": 3}, {"epochs": 2}, {"epochs": 2, "milestones": [1, 1.5], "warmup": 0.5}),
        ({"epochs": 4}, {"epochs": 8, "milestones": [1]}, {"epochs": 8, "milestones": [1], "warmup": 2}),
        ({"epochs": 4}, {"momentum": 0}, {"epochs": 4, "milestones": [2, 3], "warmup": 1, "momentum": 0}),
        (
            {"epochs": 4},
            {"epochs": 8, "steps": 9},
            {"epochs": 8, "steps": 9, "milestones": [2, 3], "warmup": 1},
        ),
        ({"epochs": 4}, {"steps": "x"}, {"steps": "x", "milestones": [2, 3], "warmup": 1}),
    ],
)
def test_a_new_length_replaces_the_existing_one_and_rescales_the_schedule(keys, changes, expected):
    training = Training(**SHARED, **keys, milestones=[2, 3], warmup=1)
    assert changed(training, changes) == SHARED | expected


def test_a_run_with_as_many_steps_as_its_epochs_have_gives_the_same_result(few_digits, make_run):
    by_epochs = train(make_run(epochs=3, milestones=[2], warmup=1), few_digits)
    by_steps = train(make_run(epochs=None, steps=12, milestones=[8], warmup=4), few_digits)
    assert by_steps.rows == by_epochs.rows
    assert [(row["epoch"], row["step"]) for row in by_steps.rows[::2]] == [(1, 4), (2, 8), (3, 12)]


def test_the_frequency_of_tests_changes_neither_weights_nor_the_order_of_images(few_digits, make_run):
    often, once = (
        train(make_run(regime="all", epochs=None, steps=10, test_every=every), few_digits)
        for every in (3, 99)
    )
    assert [(row["epoch"], row["step"]) for row in often.rows[1::2]] == [(1, 3), (2, 6), (3, 9), (3, 10)]
    assert [(row["epoch"], row["step"]) for row in once.rows[1::2]] == [(3, 10)]
    assert often.rows[-1] == once.rows[-1]
    by_epochs = train(make_run(regime="all", epochs=3), few_digits)
    assert often.rows[-1] != by_epochs.rows[-1]
    for name, tensor in once.network.state_dict().items():
        assert torch.equal(often.network.state_dict()[name], tensor)


def test_a_step_computes_gradients_that_stay_readable_and_then_moves(few_digits, make_run):
    live, other = LiveRun(make_run(regime="all"), few_digits), LiveRun(make_run(regime="all"), few_digits)
    images, labels = live.next_batch()
    loss, _ = live.gradients(images, labels, len(labels))
    before = [parameter.grad.clone() for parameter in live.trained.values()]
    assert loss.item() > 0
    assert any(gradient.any() for gradient in before)
    live.move(0.1)
    assert all(torch.equal(p.grad, g) for p, g in zip(live.trained.values(), before, strict=True))
    other.step(images, labels, len(labels), 0.1)
    assert all(parameter.grad is None for parameter in other.trained.values())
    for ours, theirs in zip(live.moved(), other.moved(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_diverged_run_of_steps_restores_the_last_test(few_digits, make_run):
    run = make_run(regime="all", epochs=None, steps=10, test_every=2, learning_rate=1e12)
    outcome = train(run, few_digits)
    last = outcome.rows[-1]
    assert outcome.diverged == last["epoch"]
    assert last["step"] < 10
    assert all(torch.isfinite(parameter).all() for parameter in outcome.trained.values())


def test_measures_average_over_examples_not_batches():
    measures = Measures(torch.device("cpu"))
    right, wrong = torch.tensor([[9.0, 0, 0, 0, 0, 0]]), torch.tensor([[0.0, 1, 2, 3, 4, 5]])
    labels = torch.tensor([0])
    measures.add(torch.tensor(1.0), right.repeat(3, 1), labels.repeat(3))
    measures.add(torch.tensor(5.0), wrong, labels)
    assert measures.averages() == {"loss": 2.0, "top_1": 75.0, "top_5": 75.0}


def test_ties_and_nan_logits_are_never_accidental_hits():
    measures = Measures(torch.device("cpu"))
    logits = torch.tensor([[0.0, 0.0], [math.nan, math.nan]])
    measures.add(torch.tensor(0.0), logits, torch.tensor([1, 0]))
    assert measures.averages()["top_1"] == 0


def test_the_partial_last_batch_is_trained_on(few_digits, make_run):
    seen = []

    def note(live):
        seen.append(live.rows[-2]["loss"])

    one = train(make_run(epochs=1, batch_size=99), few_digits, report=note)
    # A batch of 99 and one of 1: without the second, the loss would differ.
    assert one.rows[0]["loss"] == seen[0]
    assert one.rows[0]["loss"] != train(make_run(epochs=1, batch_size=100), few_digits).rows[0]["loss"]


def test_a_diverged_run_keeps_the_last_finite_epochs_state_and_records_when(few_digits, make_run):
    outcome = train(make_run(regime="all", epochs=9, learning_rate=1e18), few_digits)
    assert outcome.diverged is not None
    assert outcome.rows[-1]["epoch"] == outcome.diverged < 9
    assert all(torch.isfinite(parameter).all() for parameter in outcome.trained.values())


def test_bfloat16_trains_too(few_digits, make_run):
    rows = train(make_run(), few_digits, precision=torch.bfloat16).rows
    assert all(math.isfinite(row["loss"]) for row in rows)
