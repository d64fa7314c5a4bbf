"""A run's folder: its content, loading its network, and what is rejected."""

import json
import os
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import onlybn
from onlybn.errors import UserError
from onlybn.files import written_whole
from onlybn.locks import lock
from onlybn.runs import folders, records, saving
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.loop import train

SETTINGS = {"device": "cpu", "processes": 1, "threads": 1, "precision": "float32"}


@pytest.fixture
def saved(tmp_path, few_digits, make_run):
    def save(**run):
        run = make_run(**run)
        outcome = train(run, few_digits)
        saving.save(tmp_path, run, outcome, few_digits, SETTINGS)
        return run, outcome.network.eval()

    return save


@pytest.mark.parametrize("regime", ["all", "no-affine", "batchnorm", "random-2", "batchnorm+output"])
def test_loading_restores_the_trained_networks_outputs_bit_for_bit(saved, tmp_path, few_digits, regime):
    _, trained = saved(regime=regime)
    images = few_digits.normalise(few_digits.test.images)
    with torch.no_grad():
        assert torch.equal(onlybn.load(tmp_path)(images), trained(images))


def test_the_record_has_everything_needed_to_repeat_the_run(saved, tmp_path, few_digits):
    run, _ = saved(regime="batchnorm")
    record = records.read_record(tmp_path)
    assert record["status"] == "finished"
    assert record["digest"] == run.digest
    assert record["training"] == run.training.specified
    assert record["dataset_checksum"] == few_digits.checksum
    assert record["counts"]["trainable_parameters"] == record["counts"]["batchnorm_parameters"]
    assert record["versions"]["torch"] == torch.__version__
    assert record["computed"] == SETTINGS | {"resumed": []}
    assert {"commit", "machine", "frozen_digest", "wall_clock"} <= set(record)


def test_tables_have_a_row_per_epoch_and_split_and_one_per_channel(saved, tmp_path):
    _, network = saved(epochs=3)
    metrics = pq.read_table(tmp_path / "metrics.parquet")
    assert metrics.schema.remove_metadata() == SCHEMAS["metrics"]
    assert metrics["epoch"].to_pylist() == [1, 1, 2, 2, 3, 3]
    table = pq.read_table(tmp_path / "affine.parquet")
    assert table.schema.remove_metadata() == SCHEMAS["affine"]
    gamma = torch.cat([layer.weight.detach() for layer in network.normalisation_places()])
    assert table["gamma"].to_pylist() == gamma.tolist()
    assert table["position"].to_pylist()[0] == "stem"
    initial = table["gamma_initial"].to_numpy()
    assert 0 <= initial.min() < initial.max() <= 1
    assert (initial != gamma.numpy()).all()


def test_only_what_training_changed_is_stored(saved, tmp_path):
    _, network = saved(regime="batchnorm")
    state = load_file(tmp_path / "state.safetensors")
    layers = len(network.normalisations())
    assert len(state) == 4 * layers  # γ, β, running mean and variance
    saved(regime="random-2")
    state = load_file(tmp_path / "state.safetensors")
    assert len(state) == 2 * layers + len(network.convolutions())


def test_the_same_run_writes_the_same_bytes(saved, tmp_path):
    tables = ("metrics.parquet", "affine.parquet", "state.safetensors")
    saved()
    first = [(tmp_path / name).read_bytes() for name in tables]
    saved()
    assert first == [(tmp_path / name).read_bytes() for name in tables]


def test_a_run_is_finished_only_with_the_right_digest_seed_and_files(saved, tmp_path, make_run):
    run, _ = saved()
    assert records.is_finished(tmp_path, run)
    assert not records.is_finished(tmp_path, make_run(seed=1))
    assert not records.is_finished(tmp_path, make_run(momentum=0.8))
    (tmp_path / "affine.parquet").unlink()
    assert not records.is_finished(tmp_path, run)
    assert not records.is_finished(tmp_path / "nowhere", run)


def edit_record(folder, **changes):
    record = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(record))


def of_an_earlier_version(folder):
    """Remove the proof of its files from a record, so that the other checks are tested."""
    record = json.loads((folder / "run.json").read_text())
    del record["files"], record["seal"]
    (folder / "run.json").write_text(json.dumps(record, indent=2))


