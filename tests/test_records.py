"""A run's folder proves itself, and files made from another run or study are found without Snakemake."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import BUILTIN, CONFIG

import onlybn
from onlybn.configuration import open_study
from onlybn.errors import UserError
from onlybn.files import write_table, write_tables
from onlybn.runs import records, saving
from onlybn.runs.collect import collect
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.loop import train
from onlybn.workflow.outdated import Forced, outdated
from onlybn.workflow.paths import POINT, Workflow

SETTINGS = {"device": "cpu", "processes": 1, "threads": 1, "precision": "float32"}
TABLES = ("metrics.parquet", "affine.parquet")
STUDY = """
dataset: digits
training: {epochs: 1, batch_size: 50, learning_rate: 0.1, flip: false}
seeds: 2
experiments: {one: {architectures: [resnet-8], regimes: [batchnorm]}}
figures: {figure-4: [one], figure-6: [one]}
"""


@pytest.fixture(scope="module")
def trained(few_digits, tmp_path_factory):
    """A study's results folder, with its two runs and a clamping table of each."""
    folder = tmp_path_factory.mktemp("trained")
    workflow = study(folder)
    for run in workflow.study.runs("one"):
        place = workflow.places(run)[0]
        saving.save(place, run, train(run, few_digits), few_digits, SETTINGS)
        table = pa.Table.from_pylist([{"threshold": 0.1, "beta_too": False}], SCHEMAS["clamping"])
        records.write_measured(place / "clamping.parquet", table, records.read_record(place))
    return folder


def study(folder: Path, text: str = STUDY, **changes) -> Workflow:
    (folder / "tiny.yaml").write_text(text)
    settings = {"study": str(folder / "tiny.yaml"), "results_dir": str(folder / "results"), "device": "cpu"}
    return Workflow(open_study(CONFIG | settings | changes, BUILTIN))


