"""The workflow itself, really run on digits: what it makes, and what it does not make again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from checkout import ROOT, STUDY, Checkout

from onlybn import drawing
from onlybn.networks.variants import DEFAULT

DOUBT = "not_expected: {affine-helps: one epoch teaches little}\n"
TABLES = ("table-1", "accuracy", "claims", "provenance")
CLOCK = ["seconds", "training_images_per_second", "seeds_together"]


@pytest.fixture
def fresh(tmp_path):
    return Checkout(tmp_path, STUDY)


def test_one_command_trains_measures_and_draws(reproduced):
    results = reproduced.folder / "results" / "tiny"
    for name in ("figure-1", "figure-2", "figure-3", "figure-5", "figure-6", "figure-7"):
        files = sorted(path.suffix for path in (results / "figures").glob(f"{name}.*"))
        assert files == [".parquet", ".pdf", ".png", ".rst"]
    accuracy = pd.read_parquet(results / "tables" / "accuracy.parquet")
    assert accuracy["n"].tolist() == [2] * 5
    assert "| resnet-14 | 174,970 |" in (results / "tables" / "table-1.md").read_text()
    metrics = pq.read_table(results / "experiments" / "batchnorm" / "metrics.parquet")
    assert metrics.num_rows == 3 * 2 * 2
    assert not list(results.glob("work/**/*.*"))


def test_a_pipe_gets_a_line_for_each_run_and_the_log_one_for_each_epoch(reproduced):
    first, *lines, done, where = reproduced.text.splitlines()[1:]
    assert first == "tiny: to do: 10 runs, 8 analyses, 6 figures, 4 tables"
    ended = [line for line in lines if re.fullmatch(r"\S+ \S+ seed \d: test accuracy [\d.]+ %; .*", line)]
    assert len(ended) == 10
    assert all(f"; {count} of 10 runs done" in line for count, line in enumerate(ended, 1))
    drawn = [line.removeprefix("drawn: ").split(", ") for line in lines if line.startswith("drawn: ")]
    figures = [f"figure-{number}" for number in (1, 2, 3, 5, 6, 7)]
    assert sorted(chain(*drawn)) == sorted([*figures, *TABLES])
    assert len(lines) == len(ended) + len(drawn)
    assert re.fullmatch(r"Done in \d+ (s|min): 10 runs, 8 analyses, 6 figures, 4 tables", done)
    assert where == "Figures are in results/tiny/figures and tables are in results/tiny/tables"
    assert "\x1b" not in reproduced.text
    (log,) = reproduced.folder.glob("results/tiny/logs/train/resnet-8/all/*/seed-0.log")
    assert log.read_text().startswith("resnet-8 all seed 0: epoch 1/1, training loss ")


def test_training_measures_what_is_drawn_as_a_job_alone_does(reproduced):
    results = reproduced.folder / "results/tiny"
    logs = {name: list(results.glob(f"logs/{name}/**/*.log")) for name in ("clamping", "activations")}
    for name, files in logs.items():
        assert [f"{name} was measured after training\n" in file.read_text() for file in files] == [True] * 4
    table = next(results.glob("runs/resnet-8/all/*/seed-0/clamping.parquet"))
    before = table.read_bytes()
    table.unlink()
    reproduced.ok(str(table.relative_to(reproduced.folder)))
    assert table.read_bytes() == before
    assert not list(results.glob("runs/resnet-14/*/*/*/clamping.parquet"))  # no figure draws it


def test_judged_claims_are_shown_in_short(reproduced):
    table = reproduced.folder / "results/tiny/tables/claims.parquet"
    before = table.read_bytes()
    (reproduced.folder / "tiny.yaml").write_text(STUDY + DOUBT)
    shown = reproduced.claims()
    assert re.search(
        r"^│ all beats all but γ and β, on every network +│ 0\.5 to 2 .* │ inconclusive \* │$", shown, re.M
    )
    assert "\n  all beats all but γ and β, on every network: one epoch teaches little\n" in shown
    assert re.search(r"^\d+ not run, \d+ inconclusive\.$", shown, re.M)
    table.unlink()
    assert reproduced.claims() == (
        "error: claims: tiny has judged no claims yet; snakemake claims with the same keys judges them\n"
    )
    (reproduced.folder / "tiny.yaml").write_text(STUDY)
    table.write_bytes(before)


def test_a_claim_that_is_none_is_refused_before_anything_runs(fresh):
    (fresh.folder / "tiny.yaml").write_text(STUDY + DOUBT.replace("helps", "help"))
    text = fresh.refusal("--cores", "2", "figure-1")
    assert "study: not_expected: unknown claim 'affine-help'; did you mean 'affine-helps'?" in text
    assert not (fresh.folder / "results/tiny").exists()


def test_an_unknown_target_gives_one_sentence_with_the_nearest_name(fresh):
    lines = fresh.refusal("-n", "figure-4").splitlines()
    assert lines[-1].startswith(
        "error: the study tiny does not show figure-4, or its selection has no run of it; it shows figure-"
    )
    assert "unknown target of the study tiny 'figur-7'; did you mean 'figure-7'" in fresh.refusal(
        "-n", "figur-7"
    )
    assert ", figure-7, sheet, table-1, accuracy, " in lines[-1]


def test_a_second_start_has_nothing_to_do(reproduced):
    assert "Nothing to be done" in reproduced.ok()


def test_a_deleted_figure_is_redrawn_and_nothing_else_runs(reproduced):
    (reproduced.folder / "results/tiny/figures/figure-3.png").unlink()
    assert reproduced.jobs() == {"draw_figure": 1, "main": 1}
    reproduced.ok()


def test_figures_and_tables_are_redrawn_from_collected_tables_without_torch(reproduced, fresh):
    collected = "results/tiny/experiments"
    shutil.copytree(reproduced.folder / collected, fresh.folder / collected)
    for name in ("torch", "torchvision"):
        (fresh.folder / "without" / name).mkdir(parents=True)
        (fresh.folder / "without" / name / "__init__.py").write_text("raise ModuleNotFoundError(__name__)")
    text = fresh.ok("figure-1", "figure-6", "dead-relu", PYTHONPATH=str(fresh.folder / "without"))
    assert not re.search(r"rule (train|analyse|collect|prepare)", text)
    figures = sorted((fresh.folder / "results/tiny/figures").glob("*.p*"))
    assert len(figures) == 6
    for drawn in figures:
        before = reproduced.folder / "results/tiny/figures" / drawn.name
        assert drawn.read_bytes() == before.read_bytes(), drawn.name


IMPORTING = """
configfile: "mine.yaml"
module bn:
    snakefile: "CHECKOUT/Snakefile"
    config: config["bn"]
