"""Golden data hold what must not change by accident: tests/golden/write.py says what, and writes it again."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from golden.write import (
    COMMITTED,
    DRAWN,
    GOLDEN,
    REFERENCE,
    as_table,
    collected,
    committed,
    frozen_draw,
    numbers,
    opened,
    specifications,
)

from onlybn.axes import OPTIONAL, ordered
from onlybn.drawing.draw import captioned
from onlybn.drawing.report import escaped
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


@pytest.mark.parametrize("study", sorted(path.name for path in (GOLDEN / "numbers").iterdir()))
def test_committed_figures_and_tables_are_redrawn_to_the_same_numbers(study):
    """Columns for the training or an axis stand only where they vary: the whole schema is compared.

    The committed captions are those of today's code.
    """
    workflow = studies()[study]
    golden = {path.stem: pq.read_table(path) for path in (GOLDEN / "numbers" / study).iterdir()}
    assert sorted(golden) == committed(workflow)
    for name, table in golden.items():
        tables = collected(workflow, name)
        made = numbers(workflow, name, tables)
        if name in workflow.paper.figures:
            record = workflow.paper.figures[name]
            module = workflow.paper.load(record.module)
            caption = captioned(record, module, workflow.study.name, tables, made)
            written = (Path(workflow.drawn) / "figures" / f"{name}.rst").read_text()
            assert written.startswith(f"{escaped(caption)}\n"), name
        found = as_table(made)
        assert found.schema.remove_metadata() == table.schema.remove_metadata(), name
        pd.testing.assert_frame_equal(found.to_pandas(), table.to_pandas(), rtol=1e-9, atol=1e-9, obj=name)


def test_every_committed_study_is_redrawn():
    drawn = {path.parent.name for path in REFERENCE.glob("*/tables")}
    assert drawn == set(studies()) == {path.name for path in (GOLDEN / "numbers").iterdir()}
