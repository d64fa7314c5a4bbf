"""Golden data: what must not change by accident. `python tests/golden/write.py` regenerates what did.

- `specifications.json`: the digest and the folder of every run, by study
- `draws.json`: the initial frozen weights of small networks
- `results/reference`: the numbers, captions and verdicts of every committed figure and table

With the name of a committed study it regenerates only that study's figures and tables; with names of these
after it, only them, whether they changed or not. Commit an intended change separately, and say why.
"""

import json
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from onlybn.configuration import configuration_with, open_study
from onlybn.drawing import draw, make, report, sheet
from onlybn.networks import regimes, variants
from onlybn.study import Run, Training
from onlybn.tensors import fingerprint
from onlybn.workflow.paths import Workflow

GOLDEN = Path(__file__).parent
ROOT = GOLDEN.parents[1]
BUILTIN = ROOT / "workflow" / "studies"
REFERENCE = ROOT / "results" / "reference"
JPEG = ["study=cifar10", "dataset=cifar10-jpeg", "epochs=5", "architectures=resnet-14"]
# The configuration of each study of results/reference.
COMMITTED = (
    ["study=digits"],
    ["study=weight-compander"],
    ["study=weight-compander-short", "reparametrisations=[none,arctan-0.8-0.5,linear-1.6]", "seeds=5"],
    ["study=batchnorm-mechanisms"],
    ["study=other-norms"],
    ["study=evaluation-statistics", "architectures=[vgg-8-half,mlp-100-100-100-sigmoid]"],
    ["study=evaluation-statistics", "architectures=vgg-11-half"],
    ["study=sigmoid-mnist", "seeds=3"],
    ["study=vgg-cifar10-short"],
    ["study=one-seed"],
    ["study=one-seed-images"],
    ["study=imagenette"],
    ["study=cifar10-short", "seeds=4"],
    ["study=cifar10-short", "architectures=[resnet-14,resnet-32]", "regimes=all"],
    ["study=cifar10-resnet-14", "regimes=[all,batchnorm,random-2]", "seeds=5"],
    [*JPEG, "regimes=batchnorm", "seeds=2", "milestones=[]", "precision=float32"],
    [*JPEG, "regimes=[all,batchnorm]", "seeds=3", "precision=float32"],
    [*JPEG, "regimes=[all,batchnorm]", "seeds=3", "precision=bfloat16"],
    ["study=examples/jpeg/coded.yaml"],
    ["study=examples/jpeg/coded.yaml", "dataset=coded:twice"],
    ["study=examples/jpeg/coded.yaml", "precision=float32"],
)
# Every kind of layer and of draw, with names of each family's modules.
DRAWN = [
    ("resnet-8", regime, variants.DEFAULT, 0)
    for regime in (*regimes.REGIMES, "random-2", "random-40")
    if regime != "all"  # where nothing is frozen
]
DRAWN += [("resnet-8", "output", variant, 1) for variant in variants.NAMES]
DRAWN += [(name, "batchnorm", variants.DEFAULT, 2**40) for name in ("resnet-14", "wrn-14-2", "vgg-11")]


def opened(given: list[str]) -> Workflow:
    """Return the workflow of a study of results/reference, opened as by Snakemake's --config."""
    config = configuration_with([*given, f"results_dir={REFERENCE}"], ROOT)
    if config["study"].endswith(".yaml"):
        config["study"] = str(ROOT / config["study"])
    return Workflow(open_study(config, BUILTIN))


def specifications() -> dict[str, Any]:
    """Return each study's dataset and training, and its runs' digests by their folders below results/."""
    asked = [[f"study={file.stem}"] for file in sorted(BUILTIN.rglob("*.yaml"))]
    own = ["study=examples/densenet/densenet-textures.yaml"]
    found = {}
    for given in (*asked, own, *COMMITTED):
        workflow = opened(given)
        runs = [run for name in workflow.study.experiments for run in _points(workflow, name)]
        placed = {str(workflow.places(run)[0].relative_to(REFERENCE)): run.digest for run in runs}
        known = found.setdefault(workflow.study.runs_name, {"runs": {}})
        for name in ("dataset", "training"):  # of the whole study, which is opened before its selections
            known.setdefault(name, runs[0].specification[name])
        known["runs"] |= dict(sorted(placed.items()))
    return found


def _points(workflow: Workflow, experiment: str) -> Iterator[Run]:
    first = workflow.study.definition.seeds[0]
    return (run for run in workflow.study.runs(experiment) if run.seed == first)