use rule * from bn as bn_*
onstart:
    bn.onstart()
onsuccess:
    bn.onsuccess()
rule mine:
    input: rules.bn_accuracy.input
    output: "summary"
    default_target: True
    shell: "cp {input[1]} {output}"
"""


def test_another_snakefile_in_another_folder_imports_the_workflow_as_a_module(reproduced, fresh):
    importing = Checkout.__new__(Checkout)
    importing.folder = fresh.folder / "importing"
    collected = importing.folder / "out" / "tiny" / "experiments"
    shutil.copytree(reproduced.folder / "results/tiny/experiments", collected)
    shutil.copy(fresh.folder / "tiny.yaml", importing.folder)
    (importing.folder / "mine.yaml").write_text("bn: {study: tiny.yaml, device: cpu, results_dir: ./out/}")
    (importing.folder / "Snakefile").write_text(IMPORTING.replace("CHECKOUT", str(fresh.folder)))
    text = importing.ok("--nolock")
    accuracy = reproduced.folder / "results/tiny/tables/accuracy.md"
    assert (importing.folder / "summary").read_bytes() == accuracy.read_bytes()
    assert "tiny: to do: 1 table\n" in text
    assert "Tables are in out/tiny/tables" in text
    assert (importing.folder / "out/.tiny.lock").exists()  # which onstart takes


def test_scripts_find_the_package_of_their_checkout_if_none_is_installed(tmp_path):
    metrics = ROOT / "results/reference/digits/experiments/regimes/metrics.parquet"
    code = f"""
import runpy, sys
from types import SimpleNamespace as Told
sys.path.append({str(Path(pd.__file__).parents[1])!r})  # what is installed, without its editable packages
snakemake = Told(log=["log"], input=[{str(metrics)!r}], output=["digits/tables/accuracy.csv"])
snakemake.config, snakemake.scriptdir = {{"study": "digits"}}, {str(ROOT / "workflow" / "scripts")!r}
snakemake.wildcards, snakemake.params = Told(table="accuracy"), Told(not_expected={{}})
runpy.run_path({str(ROOT / "workflow/scripts/make_table.py")!r}, dict(snakemake=snakemake))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digits/tables/accuracy.csv").read_text().startswith("study,dataset,architecture,")
    for script in (ROOT / "workflow" / "scripts").glob("*.py"):
        before = script.read_text().partition("from onlybn")[0]
        assert before.endswith('sys.path.append(str(Path(__file__).parents[2] / "src"))\n\n'), script


