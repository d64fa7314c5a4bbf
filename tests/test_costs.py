"""Costs: the work of a step, counted from shapes, and the sums of a plan."""

import json
import subprocess
import sys
from types import SimpleNamespace

import forked
import pandas as pd
import pytest
from conftest import BUILTIN, CONFIG, ROOT

from onlybn.__main__ import main
from onlybn.axes import VARIANT
from onlybn.configuration import open_study
from onlybn.datasets import DATASETS
from onlybn.errors import UserError
from onlybn.networks.work import work
from onlybn.workflow.costs import Times, nearest_measured
from onlybn.workflow.plan import JOB_SECONDS, VERIFY_SECONDS, guessed, markdown, passes, plan, recording_steps


@pytest.fixture
def study(tmp_path):
    def open_(name="cifar10", **config):
        settings = {"study": name, "results_dir": str(tmp_path), "device": "cpu", "seeds_per_job": 2}
        return open_study(CONFIG | settings | config, BUILTIN)

    return open_


def test_a_custom_regime_that_reads_weights_is_planned_as_if_everything_trained(tmp_path, monkeypatch):
    (tmp_path / "largest.py").write_text(
        "def half(network, seed):\n"
        "    layers = sorted(network.normalisations(), key=lambda layer: float(layer.weight.mean()))\n"
        "    return [parameter for layer in layers[::2] for parameter in layer.parameters()]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    digits = DATASETS["digits"]
    assert work(digits, "resnet-8", "largest:half") == work(digits, "resnet-8", "all")


def table(cost, points, replicates=1):
    """A table of measured times that are exactly `cost` of the work."""
    rows = []
    for architecture, regime in points:
        done = work(DATASETS["cifar10"], architecture, regime)
        rows.append(
            {
                "device": "here",
                "precision": "float32",
                "dataset": "cifar10",
                "architecture": architecture,
                "regime": regime,
                "batch": 128,
                "replicates": replicates,
                "step": cost(done, 128),
                "test": 1e-8 * done.forward,
            }
        )
    return pd.DataFrame(rows)


def test_work_agrees_with_torchs_counter():
    from torch import empty
    from torch.utils.flop_counter import FlopCounterMode

    from onlybn.models import build
    from onlybn.networks import regimes

    for name in ("resnet-14", "vgg-11"):
        for regime in ("all", "batchnorm", "output"):
            network = build(name, channels=3, classes=10)
            regimes.apply(network, regime, 0)
            with FlopCounterMode(display=False) as forward:
                loss = network(empty(4, 3, 32, 32, device="meta")).sum()
            with FlopCounterMode(display=False) as backward:
                loss.backward()
            done = work(DATASETS["cifar10"], name, regime)
            assert 4 * done.forward == forward.get_total_flops()
            backwards = done.input_gradients + done.weight_gradients
            # The gradients of the output layer hardly matter and are not counted separately.
            assert 4 * backwards == pytest.approx(backward.get_total_flops(), rel=1e-3, abs=4 * 64 * 512 * 10)


def cost(done, batch):
    flops = done.forward + done.input_gradients + done.weight_gradients
    return batch * (1e-8 * flops + 1e-7 * done.activations) + 0.01 * done.layers + 1


KNOWN = [
    (architecture, regime)
    for architecture in ("resnet-14", "resnet-32", "wrn-14-2", "vgg-11")
    for regime in ("all", "batchnorm", "output")
]

HERE = "here", "float32"


def test_times_of_networks_that_were_not_measured_follow_the_work():
    times = Times(table(cost, KNOWN), "here", "float32")
    for architecture in ("resnet-866", "wrn-14-16", "vgg-19"):
        for regime in ("all", "batchnorm", "output"):
            expected = cost(work(DATASETS["cifar10"], architecture, regime), 128)
            assert times.step(DATASETS["cifar10"], architecture, regime, 128) == pytest.approx(
                expected, rel=0.02
            )
    assert times.test(DATASETS["cifar10"], "resnet-866") == pytest.approx(
        1e-8 * work(DATASETS["cifar10"], "resnet-866", "output").forward, rel=0.02
    )


def test_measured_times_are_used_unchanged_and_replicates_share_a_step():
    here = table(lambda done, batch: 5.0, KNOWN)
    assert Times(here, "here", "float32").step(DATASETS["cifar10"], "resnet-14", "all", 128) == 5
    together = pd.concat([here, table(lambda done, batch: 10.0, KNOWN, replicates=5)])
    assert Times(together, "here", "float32", 5).step(DATASETS["cifar10"], "resnet-14", "all", 128) == 2
    assert Times(together, "here", "float32", 3).step(DATASETS["cifar10"], "resnet-14", "all", 128) == 5


def test_a_copy_of_a_dataset_is_timed_like_it_and_other_layers_like_batchnorm():
    original, copy, plain = DATASETS["cifar10"], DATASETS["cifar10-jpeg"], (("normalisation", "none"),)
    slow = table(lambda *point: 3 * cost(*point), [("vgg-11", "all")])
    times = Times(pd.concat([slow, table(cost, [point for point in KNOWN if point[0] != "vgg-11"])]), *HERE)
    for network in ("vgg-11", "resnet-14"):
        assert times.step(copy, network, "all", 128) == times.step(original, network, "all", 128)
        assert times.test(copy, network) == times.test(original, network)
    # By a fit, which is far off for this network, times how far it is off with BatchNorm.
    expected = 3 * cost(work(original, "vgg-11", "all", plain), 128)
    assert times.step(copy, "vgg-11", "all", 128, plain) == pytest.approx(expected, rel=0.1)


def test_a_plan_counts_the_looks_of_recordings(study):
    opened = study("vgg-cifar10-short")
    steps = opened.definition.training.steps

    def looks(experiment, **values):
        (run,) = (r for r in opened.runs(experiment) if r.seed == 0 and dict(r.values) == values)
        return recording_steps(opened, run) / steps

    curve, inputs = 0.02 / 10, 1 / 100
    assert looks("learning-rates", recipe="x5") == pytest.approx(curve)
    assert looks("noisy", normalisation="batchnorm-noisy") == pytest.approx(curve + inputs)
    # The recordings of every experiment that has the run: nine weights, two directions of four step sizes.
    more = (0.5 * 9 + 0.9 * 2 * 4) / 100
    assert looks("noisy", normalisation="none") == pytest.approx(curve + inputs + more)
    rows = plan(opened, Times(table(cost, KNOWN), *HERE)).set_index("axes")
    hours = rows["training_hours"] / rows["steps"] / rows["step_ms"] * 3.6e6
    assert hours["x5"] == pytest.approx(1 + curve)
    assert hours["batchnorm-noisy"] == pytest.approx(1 + curve + inputs)


def test_a_plan_counts_the_passes_over_training_images(study):
    opened = study("batchnorm-mechanisms")
    evaluated, plain, groups = (opened.runs(name)[0] for name in ("evaluation", "sigmoid-vgg", "groups"))
    assert passes(opened, evaluated) - passes(opened, plain) == pytest.approx(3 * (2 + 1437 / 360))
    assert passes(opened, groups) - 300 / 20 == pytest.approx(3 * (1 + 500 / 360))


def test_on_a_gpu_the_rate_is_interpolated_by_width_and_the_plan_reports_other_widths():
    """A GPU whose rate grows twentyfold with 32 times the width, measured at four widths."""

    def paced(done, batch):
        flops = batch * (done.forward + done.input_gradients + done.weight_gradients)
        return flops / (1e9 * 20 ** ((done.width - 8.5) / 5))

    known = [
        (name, regime)
        for name in ("resnet-14", "resnet-110", "wrn-14-4", "wrn-14-16", "wrn-14-32")
        for regime in ("all", "batchnorm")
    ]
    measured = table(paced, known).assign(device="GPU")
    times, images = Times(measured, "GPU", "float32"), DATASETS["cifar10"]
    for architecture in ("resnet-866", "wrn-14-2", "wrn-14-8"):
        for regime in ("all", "batchnorm"):
            expected = paced(work(images, architecture, regime), 128)
            assert times.step(images, architecture, regime, 128) == pytest.approx(expected, rel=0.05)
        assert not times.is_guess(images, architecture)
    assert times.is_guess(images, "wrn-14-64")
    narrow = Times(measured[~measured["architecture"].str.contains("wrn-14-4")], "GPU", "float32")
    assert narrow.is_guess(images, "wrn-14-4")
    on_cpu = measured.assign(device="CPU (AVX2)")
    assert not Times(on_cpu, "CPU (AVX2)", "float32").is_guess(images, "wrn-14-64")


def test_a_plan_names_the_networks_whose_width_was_not_measured(study):
    measured_times = table(cost, [("resnet-14", "all"), ("wrn-14-2", "all")]).assign(device="GPU")
    opened = study(architectures="resnet-14,resnet-110,wrn-14-8,wrn-14-32")
    assert guessed(opened, Times(measured_times, "GPU", "float32")) == ["wrn-14-8", "wrn-14-32"]
    opened = study(architectures="resnet-14,resnet-110")
    assert guessed(opened, Times(measured_times, "GPU", "float32")) == []


def test_the_rate_and_the_plan_of_seeds_side_by_side_count_all_of_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import plan as benchmark

    rows = {
        "architecture": "resnet-14",
        "regime": "all",
        "variant": VARIANT.default,
        "status": "finished",
        "device_name": "GPU",
        "precision": "float32",
        "seconds": 100.0,
    }
    runs = pd.DataFrame([rows | {"seed": s, "seeds_together": "[0, 1, 2, 3, 4]"} for s in range(5)])
    found = tmp_path / "cifar10" / "experiments" / "one"
    found.mkdir(parents=True)
    runs.to_parquet(found / "runs.parquet")
    times = table(lambda done, batch: 10.0, [("resnet-14", "all")], replicates=5).assign(device="GPU")
    monkeypatch.setattr(benchmark, "measured", lambda: times)
    (row,) = benchmark.compare("cifar10 results_dir=x", tmp_path)
    assert row["epochs_per_hour"] == 5 * 160 * 36
    share = 391 * 10 / 5 / 1e3 + 1e4 * times["test"].iloc[0] / 1e3
    assert row["planned_epochs_per_hour"] == pytest.approx(3_600 / share)


def test_a_device_that_was_not_measured_is_rejected_with_the_measured_ones():
    with pytest.raises(
        UserError, match=r"no step times of 'there' in float32; measured are: here \(float32\)"
    ):
        Times(table(cost, KNOWN), "there", "float32")


def test_a_processor_that_was_not_measured_is_planned_with_the_slowest_of_its_kind():
    rows = [
        ("one (AVX2)", "float32", 9.0),
        ("fast (AVX512)", "float32", 2.0),
        ("slow (AVX512)", "float32", 3.0),
        ("slow (AVX512)", "bfloat16", 1.0),
        ("GPU", "bfloat16", 0.1),
    ]
    measured_times = pd.DataFrame(rows, columns=["device", "precision", "step"])
    for device, precision, expected in (
        ("fast (AVX512)", "float32", "fast (AVX512)"),
        ("new (AVX512)", "float32", "slow (AVX512)"),
        ("fast (AVX512)", "bfloat16", "slow (AVX512)"),
        ("new (NEON)", "float32", "one (AVX2)"),
        ("new (NEON)", "float16", "new (NEON)"),
        ("new GPU", "bfloat16", "new GPU"),
    ):
        assert nearest_measured(measured_times, device, precision) == expected


def test_the_plan_of_an_unknown_processor_says_whose_times_it_uses(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("onlybn.devices.processor", lambda: "Abacus")
    monkeypatch.setattr(sys, "argv", ["onlybn", "plan", "study=digits", "device=cpu"])
    main()
    note, _, plan_of = capsys.readouterr().out.partition("\n\n")
    assert note.startswith("'Abacus (")
    assert "was not measured; these are the times of another processor" in note
    assert "digits on " in plan_of
    assert "Abacus" not in plan_of


def test_a_plan_counts_every_run_once_and_adds_up(study):
    opened = study("digits")
    times = Times(table(lambda done, batch: 36.0, KNOWN), "here", "float32")
    times.step = lambda *point: 36.0
    times.test = lambda *point: 0.0
    rows = plan(opened, times)
    unique = {
        (run.architecture, run.regime, run.variant, run.seed)
        for experiment in opened.experiments
        for run in opened.runs(experiment)
    }
    assert rows["runs"].sum() == len(unique)
    steps = 16 * 45
    assert rows["steps"].sum() == len(unique) * steps
    assert rows["training_hours"].sum() == pytest.approx(len(unique) * steps * 36e-3 / 3600)
    assert plan(opened, times, main=True)["runs"].sum() == 125
    text = markdown(rows, at_once=2)
    assert f"{len(unique)} runs, {len(unique) * steps:,} steps" in text
    assert "with 2 at once" in text


def test_a_plan_counts_the_analyses_that_only_tables_need(tmp_path):
    times = SimpleNamespace(step=lambda *point: 36.0, test=lambda *point: 1.0)

    def tested(drawn):
        file = tmp_path / "mine.yaml"
        file.write_text(
            "{dataset: digits, training: {epochs: 1, batch_size: 32, learning_rate: 0.1, flip: false},"
            " seeds: 1, experiments: {one: {architectures: [resnet-14], regimes: [all]}}, " + drawn + "}"
        )
        opened = open_study(CONFIG | {"study": str(file), "results_dir": str(tmp_path)}, BUILTIN)
        planned = plan(opened, times)
        examples = DATASETS["digits"].examples[1]
        passes = planned["testing_hours"].sum() * 3_600e3 / examples
        verified = (planned["starting_hours"].sum() * 3_600 - JOB_SECONDS) / VERIFY_SECONDS
        return round(passes, 6), round(verified, 6)

    assert tested("tables: {accuracy: [one], claims: [one]}") == (1, 0)
    assert tested("tables: {dead-relu: [one]}") == tested("figures: {figure-7: [one]}") == (2, 1)
    assert tested("tables: {dead-relu: [one]}, figures: {figure-7: [one]}") == (2, 1)


def test_zero_jobs_at_once_are_rejected(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["onlybn", "plan", "--at-once", "0", "study=digits", "device=cpu"])
    with pytest.raises(SystemExit, match="error: plan: --at-once: 0 jobs do nothing; allowed: 1 or more"):
        main()


def test_the_plan_of_a_study_that_draws_nothing_says_so(study, tmp_path):
    file = tmp_path / "nothing.yaml"
    text = "dataset: digits\ntraining: {epochs: 1, batch_size: 128, learning_rate: 0.1, flip: false}\n"
    text += "seeds: 1\nexperiments: {one: {architectures: [resnet-8], regimes: [all]}}\n"
    text += "figures: {figure-g: [one]}\n"
    file.write_text(text)
    times = Times(table(lambda done, batch: 1.0, [("resnet-8", "all")]), "here", "float32")
    found = plan(study(str(file)), times, main=True)
    assert found.empty
    assert markdown(found, 2) == "This study draws nothing, so it trains nothing."


def test_the_command_plans_a_study_from_committed_times_or_says_what_is_missing():
    def run(*arguments):
        return forked.python_m("onlybn", "plan", *arguments, folder=ROOT)

    devices = pd.read_parquet(ROOT / "src/onlybn/workflow/costs.parquet")[
        ["device", "precision"]
    ].drop_duplicates()
    device, precision = devices.iloc[0]
    study = ["study=cifar10", "architectures=resnet-14,wrn-14-2", f"precision={precision}"]
    done = run(*study, "--device", device)
    assert done.returncode == 0, done.stderr
    assert f"220 runs, {220 * 160 * 391:,} steps" in done.stdout  # 391 batches of 128
    for arguments, sentence in (
        (["study=cifar"], "error: config: study: unknown study 'cifar'"),
        (["--device", "abacus"], "error: plan: no step times of 'abacus'"),
        (["cifar10"], "error: config: 'cifar10' is not KEY=VALUE"),
        (["study=digits", "normalisations=groupnorm-7"], "error: study: groupnorm-7 does not fit resnet-14"),
    ):
        done = run(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(sentence)


def test_a_training_job_imports_no_unused_libraries():
    code = (
        "import json, sys, onlybn.workflow.paths, onlybn.runs.block; onlybn.runs.block._set_up(1, False);"
        "print(json.dumps([n for n in ('torchvision', 'pandas', 'seaborn', 'matplotlib', 'scipy', 'sklearn',"
        "'numba', 'torch._dynamo') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
