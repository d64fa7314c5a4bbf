"""The loop: its schedule, its numbers against a reference written apart from it, and divergence."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from onlybn.networks.draw import draw
from onlybn.randomness import generator
from onlybn.study import Training
from onlybn.training.evaluation import Measures
from onlybn.training.loop import train
from onlybn.training.schedules import learning_rates


def textbook(run, images):
    """Train the run as a textbook would: NCHW, torch.optim, one image at a time; return test losses."""
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
def test_losses_are_those_of_a_textbook_loop(regime, few_digits, make_run):
    run = make_run(regime=regime, epochs=3, milestones=[2])
    rows = train(run, few_digits).rows
    measured = [row["loss"] for row in rows if row["split"] == "test"]
    assert measured == pytest.approx(textbook(run, few_digits), rel=2e-3)


def test_the_same_run_gives_the_same_bits_and_another_seed_does_not(few_digits, make_run):
    first, again = train(make_run(), few_digits), train(make_run(), few_digits)
    assert first.rows == again.rows
    assert all(torch.equal(a, b) for a, b in zip(first.trained.values(), again.trained.values(), strict=True))
    assert train(make_run(seed=1), few_digits).rows != first.rows


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


def test_measures_average_over_examples_not_batches():
    measures = Measures(torch.device("cpu"))
    right, wrong = torch.tensor([[9.0, 0, 0, 0, 0, 0]]), torch.tensor([[0.0, 1, 2, 3, 4, 5]])
    labels = torch.tensor([0])
    measures.add(torch.tensor(1.0), right.repeat(3, 1), labels.repeat(3))
    measures.add(torch.tensor(5.0), wrong, labels)
    assert measures.averages() == {"loss": 2.0, "top_1": 75.0, "top_5": 75.0}


def test_ties_and_missing_logits_are_never_hits_by_accident():
    measures = Measures(torch.device("cpu"))
    logits = torch.tensor([[0.0, 0.0], [math.nan, math.nan]])
    measures.add(torch.tensor(0.0), logits, torch.tensor([1, 0]))
    assert measures.averages()["top_1"] == 0


def test_the_partial_last_batch_is_trained_on(few_digits, make_run):
    seen = []

    def note(live):
        seen.append(live.rows[-2]["loss"])

    one = train(make_run(epochs=1, batch_size=99), few_digits, report=note)
    # A batch of 99 and one of 1: without the second, the loss is another.
    assert one.rows[0]["loss"] == seen[0]
    assert one.rows[0]["loss"] != train(make_run(epochs=1, batch_size=100), few_digits).rows[0]["loss"]


def test_a_diverged_run_keeps_the_last_finite_epochs_state_and_says_when(few_digits, make_run):
    outcome = train(make_run(regime="all", epochs=9, learning_rate=1e18), few_digits)
    assert outcome.diverged is not None
    assert outcome.rows[-1]["epoch"] == outcome.diverged < 9
    assert all(torch.isfinite(parameter).all() for parameter in outcome.trained.values())


def test_bfloat16_trains_too(few_digits, make_run):
    rows = train(make_run(), few_digits, precision=torch.bfloat16).rows
    assert all(math.isfinite(row["loss"]) for row in rows)