def test_two_processes_share_a_run_if_requested(fresh):
    run = f"results/tiny/runs/resnet-8/batchnorm/{DEFAULT}/seed-0/run.json"
    fresh.ok(run, "--config", "processes_per_run=2")
    assert json.loads((fresh.folder / run).read_text())["computed"]["processes"] == 2
    (log,) = fresh.folder.glob("results/tiny/logs/train/**/*.log")
    assert log.read_text().count("epoch 1/1") == 1


def test_a_figure_trains_only_its_own_runs(fresh):
    assert fresh.jobs("figure-1") == {
        "prepare": 1,
        "train": 2,
        "train-seed-1": 2,
        "collect": 1,
        "draw_figure": 1,
        "figure-1": 1,
    }


def test_a_figure_measures_only_what_it_draws(fresh):
    jobs = fresh.jobs("figure-6")
    assert jobs == {
        "prepare": 1,
        "train": 2,
        "train-seed-1": 2,
        "analyse": 4,
        "collect": 1,
        "draw_figure": 1,
        "figure-6": 1,
    }
    assert "analyse" not in fresh.jobs("figure-5")


def test_a_diverged_run_is_analysed_drawn_and_counted(fresh):
    fresh.ok("figure-6", "dead-relu", "--config", "seeds=1", "learning_rate=1e18")
    drawn = fresh.folder / "results/tiny_learning_rate-1e+18_seeds-1"
    assert "2 diverged runs (×) left out of the means" in (drawn / "figures/figure-6.rst").read_text()
    counted = pd.read_parquet(drawn / "tables/dead-relu.parquet")
    assert counted["diverged"].tolist() == [1, 1]


def test_touched_data_reformatted_code_and_another_block_size_train_nothing(reproduced):
    for path in (reproduced.folder / "results/datasets/digits").iterdir():
        path.touch()
    script = reproduced.folder / "workflow/scripts/train.py"
    script.write_text(script.read_text() + "\n# a comment\n")
    assert reproduced.jobs() == {}
    assert reproduced.jobs("--config", "seeds_per_job=2") == {}


def test_more_seeds_train_only_the_new_ones(reproduced):
    jobs = reproduced.jobs("figure-1", "--config", "seeds=3")
    trained = {name: count for name, count in jobs.items() if name.startswith("train")}
    assert trained == {"train-seed-2": 2}
    # In one block with those that are finished, whose analyses stay too.
    jobs = reproduced.jobs("figure-6", "--config", "seeds=3", "seeds_per_job=3")
    assert jobs == {"train": 2, "analyse": 2, "collect": 1, "draw_figure": 1, "figure-6": 1}
    text = reproduced.ok("figure-1", "--config", "seeds=3", "seeds_per_job=3")
    assert re.findall(r"^resnet-8 .* seed (\d): test", text, re.M) == ["2", "2"]


def test_a_changed_specification_trains_anew_in_a_separate_folder(reproduced):
    jobs = reproduced.jobs("figure-1", "--config", "momentum=0.8")
    assert jobs["train"] == 2
    study = reproduced.folder / "tiny.yaml"
    study.write_text(STUDY.replace("learning_rate: 0.1", "learning_rate: 0.2"))
    # Nor does it depend on what Snakemake remembers: what is there is read.
    jobs = reproduced.jobs("figure-1", "figure-6", "--rerun-triggers", "mtime")
    assert {name: jobs[name] for name in ("train", "train-seed-1", "analyse", "collect", "draw_figure")} == {
        "train": 3,
        "train-seed-1": 3,
        "analyse": 4,
        "collect": 2,
        "draw_figure": 2,
    }
    study.write_text(STUDY)
    assert reproduced.jobs() == {}


