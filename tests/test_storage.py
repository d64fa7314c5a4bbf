"""A run's folder: what it holds, the network it gives back, and what is refused."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

import onlybn
from onlybn import storage
from onlybn.analyses import affine
from onlybn.errors import UserError
from onlybn.files import written_whole
from onlybn.training import train

SETTINGS = {"device": "cpu", "threads": 1, "precision_asked": "float32", "precision": "float32"}


@pytest.fixture
def saved(tmp_path, few_digits, make_run):
    def save(**run):
        run = make_run(**run)
        outcome = train(run, few_digits)
        storage.save(tmp_path, run, outcome, few_digits, SETTINGS)
        return run, outcome.network.eval()

    return save


@pytest.mark.parametrize("regime", ["all", "no-affine", "batchnorm", "random-2", "batchnorm+output"])
def test_loading_gives_back_the_trained_networks_outputs_bit_for_bit(saved, tmp_path, few_digits, regime):
    _, trained = saved(regime=regime)
    images = few_digits.normalise(few_digits.test.images)
    with torch.no_grad():
        assert torch.equal(onlybn.load(tmp_path)(images), trained(images))


def test_the_record_holds_what_is_needed_to_repeat_the_run(saved, tmp_path, few_digits):
    run, _ = saved(regime="batchnorm")
    record = storage.read_record(tmp_path)
    assert record["status"] == "finished"
    assert record["digest"] == run.digest
    assert record["training"] == run.training.model_dump()
    assert record["dataset_checksum"] == few_digits.checksum
    assert record["counts"]["trainable_parameters"] == record["counts"]["batchnorm_parameters"]
    assert record["versions"]["torch"] == torch.__version__
    assert record["computed"] == SETTINGS
    assert {"commit", "machine", "frozen_digest", "wall_clock"} <= set(record)


def test_tables_have_a_row_per_epoch_and_split_and_one_per_channel(saved, tmp_path):
    _, network = saved(epochs=3)
    metrics = pq.read_table(tmp_path / "metrics.parquet")
    assert metrics.schema.remove_metadata() == storage.METRICS
    assert metrics["epoch"].to_pylist() == [1, 1, 2, 2, 3, 3]
    table = pq.read_table(tmp_path / "affine.parquet")
    assert table.schema.remove_metadata() == affine.SCHEMA
    gamma = torch.cat([layer.weight.detach() for layer in network.batchnorm_places()])
    assert table["gamma"].to_pylist() == gamma.tolist()
    assert table["position"].to_pylist()[0] == "stem"
    initial = table["gamma_initial"].to_numpy()
    assert 0 <= initial.min() < initial.max() <= 1
    assert (initial != gamma.numpy()).all()


def test_only_what_training_moved_is_kept(saved, tmp_path):
    _, network = saved(regime="batchnorm")
    state = load_file(tmp_path / "state.safetensors")
    layers = len(network.batchnorms())
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


def test_a_run_is_finished_only_with_its_own_digest_seed_and_files(saved, tmp_path, make_run):
    run, _ = saved()
    assert storage.is_finished(tmp_path, run)
    assert not storage.is_finished(tmp_path, make_run(seed=1))
    assert not storage.is_finished(tmp_path, make_run(momentum=0.8))
    (tmp_path / "affine.parquet").unlink()
    assert not storage.is_finished(tmp_path, run)
    assert not storage.is_finished(tmp_path / "nowhere", run)


def edit_record(folder, **changes):
    record = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(record))


def test_other_frozen_weights_are_refused_with_the_digests(saved, tmp_path):
    saved()
    state = load_file(tmp_path / "state.safetensors")
    specification = {"onlybn": json.dumps({"digest": storage.read_record(tmp_path)["digest"]})}
    edit_record(tmp_path, seed=1)
    with pytest.raises(UserError, match="frozen weights drawn from seed 1 are not those of training"):
        onlybn.load(tmp_path)
    # The same sums but other bits: rounding, which only warns.
    edit_record(tmp_path, seed=0)
    sums = storage.read_record(tmp_path)
    edit_record(tmp_path, frozen_digest="0" * 64)
    with pytest.warns(UserWarning, match="differ by rounding"):
        onlybn.load(tmp_path)
    edit_record(tmp_path, frozen_digest=sums["frozen_digest"])
    save_file(state | {"extra": torch.zeros(1)}, tmp_path / "state.safetensors", metadata=specification)
    with pytest.raises(UserError, match="is not the state of the run"):
        onlybn.load(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "state.safetensors"])
def test_a_truncated_file_is_one_sentence(saved, tmp_path, name):
    saved()
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        onlybn.load(tmp_path)


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        onlybn.load(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(path) as beside:
        beside.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_diverged_run_is_stored_with_its_epoch(saved, tmp_path):
    saved(regime="all", epochs=9, learning_rate=1e18)
    record = storage.read_record(tmp_path)
    assert record["status"] == "diverged"
    assert 1 <= record["diverged_epoch"] < 9
    assert pq.read_table(tmp_path / "metrics.parquet")["epoch"].to_pylist()[-1] == record["diverged_epoch"]