def test_other_frozen_weights_are_rejected_with_the_digests(saved, tmp_path):
    saved()
    of_an_earlier_version(tmp_path)
    state = load_file(tmp_path / "state.safetensors")
    edit_record(tmp_path, frozen_digest="0" * 64)
    facts = state_facts(tmp_path)
    save_state(tmp_path, state, facts | {"frozen_sums": [2 * value for value in facts["frozen_sums"]]})
    with pytest.raises(UserError, match="frozen weights drawn from seed 0 are not those of training"):
        onlybn.load(tmp_path)
    # The same sums but other bits: this is rounding, which only warns.
    save_state(tmp_path, state, facts)
    with pytest.warns(UserWarning, match="differ by rounding"):
        onlybn.load(tmp_path)


def state_facts(folder):
    with safe_open(folder / "state.safetensors", "pt") as file:
        return json.loads(file.metadata()["onlybn"])


def save_state(folder, tensors, facts):
    text = facts if isinstance(facts, str) else json.dumps(facts)
    save_file(tensors, folder / "state.safetensors", metadata={"onlybn": text})


def change_state(folder, change):
    state, facts = load_file(folder / "state.safetensors"), state_facts(folder)
    save_state(folder, *change(state, facts))


def change_text(folder, old, new):
    text = (folder / "run.json").read_text()
    assert old in text
    (folder / "run.json").write_text(text.replace(old, new, 1))


def cut_within_a_string(path):
    before, key, _ = path.read_text().partition('"machine": "')
    path.write_text(before + key)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_loop(path):  # not even root can open this
    path.unlink()
    path.symlink_to(path)


def poison(state, facts):
    next(iter(state.values()))[0] = torch.nan
    return state, facts


