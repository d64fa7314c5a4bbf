"""Golden data hold what must not change by accident: tests/golden/write.py says what, and writes it again."""

import json
from dataclasses import replace
from functools import cache

import pandas as pd
import pyarrow.parquet as pq
import pytest
from golden.write import (
    COMMITTED,
    DRAWN,
    GOLDEN,
    REFERENCE,
    committed,
    compare,
    frozen_draw,
    opened,
    pieced_together,
    specifications,
)
from PIL import Image

from onlybn.axes import OPTIONAL, ordered
from onlybn.runs import records
from onlybn.study import SPECIFICATION, Run, Training


def test_every_committed_run_has_the_digest_of_its_specification():
    assert SPECIFICATION == 1
    names = ["study", "dataset", "training", "architecture", "regime", "variant", "digest"]
    axes = [axis.name for axis in OPTIONAL]
    tables = [pq.read_table(file).to_pandas() for file in sorted(REFERENCE.rglob("runs.parquet"))]
    rows = pd.concat([table.reindex(columns=[*names, *axes]) for table in tables]).astype(object)
    rows = rows.drop_duplicates()
    for study, dataset, training, architecture, regime, variant, digest, *others in rows.itertuples(
        index=False
    ):
        values = ordered({k: v for k, v in zip(axes, others, strict=True) if isinstance(v, str)})
        run = Run(study, dataset, Training(**json.loads(training)), architecture, regime, variant, 0, values)
        assert run.digest == digest, f"{study} {run}"
    assert len(rows) > 100


def test_every_study_has_its_digests_and_paths():
    found = json.loads(json.dumps(specifications()))
    golden = json.loads((GOLDEN / "specifications.json").read_text())
    assert list(found) == list(golden)
    for study in golden:
        assert found[study] == golden[study], study


class LaterTraining(Training):
    """What a later version adds: a key that is neutral at its default."""

    nesterov: bool = False


def test_a_training_key_added_later_is_specified_only_where_it_is_not_neutral(make_run, monkeypatch):
    monkeypatch.setattr("onlybn.runs.records.Training", LaterTraining)
    today = make_run()
    given = today.training.specified
    neutral, changed = (
        replace(today, training=LaterTraining(**given, nesterov=nesterov)) for nesterov in (False, True)
    )
    assert neutral.specification == today.specification
    assert neutral.digest == today.digest != changed.digest
    assert changed.specification["training"] == {**today.training.specified, "nesterov": True}
    for run, was in ((neutral, today), (changed, changed)):
        # A record of today lacks the key; it and one of later are read as the same run.
        assert records.run_of(json.loads(json.dumps(records.described(was)))) == run
    assert "nesterov" not in records.described(neutral)["training"]


def test_the_committed_sheets_show_the_committed_figures(tmp_path):
    found = 0
    for workflow in map(opened, COMMITTED):
        if pieced_together(workflow, tmp_path / "sheet.png"):
            with Image.open(tmp_path / "sheet.png") as ours, Image.open(workflow.sheet) as theirs:
                assert ours.size == theirs.size, workflow.study.name
                assert ours.tobytes() == theirs.tobytes(), workflow.study.name
            found += 1
    assert found


@pytest.mark.parametrize("drawn", [" ".join(map(str, drawn)) for drawn in DRAWN])
def test_frozen_weights_are_drawn_as_they_were(drawn):
    golden = json.loads((GOLDEN / "draws.json").read_text())[drawn]
    found = frozen_draw(*DRAWN[[" ".join(map(str, one)) for one in DRAWN].index(drawn)])
    assert list(found["sums"]) == list(golden["sums"])  # layers' names name their draws
    if found["digest"] != golden["digest"]:  # another processor may round differently
        assert found["sums"] == pytest.approx(golden["sums"], rel=1e-5, abs=1e-5)


@cache
def studies():
    return {workflow.study.name: workflow for workflow in map(opened, COMMITTED)}


@pytest.mark.parametrize("study", sorted(path.parent.name for path in REFERENCE.glob("*/tables")))
def test_committed_figures_and_tables_are_what_their_study_gives_today(study):
    workflow = studies()[study]
    assert committed(workflow)
    for name, path in committed(workflow).items():
        compare(workflow, name, path)


def test_every_committed_study_is_redrawn():
    assert {path.parent.name for path in REFERENCE.glob("*/tables")} == set(studies())
