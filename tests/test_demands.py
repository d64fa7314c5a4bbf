"""What jobs request from a cluster, and the Slurm profile."""

from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from checkout import Checkout
from conftest import BUILTIN, CONFIG, ROOT

from onlybn.axes import VARIANT
from onlybn.configuration import SETTINGS, open_study
from onlybn.datasets import DATASETS
from onlybn.networks.variants import DEFAULT
from onlybn.workflow import demands
from onlybn.workflow.costs import Times, measured, memory
from onlybn.workflow.paths import Workflow
from onlybn.workflow.plan import JOB_SECONDS, PASSES, plan

PROFILES = ROOT / "profiles"
MEASURED = "AMD EPYC (AVX512)"
POINT = SimpleNamespace(architecture="resnet-14", regime="batchnorm", variant=DEFAULT, analysis="clamping")


@pytest.fixture
def study(tmp_path):
    """Open a built-in study with the settings of the Slurm profile, changed by the given configuration."""

    def open_(name="cifar10", **config):
        settings = CONFIG | yaml.safe_load((PROFILES / "slurm" / "settings.yaml").read_text())
        return open_study(settings | {"study": name, "results_dir": str(tmp_path)} | config, BUILTIN)

    return open_


def asked(study, attempt=1, main=True, analysis=False) -> dict:
    """What a job of five seeds requests."""
    workflow = Workflow(study)
    found = (
        workflow.analysis_resources(main=main)
        if analysis
        else workflow.training_resources(range(5), main=main)
    )
    return {name: value(POINT, attempt) if callable(value) else value for name, value in found.items()}


def test_the_memory_estimate_is_slightly_above_the_measured_peak():
    for row in pd.read_parquet(ROOT / "results/reference/benchmarks/memory.parquet").itertuples():
        foreseen = memory(DATASETS[row.dataset], row.architecture, row.regime, row.batch)
        assert row.peak_mb < demands.MEMORY_MARGIN * foreseen < 3.2 * row.peak_mb, row


def test_memory_grows_with_the_attempt_up_to_a_limit(study):
    opened = study(device="cpu")
    first, *later = (asked(opened, attempt)["mem_mb"] for attempt in (1, 2, 3, 6))
    assert later == [2 * first, 3 * first, 3 * first]


def test_memory_is_host_memory_so_activations_count_only_on_a_cpu(study):
    def of(device, architecture):
        opened = study(device=device)
        run = opened.run(architecture, "batchnorm", VARIANT.default)
        return demands.training_memory(opened, run, 5, 1)

    assert of("cpu", "resnet-110") > 2 * of("cpu", "resnet-14")
    assert of("cuda", "resnet-110") < 1.1 * of("cuda", "resnet-14")


def test_on_a_gpu_a_job_requests_host_memory_for_the_checkpoints_of_all_its_runs(study):
    def of(regime, runs):
        opened = study(device="cuda")
        return demands.training_memory(opened, opened.run("vgg-16", regime, VARIANT.default), runs, 1)

    trained = 24 * 14.7e6 / 2**20
    assert of("all", 5) - of("all", 1) == pytest.approx(demands.MEMORY_MARGIN * 4 * trained, abs=101)
    assert of("all", 5) > of("batchnorm", 5)


def test_memory_counts_what_reparametrisation_adam_and_the_best_state_hold(study):
    def of(device="cpu", reparametrisation="none", **config):
        opened = study(device=device, **config)
        variant = "kaiming-uniform_gamma-one"
        run = opened.run("vgg-16", "all", variant, reparametrisation=reparametrisation)
        return demands.training_memory(opened, run, 1, 1)

    trained = demands.MEMORY_MARGIN * 4 * 14.7e6 / 2**20
    for device, each in (("cpu", trained), ("cuda", 2 * trained)):
        plain = of(device)
        assert of(device, "arctan-0.8-0.5") - plain == pytest.approx(3 * each, abs=101)
        assert of(device, optimiser="adam") - plain == pytest.approx(each, abs=101)
        assert of(device, validation=0.1, select="best") - plain == pytest.approx(each, abs=101)


def test_memory_counts_workers_and_processes_that_share_a_run(study):
    def of(**config):
        return asked(study("imagenette", **config))["mem_mb"]

    assert of(workers=4) >= of() + 4 * demands.WORKER_MB
    assert of(processes_per_run=2) > 1.5 * of()


