"""Malicious or random files: they give a study, a run, or one clear error, and nothing else."""

import json
import struct
import sys
import warnings
from contextlib import suppress

import pytest
import yaml
from checkout import ROOT
from conftest import BUILTIN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onlybn
from onlybn.configuration import open_study
from onlybn.errors import UserError
from onlybn.files import write_json
from onlybn.runs import records, saving
from onlybn.study import Study
from onlybn.training.loop import train

# The same examples in every run, so everyone finds what CI finds.
settings.register_profile(
    "onlybn",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("onlybn")

DIGITS = yaml.safe_load((BUILTIN / "only_batchnorm" / "digits.yaml").read_text())
SETTINGS = yaml.safe_load((ROOT / "config.yaml").read_text())

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["../../x", "/etc/passwd", "a\x00b", "resnet-99999999999999999998", "wrn-14-", "random--1"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(content, path=()):
    """Every place in a tree of mappings and lists."""
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def put(content, path, value):
    """A copy of the tree with another value at one place."""
    if not path:
        return value
    copy = content.copy()
    copy[path[0]] = put(content[path[0]], path[1:], value)
    return copy


def opened(tmp_path, text: bytes, **config):
    """Open a study with that text: this gives a study with folders inside the results, or one clear error."""
    file = tmp_path / "mine.yaml"
    file.write_bytes(text)
    try:
        study = open_study({**SETTINGS, "study": str(file), **config}, BUILTIN)
    except UserError as error:
        assert str(error)
        return None
    assert isinstance(study, Study)
    assert "/" not in study.name
    for experiment in study.experiments:
        for run in study.runs(experiment)[:3]:
            for part in (experiment, run.architecture, run.regime, run.variant):
                assert part not in ("", ".", "..")
                assert "/" not in part
    return study


@given(text=st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_give_a_study_or_an_error(tmp_path, text):
    opened(tmp_path, text)


@given(place=st.sampled_from(list(places(DIGITS))), value=values)
@settings(max_examples=150)
def test_a_study_with_any_value_anywhere_gives_a_study_or_an_error(tmp_path, place, value):
    opened(tmp_path, yaml.safe_dump(put(DIGITS, place, value)).encode())


@given(
    key=st.sampled_from(
        [*SETTINGS, "seeds", "epochs", "architectures", "regimes", "batch_size", "milestones"]
    )
    | st.text(max_size=10),
    value=values,
)
@settings(max_examples=120)
def test_a_configuration_with_any_value_gives_a_study_or_an_error(tmp_path, key, value):
    with suppress(UserError):
        study = open_study({**SETTINGS, key: value}, BUILTIN)
        assert "/" not in study.name + study.runs_name


def test_a_study_whose_text_expands_endlessly_is_rejected(tmp_path):
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)
    )
    assert opened(tmp_path, laughs.encode()) is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory, few_digits):
    """A finished run's record and state, as bytes."""
    from onlybn.study import Run, Training

    folder = tmp_path_factory.mktemp("whole")
    training = Training(epochs=1, batch_size=50, learning_rate=0.1, flip=False)
    run = Run("test", "digits", training, "resnet-8", "batchnorm", "kaiming-normal_gamma-uniform", 0)
    saving.save(folder, run, train(run, few_digits), few_digits, {"precision": "float32", "processes": 1})
    # As an earlier version wrote it: with a seal, any change would be rejected before any other check.
    record = records.read_record(folder)
    del record["files"], record["seal"]
    write_json(folder / "run.json", record)
    return folder, {name: (folder / name).read_bytes() for name in records.FILES}


def loaded(whole, trust=False, **changes):
    """Load the run with some of its files changed: the result is a network, or one clear error."""
    folder, files = whole
    for name, content in files.items():
        (folder / name).write_bytes(changes.get(name.partition(".")[0], content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return onlybn.load(folder, trust=trust)
        except UserError as error:
            assert "\n" not in str(error)
            return None


@given(data=st.data())
@settings(max_examples=150)
def test_a_state_with_changed_bytes_gives_a_network_or_an_error(whole, data):
    state = bytearray(whole[1]["state.safetensors"])
    header = 8 + struct.unpack("<Q", state[:8])[0]
    # Half of the changes are in the header, which gives the offset of each tensor.
    where = st.integers(0, header - 1) | st.integers(0, len(state) - 1)
    for place, byte in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), min_size=1, max_size=4)):
        state[place] = byte
    loaded(whole, state=bytes(state[: data.draw(st.integers(0, len(state)) | st.just(len(state)))]))


@given(content=st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_as_a_state_give_an_error(whole, content):
    assert loaded(whole, state=content) is None
    assert loaded(whole, state=struct.pack("<Q", len(content)) + content) is None


@given(data=st.data(), value=values)
@settings(max_examples=150)
def test_a_record_with_any_value_anywhere_gives_a_network_or_an_error(whole, data, value):
    record = json.loads(whole[1]["run.json"])
    place = data.draw(st.sampled_from(list(places(record))))
    loaded(whole, run=json.dumps(put(record, place, value)).encode())


NAMES = ["resnet-9", "wrn-14-9999", "..", "../../x", "os:system", "..x:y", "a:b\nc", "a_b_c", "random-99999"]
NUMBERS = [-1, 0, True, 10**12, 10**30]
OWN = [None, {}, {"sources": 3}, {"sources": [3], "size": 8}, {"sources": [], "size": 8}]
forged = st.fixed_dictionaries(
    {"own": st.sampled_from([{"family": "f", "depth": 1, "width": 1} | (own or {}) for own in OWN])},
    optional={
        **dict.fromkeys(("architecture", "regime", "variant"), st.sampled_from(NAMES)),
        **dict.fromkeys(("channels", "classes", "seed"), st.sampled_from(NUMBERS)),
        "dataset": st.sampled_from(["x:y", "imagenet"]),
    },
)


@given(changes=forged, trust=st.booleans())
@settings(max_examples=120)
def test_a_forged_record_with_a_matching_digest_gives_a_network_or_an_error(whole, changes, trust):
    record = json.loads(whole[1]["run.json"]) | changes
    record["digest"] = records.run_of(record).digest
    loaded(whole, trust, run=json.dumps(record).encode())


def test_code_named_by_a_record_runs_only_if_trusted(whole, tmp_path):
    (tmp_path / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef network(**images): ...\n"
    )
    source = {"module": "evil", "folder": str(tmp_path), "sha256": "0"}
    record = json.loads(whole[1]["run.json"])
    record["own"] = {"sources": [source], "size": 8, "family": "f", "depth": 1, "width": 1}
    before = [*sys.path]
    assert loaded(whole, run=json.dumps(record).encode())  # which names nothing of that folder
    record["architecture"] = "evil:network"
    record["digest"] = records.run_of(record).digest
    refused = (
        rf"^{whole[0] / 'run.json'} names code that is not part of this package \('evil:network'\), and"
        r" loading runs that code; allow it with trust=True \(--trust\) if you trust the author of the run$"
    )
    (whole[0] / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=refused):
        onlybn.load(whole[0])
    assert sys.path == before
    assert not (tmp_path / "ran").exists()
    with pytest.warns(UserWarning, match="the file of evil has changed since"), pytest.raises(UserError):
        onlybn.load(whole[0], trust=True)
    assert (tmp_path / "ran").exists()
    sys.path[:] = before