def test_another_experiment_or_style_trains_only_what_is_new(reproduced):
    study = reproduced.folder / "tiny.yaml"
    more = "  more: {architectures: [resnet-8], regimes: [batchnorm, output]}\nfigures:\n  figure-d: [more]"
    study.write_text(STUDY.replace("figures:", more))
    jobs = reproduced.jobs("figure-d")
    assert jobs == {"train": 1, "train-seed-1": 1, "collect": 1, "draw_figure": 1, "figure-d": 1}
    study.write_text(STUDY)
    style = Path(drawing.__file__).with_name("paper.mplstyle")
    before = style.stat()
    os.utime(style)
    assert reproduced.jobs() == {}
    os.utime(style, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_runs_repeated_in_another_order_and_block_size_have_the_same_bytes(reproduced, fresh):
    runs = "results/tiny/experiments/one/runs.parquet"
    fresh.ok("figure-6", "figure-7", runs, "--cores", "1", "--config", "seeds_per_job=2")
    found, expected = fresh.digests(), reproduced.digests()
    assert len(found) > 20
    assert {file: expected.get(file) for file in found} == found
    # How long a run took, and with which others, may differ.
    found, expected = (pd.read_parquet(c.folder / runs).drop(columns=CLOCK) for c in (fresh, reproduced))
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM])  # a terminal's Ctrl-C, a scheduler
def test_a_stopped_study_resumes_where_it_was(fresh, asked_by):
    run = f"results/tiny_epochs-20/runs/resnet-8/all/{DEFAULT}/seed-0/run.json"
    request = (run, "--config", "epochs=20")
    running = subprocess.Popen(
        fresh.command("--cores", "1", *request),
        cwd=fresh.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # What starts the tests in the background may have had them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(fresh.folder.rglob("checkpoint.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, asked_by)
    assert running.wait(timeout=60) != 0
    assert not list(fresh.folder.rglob("run.json"))
    fresh.ok(*request)
    (resumed,) = json.loads((fresh.folder / run).read_text())["computed"]["resumed"]
    assert (0, 1) <= (resumed["epoch"], resumed["steps"]) < (20, 0)


def test_a_second_snakemake_on_the_same_results_is_rejected_in_one_sentence(fresh):
    first = subprocess.Popen(
        fresh.command("--cores", "1"),
        cwd=fresh.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (fresh.folder / "results/tiny/logs/train").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        refusal = fresh.refusal("--cores", "1")
        assert "error: another Snakemake is working in results" in refusal
    finally:
        os.killpg(first.pid, 9)
        first.wait()
    # The lock died with its process.
    assert "another Snakemake" not in fresh.ok("table-1")


REFUSALS = {
    "architectures=resnet-15": "error: config: architectures: 'resnet-15' does not exist: a CIFAR",
    "results_dir=tiny.yaml/results": "tiny.yaml is not a folder",
}


@pytest.mark.parametrize("given", REFUSALS)
def test_a_wrong_configuration_ends_in_one_sentence(fresh, given):
    assert REFUSALS[given] in fresh.refusal("-n", "--config", given)


def test_absent_data_ends_in_one_sentence_before_any_training(fresh):
    text = fresh.refusal("figure-1", "--cores", "2", "--config", "dataset=cifar10-jpeg", "data_dir=nowhere")
    sentence = "error: cifar10-jpeg: nowhere/cifar10/train.parquet is missing; expected 50,000 rows"
    assert text.count(sentence) >= 1
    assert text.rstrip().rpartition("What went wrong:")[2].strip().startswith(sentence)
    assert not (fresh.folder / "results" / "tiny_dataset-cifar10-jpeg").exists()


def test_cuda_without_a_device_is_rejected_before_any_job(fresh):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    text = fresh.refusal("figure-1", "--cores", "2", "--config", "device=cuda")
    assert "error: device: cuda was requested, but torch finds no CUDA device here" in text
    assert not (fresh.folder / "results" / "datasets").exists()


def test_collect_rejects_runs_of_different_data_and_replicates_of_different_groups(reproduced, tmp_path):
    from onlybn.errors import UserError
    from onlybn.runs import records
    from onlybn.runs.collect import collect

    folders = [
        path.parent for path in reproduced.folder.glob("results/tiny/runs/resnet-8/all/*/seed-[01]/run.json")
    ]
    mixed = tmp_path / "other"
    shutil.copytree(folders[1], mixed)
    record = records.read_record(mixed)
    runs = {folder: records.run_of(records.read_record(folder)) for folder in (*folders, mixed)}
    whole, mixing = ({f: runs[f] for f in some} for some in (folders, (folders[0], mixed)))

    def change(**changes):
        (mixed / "run.json").write_text(json.dumps(records.sealed(record | changes)))

    change(dataset_checksum="0")
    (run,), (_,) = (table.to_pylist() for table in collect("e", "runs", whole))
    assert run["digest"] == record["digest"]
    assert (run["device"], run["resumed"], run["seeds_together"]) == ("cpu", 0, f"[{run['seed']}]")
    assert [len(table) for table in collect("e", "affine", whole)] == [336, 336]  # channels of ResNet-8
    with pytest.raises(UserError, match="experiment e mixes runs of different data"):
        list(collect("e", "affine", mixing))
    change(commit=["?"])
    with pytest.raises(UserError, match=r"run.json is damaged \(.*to train the run again"):
        list(collect("e", "runs", {mixed: runs[mixed]}))
    change(computed=record["computed"] | {"processes": 4})
    with pytest.raises(
        UserError, match=r"experiment e mixes replicates of different processes: 1 in .* 4 in"
    ):
        list(collect("e", "affine", mixing))