def test_time_is_that_of_the_plan_with_a_margin(study):
    opened = study(planned_on=MEASURED, precision="bfloat16", longest_job=10**6, architectures="resnet-14")
    times = Times(measured(), MEASURED, "bfloat16", opened.seeds_per_job)
    rows = plan(opened, times).set_index("regime").loc["batchnorm"]
    training = 60 * 5 * rows["training_hours"] / rows["runs"]
    passes = 160 + PASSES["clamping"] + PASSES["activations"]
    testing = 5 * passes * 10_000 * times.test(DATASETS["cifar10"], "resnet-14") / 6e4
    expected = demands.TIME_MARGIN * (training + testing) + demands.STARTING_MINUTES
    assert asked(opened)["runtime"] == pytest.approx(expected, abs=1)
    assert asked(opened, analysis=True)["runtime"] < asked(opened)["runtime"] / 2
    assert JOB_SECONDS < 60 * demands.STARTING_MINUTES


def test_time_grows_with_the_attempt_up_to_the_longest_job(study):
    opened = study("digits", planned_on=MEASURED, longest_job=25)
    first, second, third = (asked(opened, attempt)["runtime"] for attempt in (1, 2, 3))
    assert (second, third) == (2 * first, 25)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("cifar10", {}),
        ("cifar10", {"planned_on": MEASURED, "precision": "bfloat16", "processes_per_run": 2}),
        ("imagenette", {"planned_on": MEASURED}),
    ],
)
def test_without_measured_times_a_job_requests_the_longest_time(study, name, config):
    assert asked(study(name, longest_job=300, **config))["runtime"] == 300


def test_gpus_are_requested_in_the_way_of_the_site(study):
    assert asked(study(processes_per_run=4))["gpu"] == 4
    by_gres = asked(study(processes_per_run=4, gpu_as="gres"))
    assert by_gres["gres"] == "gpu:4"
    assert "gpu" not in by_gres
    assert asked(study(gpu_as="gres"), analysis=True)["gres"] == "gpu:1"
    for how in ("gpu", "gres"):
        on_cpu = asked(study(device="cpu", gpu_as=how))
        assert not on_cpu.get("gpu")
        assert "gres" not in on_cpu


def test_a_local_study_and_cluster_jobs_estimate_nothing(study):
    for analysis in (False, True):
        assert asked(study(), main=False, analysis=analysis) == {"gpu": 1}
        assert asked(study(longest_job=None), analysis=analysis) == {"gpu": 1}


def test_a_cluster_must_be_told_its_device(study, capsys):
    with pytest.raises(SystemExit) as left:
        Workflow(study(device="auto")).start(local=False)
    assert str(left.value).startswith(
        "error: config: device: auto is for jobs that run here; on a cluster, say"
    )


def test_the_slurm_profile_is_as_safe_as_the_default_one():
    default, slurm = (
        yaml.safe_load((PROFILES / name / "config.yaml").read_text()) for name in ("default", "slurm")
    )
    for key in ("rerun-triggers", "rerun-incomplete", "keep-going", "nolock"):
        assert slurm[key] == default[key], key
    assert slurm["retries"] > default["retries"]
    assert set(yaml.safe_load((PROFILES / "slurm" / "settings.yaml").read_text())) <= set(SETTINGS)


def test_a_dry_run_with_the_slurm_profile_shows_what_jobs_request(tmp_path):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    text = """
dataset: digits
training: {epochs: 1, batch_size: 128, learning_rate: 0.1, flip: false}
seeds: 2
experiments:
  one: {architectures: [resnet-8], regimes: [batchnorm]}
figures: {figure-2: [one]}
"""
    checkout = Checkout(tmp_path, text)
    # --config on the command line does not change the profile's settings.
    done = checkout.snakemake(
        "-n",
        "-p",
        "figure-2",
        "--workflow-profile",
        "profiles/slurm",
        "--config",
        "gpu_as=gres",
        "longest_job=77",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (resources,) = (
        line
        for rule in done.stdout.split("rule train:")[1:]
        for line in rule.partition("rule ")[0].splitlines()
        if "resources:" in line
    )
    for part in ("mem_mb=5", "gres=gpu:1", "runtime=77", "nodes=1"):
        assert part in resources
