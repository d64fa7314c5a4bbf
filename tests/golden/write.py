"""Golden data: what must not change by accident. `python tests/golden/write.py` regenerates it.

- `specifications.json`: the digest and the folder of every run, by study
- `draws.json`: the initial frozen weights of small networks
- `numbers/{study}/{figure or table}.parquet`: the numbers of every committed figure and table but the claims

With the names of committed studies (folders of results/reference), it regenerates only their numbers.
Commit an intended change separately, and say why.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from onlybn.configuration import configuration_with, open_study
from onlybn.drawing.draw import drawn
from onlybn.drawing.summaries import read_kinds
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
    ["study=weight-compander-short", "reparametrisations=[none,arctan-0.8-0.5,linear-1.6]", "seeds=4"],
    ["study=batchnorm-mechanisms"],
    ["study=other-norms"],
    ["study=evaluation-statistics", "architectures=[vgg-8-half,mlp-100-100-100-sigmoid]"],
    ["study=sigmoid-mnist", "seeds=3"],
    ["study=vgg-cifar10-short", "normalisations=[none,batchnorm]", "recipes=none"],
    ["study=one-seed"],
    ["study=one-seed-images"],
    ["study=imagenette"],
    ["study=cifar10-short", "seeds=4"],
    ["study=cifar10-short", "architectures=[resnet-14,resnet-32]", "regimes=all"],
    ["study=cifar10-resnet-14", "regimes=[batchnorm,random-2]", "seeds=4"],
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
        known |= {name: runs[0].specification[name] for name in ("dataset", "training")}
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


def collected(workflow: Workflow, name: str) -> dict[str, pd.DataFrame | None]:
    """Return the study's collected tables that a figure or table reads, by their kind."""
    if name in workflow.paper.figures:
        files = workflow.figure_inputs(SimpleNamespace(figure=name))
    else:
        files = workflow.table_inputs(SimpleNamespace(table=name))
    return read_kinds(workflow.paper.made[name].reads, map(Path, files))


def numbers(workflow: Workflow, name: str, tables: Mapping[str, pd.DataFrame | None]) -> pd.DataFrame:
    """Return the numbers of a committed figure or table, from its collected tables."""
    paper = workflow.paper
    record = paper.made[name]
    given = drawn(record, tables) if name in paper.figures else tables.values()
    return paper.load(record.module).numbers(*given)


def committed(workflow: Workflow) -> list[str]:
    """Return the names of a study's committed figures and tables, without the claims."""
    drawn = Path(workflow.drawn)
    found = {path.stem for kind in ("figures", "tables") for path in (drawn / kind).glob("*.parquet")}
    return sorted(name for name in found if not name.startswith("claims"))


def as_table(frame: pd.DataFrame) -> pa.Table:
    """Return a figure's or table's numbers as they are written."""
    return pa.Table.from_pandas(frame, preserve_index=False)


def write() -> None:
    """Regenerate all golden data."""
    drawn = {" ".join(map(str, drawn)): frozen_draw(*drawn) for drawn in DRAWN}
    for name, facts in (("specifications", specifications()), ("draws", drawn)):
        (GOLDEN / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(GOLDEN / "numbers", ignore_errors=True)
    for given in COMMITTED:
        write_numbers(opened(given))


def write_numbers(workflow: Workflow) -> None:
    """Regenerate the golden numbers of a study's committed figures and tables."""
    folder = GOLDEN / "numbers" / workflow.study.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in committed(workflow):
        table = as_table(numbers(workflow, name, collected(workflow, name)))
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


if __name__ == "__main__":
    if sys.argv[1:]:
        known = {workflow.study.name: workflow for workflow in map(opened, COMMITTED)}
        for asked in sys.argv[1:]:
            if asked not in known:
                sys.exit(f"no committed study {asked!r}; there are {', '.join(known)}")
            write_numbers(known[asked])
    else:
        write()