@pytest.fixture
def results(trained, tmp_path):
    """A copy of the study to damage: its workflow, and its runs by folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    workflow = study(tmp_path)
    return workflow, {workflow.places(run)[0]: run for run in workflow.study.runs("one")}


def collected(workflow: Workflow, runs: dict, kind: str) -> Path:
    path = Path(workflow.experiment_pattern.format(experiment="one", collected=kind))
    write_tables(path, collect("one", kind, runs))
    return path


@pytest.mark.parametrize("name", records.FILES)
def test_a_flipped_bit_in_any_file_is_rejected_by_every_reader(results, name):
    _, runs = results
    folder, run = next(iter(runs.items()))
    whole, rng = (folder / name).read_bytes(), Random(name)
    readers = [
        lambda: records.check_files(folder, records.expect(folder, run)),
        lambda: list(collect("one", name.removesuffix(".parquet") if name in TABLES else "runs", runs)),
    ]
    if name.endswith(("json", "safetensors")):
        readers.append(lambda: onlybn.load(folder))
    for read in readers if name != "state.safetensors" else readers[::2]:
        read()
        content = bytearray(whole)
        place = rng.randrange(len(content))
        while name == "run.json" and not chr(content[place]).isalnum():  # a space more changes nothing
            place = rng.randrange(len(content))
        content[place] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=r"to (train the run|measure it) again|altered"):
            read()
        assert not records.is_finished(folder, run)
        (folder / name).write_bytes(whole)
    assert records.is_finished(folder, run)


def test_runs_whose_folders_are_swapped_or_copied_are_not_collected(results):
    _, runs = results
    one, other = runs
    shutil.rmtree(one)
    shutil.copytree(other, one)
    with pytest.raises(
        UserError, match=r"seed-0 holds another run than resnet-8 batchnorm seed 0: seed 1, not 0"
    ):
        list(collect("one", "metrics", runs))


def test_replicates_of_different_precision_are_not_collected(results):
    _, runs = results
    record = records.read_record(next(iter(runs)))
    record["computed"]["precision"] = "bfloat16"
    (next(iter(runs)) / "run.json").write_text(json.dumps(records.sealed(record)))
    with pytest.raises(UserError, match=r"mixes replicates of different precision: bfloat16 in .*float32 in"):
        list(collect("one", "affine", runs))


def test_an_analysis_of_another_state_or_with_other_values_is_not_collected(results):
    _, runs = results
    one, other = (folder / "clamping.parquet" for folder in runs)
    list(collect("one", "clamping", runs))
    folder, run = next(iter(runs.items()))
    data = records.read_record(folder)["dataset_checksum"]
    assert records.is_analysis(one, run, folder, data)
    metadata, whole = records.told_in(pq.read_schema(one)), one.read_bytes()
    edited = pa.Table.from_pylist([{"threshold": 0.2, "beta_too": False}], SCHEMAS["clamping"])
    write_table(one, records.telling(edited, **metadata))
    with pytest.raises(UserError, match=r"clamping.parquet was altered since it was measured"):
        list(collect("one", "clamping", runs))
    assert not records.is_analysis(one, run, folder, data)
    one.write_bytes(whole[:-1])
    assert not records.is_analysis(one, run, folder, data)
    one.unlink()
    assert not records.is_analysis(one, run, folder, data)
    one.write_bytes(whole)
    shutil.copy(one, other)
    with pytest.raises(
        UserError, match=r"clamping.parquet was measured on another run than the one beside it"
    ):
        list(collect("one", "clamping", runs))


def test_a_tables_digest_depends_on_its_values_and_not_on_their_encoding(tmp_path):
    text = pa.array(["a", "b", None])
    table = pa.table({"x": [1.0, None, -0.0], "name": text.dictionary_encode()})
    pq.write_table(table, tmp_path / "kept.parquet", row_group_size=1, compression="gzip")
    assert records.content(pq.read_table(tmp_path / "kept.parquet")) == records.content(table)
    plain = table.set_column(1, "name", text)
    assert records.content(plain) == records.content(table)
    for other in ([1.0, 0.0, -0.0], [1.0, None, 0.0]):
        assert records.content(table.set_column(0, "x", pa.array(other))) != records.content(table)


def test_files_of_another_study_are_outdated_without_snakemakes_records(results, tmp_path, capsys):
    workflow, runs = results
    path, figure = collected(workflow, runs, "affine"), next(iter(workflow.numbers_drawn))
    write_table(figure, records.telling(pa.table({"x": [1]}), tables=records.drawn_from([path])))
    assert outdated(workflow) == set()
    assert capsys.readouterr().err == ""
    other = study(tmp_path, STUDY.replace("0.1", "0.7"))
    files = outdated(other)
    folder, run = next(iter(runs.items()))
    assert {f"{folder}/{name}" for name in (*records.FILES, "clamping.parquet")} < files
    assert str(path) in files
    assert capsys.readouterr().err == (
        "2 of 2 runs of tiny exist but are not what the study requests. They are trained again if a target"
        f" needs them, and the old ones are moved to {workflow.runs}/replaced. The first: {folder} holds"
        f" another run than {run}: learning_rate 0.1, not 0.7\n"
    )
    # Other data under the dataset's name.
    (tmp_path / "results/datasets/digits").mkdir(parents=True)
    facts = {"classes": 10, "mean": [0], "std": [1], "checksum": "0"}
    (tmp_path / "results/datasets/digits/dataset.json").write_text(json.dumps(facts))
    assert str(folder / "run.json") in outdated(study(tmp_path))


def test_tables_of_deleted_runs_are_still_drawn_unless_the_study_requests_other_runs(results, tmp_path):
    workflow, runs = results
    path = collected(workflow, runs, "affine")
    shutil.rmtree(tmp_path / "results/tiny/runs")
    assert outdated(workflow) == set()
    assert outdated(study(tmp_path, STUDY.replace("0.1", "0.7"))) == {str(path)}
    assert outdated(study(tmp_path, STUDY.replace("seeds: 2", "seeds: [0]"))) == {str(path)}
    table = pq.read_table(path)
    write_table(path, table.replace_schema_metadata(None))  # of an earlier version
    assert outdated(workflow) == set()


def test_files_made_from_a_changed_run_are_outdated(results):
    workflow, runs = results
    path, figure = collected(workflow, runs, "affine"), next(iter(workflow.numbers_drawn))
    write_table(figure, records.telling(pa.table({"x": [1]}), tables=records.drawn_from([path])))
    folder = next(iter(runs))
    record = records.read_record(folder)
    record["files"]["state.safetensors"] = "0" * 64  # as a retraining on another machine would
    (folder / "run.json").write_text(json.dumps(records.sealed(record)))
    assert outdated(workflow) == {str(folder / "clamping.parquet"), str(path)}
    write_table(path, records.telling(pq.read_table(path), runs=[]))
    assert str(figure) in outdated(workflow)


def test_damaged_numbers_of_a_figure_are_outdated(results):
    workflow, runs = results
    path, figure = collected(workflow, runs, "affine"), next(iter(workflow.numbers_drawn))
    write_table(figure, records.telling(pa.table({"x": [1]}), tables=records.drawn_from([path])))
    figure.write_bytes(b"")
    assert outdated(workflow) == {str(figure)}


def test_outdated_files_are_forced_once_per_graph_of_jobs_and_never_in_a_cluster_job(results, tmp_path):
    for main in (True, False):
        graph = SimpleNamespace(forcefiles=set())
        forced = Forced(
            study(tmp_path, STUDY.replace("0.1", "0.7")), SimpleNamespace(dag=graph, is_main_process=main)
        )
        run = forced.workflow.study.each_run()[0]
        files = forced.training(SimpleNamespace(**dict(zip(POINT, run.point, strict=True))))
        assert [file.is_ancient if hasattr(file, "is_ancient") else file.flags["ancient"] for file in files]
        assert bool(graph.forcefiles) == main


def test_a_record_of_an_earlier_version_is_accepted_and_its_digest_is_checked(results):
    _, runs = results
    folder, run = next(iter(runs.items()))
    record = records.read_record(folder)
    del record["files"], record["seal"]
    (folder / "run.json").write_text(json.dumps(record))
    assert records.is_finished(folder, run)
    assert not records.is_finished(folder, replace(run, seed=1))
    (folder / "run.json").write_text(json.dumps(record | {"digest": "0" * 16}))
    assert not records.is_finished(folder, run)


def test_different_studies_can_share_a_results_folder_but_selections_of_one_study_cannot_run_together(
    tmp_path,
):
    first, other = study(tmp_path), tmp_path / "other.yaml"
    other.write_text(STUDY)
    first.start(local=True)
    second = study(tmp_path, study=str(other))
    second.start(local=True)
    with pytest.raises(
        SystemExit, match=r"error: another Snakemake is working in .*results/tiny; wait for it"
    ):
        study(tmp_path, seeds=1).start(local=True)