# Damages of a run's folder, and the message for each.
RECORD, STATE = "run.json", "state.safetensors"
DAMAGES = {
    "record cut short": (
        lambda f: cut_within_a_string(f / RECORD),
        "run.json is damaged (Unterminated string",
    ),
    "record empty": (lambda f: (f / RECORD).write_text(""), "run.json is damaged (Expecting value"),
    "record a list": (lambda f: (f / RECORD).write_text("[1]"), "was not written by this version"),
    "record nested": (lambda f: (f / RECORD).write_text("[" * 9**5), "run.json is damaged ("),
    "record not text": (lambda f: (f / RECORD).write_bytes(b"\xff\xfe"), "run.json is damaged ('utf-8'"),
    "record a folder": (lambda f: replace_by_folder(f / RECORD), "run.json is damaged ([Errno 21] Is a"),
    "record unreadable": (lambda f: replace_by_loop(f / RECORD), "run.json is damaged ([Errno 40] Too"),
    "record of later": (lambda f: edit_record(f, specification=99), "was not written by this version"),
    "record lacking": (lambda f: edit_record(f, seed=None, digest=3), "(digest, seed missing or invalid)"),
    "record of numbers": (lambda f: edit_record(f, training=5), "(training missing or invalid)"),
    "record of lists": (
        lambda f: edit_record(f, recordings=5, axes=[], own={"sources": [5]}),
        "(axes, recordings, own.sources missing or invalid)",
    ),
    "architecture": (lambda f: edit_record(f, architecture="resnet-9"), "does not match its digest"),
    "dataset": (lambda f: edit_record(f, dataset="svhn"), "run.json is damaged ('svhn')"),
    "regime": (lambda f: edit_record(f, regime="all"), "its specification does not match its digest"),
    "training": (lambda f: edit_record(f, training={}), "run.json is damaged ("),
    "epochs": (lambda f: change_text(f, '"epochs": 2', '"epochs": 3'), "does not match its digest"),
    "channels": (lambda f: edit_record(f, channels=10**9), "its specification does not match its digest"),
    "negative seed": (lambda f: edit_record(f, seed=-1), "its specification does not match its digest"),
    "other seed": (lambda f: edit_record(f, seed=1), "is not the state of the run that"),
    "state cut short": (lambda f: halve(f / STATE), f"{STATE} is damaged ("),
    "state empty": (lambda f: (f / STATE).write_bytes(b""), f"{STATE} is damaged ("),
    "state a pickle": (lambda f: torch.save({}, f / STATE), f"{STATE} is damaged ("),
    "state a folder": (
        lambda f: replace_by_folder(f / STATE),
        f"{STATE} is damaged (",
    ),
    "state unreadable": (
        lambda f: replace_by_loop(f / STATE),
        f"{STATE} is damaged (",
    ),
    "state gone": (
        lambda f: (f / STATE).unlink(),
        f"{STATE} is damaged (No such file",
    ),
    "state without metadata": (
        lambda f: save_file(load_file(f / STATE), f / STATE),
        f"{STATE} is damaged ('onlybn')",
    ),
    "state metadata not JSON": (
        lambda f: change_state(f, lambda state, facts: (state, "of a run")),
        f"{STATE} is damaged (Expecting value",
    ),
    "state of another run": (
        lambda f: change_state(f, lambda state, facts: (state, facts | {"digest": "0"})),
        "is not the state of the run that",
    ),
    "state of another shape": (
        lambda f: change_state(f, lambda state, facts: ({n: t[:1] for n, t in state.items()}, facts)),
        "is not the state of the run that",
    ),
    "state of another precision": (
        lambda f: change_state(f, lambda state, facts: ({n: t.half() for n, t in state.items()}, facts)),
        "is not the state of the run that",
    ),
    "a tensor too many": (
        lambda f: change_state(f, lambda state, facts: (state | {"extra": torch.zeros(1)}, facts)),
        "is not the state of the run that",
    ),
    "not finite": (
        lambda f: change_state(f, poison),
        "has values that are not finite, but the run is recorded as finished",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_run_is_rejected_in_one_sentence_and_not_changed(saved, tmp_path, case):
    damage, sentence = DAMAGES[case]
    saved()
    of_an_earlier_version(tmp_path)
    damage(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(UserError) as raised:
        onlybn.load(tmp_path)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_only_leftovers_of_published_runs_are_deleted(saved, tmp_path, make_run):
    saved()
    work, runs = tmp_path / "work", tmp_path / "runs"
    for name in ("a/seed-0", "a/seed-1", "b/seed-0", "b/seed-1", "c/seed-0"):
        shutil.copytree(tmp_path, work / name, ignore=lambda *_: ["work", "runs"])
        if name != "c/seed-0":  # which is not published
            folders.publish(work / name, runs / name)
            assert not (runs / name / "state.safetensors").samefile(work / name / "state.safetensors")
    (work / "a/seed-1/checkpoint.safetensors").touch()  # another specification, on its way
    edit_record(work / "b/seed-1", digest="another")
    (runs / "b/seed-1/run.json").unlink()
    for name in records.FILES:
        (work / "b/seed-0" / name).unlink()  # a lock alone
    held = lock(work / "a/seed-0/.lock", "taken")  # by a job, which is at work there
    left = ["a/seed-0", "a/seed-1", "b/seed-1", "c/seed-0"]
    for there in (left, left[1:]):
        folders.clear_work(work, runs)
        assert sorted(str(place.relative_to(work)) for place in work.glob("*/*")) == there
        if there == left:
            os.close(held)
    assert (runs / "a/seed-0/run.json").exists()


def test_an_analysis_measured_after_training_waits_alone_until_it_is_needed(saved, tmp_path):
    saved()
    work, run = tmp_path / "work" / "a" / "seed-0", tmp_path / "runs" / "a" / "seed-0"
    shutil.copytree(tmp_path, work, ignore=lambda *_: ["work", "runs"])
    folders.publish(work, run)
    record = records.read_record(run)
    for name, of in {"clamping": record, "activations": record | {"digest": "another"}}.items():
        records.write_measured(work / f"{name}.parquet", SCHEMAS[name].empty_table(), of)
    for _ in range(2):
        folders.clear_work(tmp_path / "work", tmp_path / "runs")
        assert {path.name for path in work.iterdir()} == {".lock", "clamping.parquet"}
    (work / "clamping.parquet").replace(run / "clamping.parquet")
    folders.clear_work(tmp_path / "work", tmp_path / "runs")
    assert not (tmp_path / "work").exists()


def test_a_folder_without_a_run_gives_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        onlybn.load(tmp_path)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(path) as beside:
        beside.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_diverged_run_is_stored_with_its_epoch(saved, tmp_path):
    saved(regime="all", epochs=9, learning_rate=1e18)
    record = records.read_record(tmp_path)
    assert record["status"] == "diverged"
    assert 1 <= record["diverged_epoch"] < 9
    assert pq.read_table(tmp_path / "metrics.parquet")["epoch"].to_pylist()[-1] == record["diverged_epoch"]
