"""What a training job publishes while it trains, for displays and the status."""

import shutil
from types import SimpleNamespace

import pytest

from onlybn.runs import block, progress
from onlybn.runs.progress import Publisher


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = SimpleNamespace(seconds=100.0)
    stand_in = SimpleNamespace(monotonic=lambda: now.seconds, time=lambda: now.seconds)
    monkeypatch.setattr(progress, "time", stand_in)
    return now


@pytest.fixture
def live(make_run):
    """A run of two epochs of 12 steps."""
    run = make_run()
    return SimpleNamespace(
        run=run,
        taken=0,
        begun=0,
        tested=0,
        steps=24,
        steps_per_epoch=12,
        rows=[],
        diverged=None,
        is_over=False,
    )


def test_a_run_at_work_says_how_far_it_is_and_how_long_it_takes(live, clock, tmp_path):
    publisher = Publisher({0: tmp_path})
    live.begun = live.taken = 4  # an earlier job took these
    clock.seconds += 5
    live.taken = 14
    live.tested, live.rows = 12, [{"split": "train"}, {"split": "test", "top_1": 91.23}]
    publisher.step_ended([live])
    found = progress.read(tmp_path)
    assert str(found) == f"{live.run}: epoch 1/2, test accuracy 91.2 %, 5 s left"
    assert found.share == 14 / 24


def test_progress_is_written_at_most_once_a_second_whole_and_not_where_it_cannot_be(live, clock, tmp_path):
    publisher = Publisher({0: tmp_path})
    for step in range(1, 10):
        live.taken = step
        publisher.step_ended([live])
        clock.seconds += 0.3
    assert progress.read(tmp_path).step == 9
    assert progress.read(tmp_path).written - 100 == pytest.approx(2.4)
    assert [path.name for path in tmp_path.iterdir()] == [progress.FILE]
    (tmp_path / progress.FILE).write_text('{"run": 1}')  # another version's
    assert progress.read(tmp_path) is None
    Publisher({0: tmp_path / "gone"}).step_ended([live])
    assert progress.read(tmp_path / "gone") is None


def test_writing_progress_takes_a_thousandth_of_the_time_at_most(live, clock, tmp_path, monkeypatch):
    def slowly(folder, told):
        written.append(clock.seconds)
        clock.seconds += 0.02

    written = []
    monkeypatch.setattr(progress, "write", slowly)
    publisher = Publisher({0: tmp_path})
    for _ in range(1_000):
        publisher.step_ended([live])
        clock.seconds += 0.1
    assert [round(at - written[0]) for at in written] == [0, 20, 40, 60, 80]


def test_a_diverged_run_says_so(live, tmp_path):
    live.diverged, live.is_over, live.taken, live.tested = 2, True, 24, 24
    Publisher({0: tmp_path}).publish(live)
    assert str(progress.read(tmp_path)) == f"{live.run}: diverged in epoch 2"


def test_a_job_publishes_beside_the_checkpoint_and_leaves_the_runs_folder_and_its_bytes_alone(
    train_block, digits_folder, make_run, tmp_path, monkeypatch
):
    run = make_run(epochs=1)
    (folder,) = train_block([run], digits_folder)
    published = progress.read(tmp_path / "work" / "seed-0")
    assert (published.state, published.reached, published.step) == ("finished", 1, published.steps)
    names = {"run.json", "metrics.parquet", "affine.parquet", "state.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    before = {name: (folder / name).read_bytes() for name in names - {"run.json"}}
    for place in (folder, tmp_path / "work" / "seed-0"):
        shutil.rmtree(place)
    nothing = lambda live: None  # noqa: E731
    silent = SimpleNamespace(step_ended=nothing, publish=nothing, seconds_left=nothing)
    monkeypatch.setattr(block, "Publisher", lambda folders: silent)
    train_block([run], digits_folder)
    assert not (tmp_path / "work" / "seed-0" / progress.FILE).exists()
    assert before == {name: (folder / name).read_bytes() for name in before}
