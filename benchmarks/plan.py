"""Compare the speed of finished runs with the plan: epochs per hour, tests included.

For studies that count training in epochs and have no optional axes.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from report import report

from onlybn.configuration import configuration_with, open_study
from onlybn.workflow.costs import Times, measured
from onlybn.workflow.plan import testing_seconds, training_seconds

ROOT = Path(__file__).parents[1]


def compare(asked: str, results: Path) -> list[dict]:
    """Return a row per network and regime of a study with tables in `results`: medians over its runs.

    Epochs count all seeds side by side, because they share the clock. `asked` is the study's name and the
    other settings of Snakemake's `--config`: NAME KEY=VALUE ….
    """
    name, *given = asked.split()
    config = configuration_with([f"study={name}", *given], ROOT) | {"results_dir": str(results)}
    study = open_study(config, ROOT / "workflow" / "studies")
    tables = sorted((results / study.name / "experiments").glob("*/runs.parquet"))
    runs = pd.concat([pd.read_parquet(path) for path in tables], ignore_index=True)
    runs = runs[runs["status"] == "finished"]
    runs = runs.drop_duplicates(["architecture", "regime", "variant", "seed"])
    rows = []
    table, epochs = measured(), study.definition.training.epochs
    runs["together"] = [len(json.loads(seeds) or [0]) for seeds in runs["seeds_together"]]
    where, kind = ["device_name", "precision", "together"], ["architecture", "regime"]
    fitted = {place: Times(table, *place) for place in set(runs[where].itertuples(index=False, name=None))}
    for (architecture, regime, *place), alike in runs.groupby([*kind, *where], sort=False, observed=True):
        times, run = fitted[tuple(place)], study.run(architecture, regime, alike["variant"].iloc[0])
        seconds = training_seconds(study, times, run) + testing_seconds(study, times, run, epochs)
        foreseen, found = 3_600 * epochs / seconds, 3_600 * epochs * place[-1] / alike["seconds"].median()
        rows.append(
            {
                "study": study.name,
                "architecture": architecture,
                "regime": regime,
                "device": ", ".join(place[:-1]),
                "seeds_together": place[-1],
                "runs": len(alike),
                "planned_epochs_per_hour": foreseen,
                "epochs_per_hour": found,
                "ratio": found / foreseen,
            }
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", metavar="study", help="'NAME KEY=VALUE …'")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "reference")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "reference" / "benchmarks")
    arguments = parser.parse_args()
    found = [row for name in arguments.studies for row in compare(name, arguments.results)]
    report("plan", found, arguments.output)