def frozen_draw(architecture: str, regime: str, variant: str, seed: int) -> dict[str, Any]:
    """Return the digest of a regime's frozen weights, and the sum of each by name."""
    from onlybn.networks.draw import draw
    from onlybn.networks.state import frozen

    training = Training(epochs=1, batch_size=1, learning_rate=1)
    network, _ = draw(
        Run("golden", "digits", training, architecture, regime, variant, seed), channels=1, classes=10
    )
    tensors = frozen(network)
    prints = fingerprint(tensors)
    return {"digest": prints["digest"], "sums": dict(zip(sorted(tensors), prints["sums"], strict=True))}


def inputs(workflow: Workflow, name: str) -> dict[str, Any]:
    """Return what a figure or table of a study is drawn from: its committed tables, and what else judges."""
    given = {"paper": workflow.paper, "study": workflow.study.name}
    if name in workflow.paper.figures:
        files = workflow.figure_inputs(SimpleNamespace(figure=name))
        return given | {"figure": name, "tables": _there(files)}
    files = workflow.table_inputs(SimpleNamespace(table=name))
    given |= {"table": name, "tables": _there(files)}
    return given | {"not_expected": workflow.not_expected(SimpleNamespace(table=name))}


def _there(files: Iterable[str]) -> list[Path]:
    return [path for path in map(Path, files) if path.exists()]


def committed(workflow: Workflow) -> dict[str, Path]:
    """Return the Parquet files of a study's committed figures and tables, by name."""
    files = Path(workflow.drawn).glob("[ft]*/*.parquet")
    return {path.stem: path for path in sorted(files)}


def compare(workflow: Workflow, name: str, path: Path) -> None:
    """Raise AssertionError if a committed figure or table is not what its study gives today.

    Columns for the training or an axis stand only where they vary: the whole schema is compared.
    """
    tells = draw.told if name in workflow.paper.figures else make.told
    numbers, caption, claims = tells(**inputs(workflow, name))
    table, again = pq.read_table(path), pa.Table.from_pandas(numbers, preserve_index=False)
    assert again.schema.remove_metadata() == table.schema.remove_metadata(), name
    pd.testing.assert_frame_equal(again.to_pandas(), table.to_pandas(), rtol=1e-9, atol=1e-9, obj=name)
    written = path.with_suffix(".rst")
    assert written.exists(), name
    assert written.read_text(encoding="utf-8") == report.description(caption, claims), name


def changed(workflow: Workflow, name: str, path: Path) -> bool:
    """Say whether a committed figure or table differs from what its study gives today."""
    try:
        compare(workflow, name, path)
    except AssertionError:
        return True
    return False


def redraw(workflow: Workflow, asked: Collection[str] = ()) -> None:
    """Draw a study's committed figures and tables again: those asked for, or those that changed."""
    there = committed(workflow)
    if wrong := set(asked) - set(there):
        sys.exit(f"{workflow.study.name} has no committed {', '.join(wrong)}; it has {', '.join(there)}")
    for name, path in there.items():
        if name in asked if asked else changed(workflow, name, path):
            print(workflow.study.name, name)
            draws = draw.draw if name in workflow.paper.figures else make.make
            draws(**inputs(workflow, name), target=path.with_suffix(""))
            for suffix in (".pdf", ".html", *([".csv"] if name.startswith("provenance") else [])):
                path.with_suffix(suffix).unlink(missing_ok=True)  # which is not committed


def pieced_together(workflow: Workflow, target: Path) -> bool:
    """Write the sheet of a study's committed figures to `target`; False if the committed study has none."""
    if not Path(workflow.sheet).exists():
        return False
    sheet.sheet(map(Path, workflow.pictures), target)
    return True


def write() -> None:
    """Regenerate all golden data."""
    drawn = {" ".join(map(str, drawn)): frozen_draw(*drawn) for drawn in DRAWN}
    for name, facts in (("specifications", specifications()), ("draws", drawn)):
        (GOLDEN / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for given in COMMITTED:
        workflow = opened(given)
        redraw(workflow)
        pieced_together(workflow, Path(workflow.sheet))


if __name__ == "__main__":
    if sys.argv[1:]:
        known = {workflow.study.name: workflow for workflow in map(opened, COMMITTED)}
        if sys.argv[1] not in known:
            sys.exit(f"no committed study {sys.argv[1]!r}; there are {', '.join(known)}")
        redraw(known[sys.argv[1]], sys.argv[2:])
    else:
        write()
