"""How long a start takes to read every record of a finished study.

    python benchmarks/start_check.py [--study cifar10] [--out results/benchmarks]

Writes the records of all the study's runs (1,390 of cifar10) with their analyses and collected tables, and
times `onlybn.workflow.outdated.outdated` on them.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))

import pyarrow as pa
import report
import yaml

from onlybn.analyses import ANALYSES
from onlybn.configuration import open_study
from onlybn.files import write_json, write_table
from onlybn.runs import records
from onlybn.runs.schemas import SCHEMAS
from onlybn.workflow.outdated import find_runs, outdated
from onlybn.workflow.paths import COLLECTED, Workflow

ROOT = Path(__file__).parents[1]


def make(workflow: Workflow) -> int:
    """Write the folders and collected tables of all runs, without training; return their number."""
    numbers = dict.fromkeys(records.COUNTS, 1)
    for run, _ in find_runs(workflow):
        folder = workflow.places(run)[0]
        record = {name: kind() for name, kind in records.KINDS.items()} | records.described(run)
        record |= {"status": "finished", "counts": numbers, "computed": {"processes": 1}}
        record |= {"files": dict.fromkeys(records.WRITTEN, "0" * 64)}
        record |= {"machine": "m" * 100, "versions": dict.fromkeys("abcdef", "1.0"), "commit": "c" * 40}
        write_json(folder / records.RECORD, records.sealed(record))
        for analysis in ANALYSES:
            records.write_measured(folder / f"{analysis}.parquet", SCHEMAS[analysis].empty_table(), record)
    found = {str(run): record for run, (record, _) in find_runs(workflow)}
    for name in workflow.study.experiments:
        runs = records.collected_from((run, found[str(run)]) for run in workflow.study.runs(name))
        for path in workflow.collected([name], COLLECTED):
            write_table(Path(path), records.telling(pa.table({"x": [1]}), runs=runs))
    return len(found)


def main() -> None:
    """Print the medians of five starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--study", default="cifar10")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"study": asked.study}
    seconds = []
    with TemporaryDirectory() as folder:
        workflow = Workflow(open_study(config | {"results_dir": folder}, ROOT / "workflow" / "studies"))
        runs = make(workflow)
        for _ in range(5):
            before = time.perf_counter()
            files = outdated(workflow)
            seconds.append(time.perf_counter() - before)
            assert not files, sorted(files)[:3]
    report.report("start-check", [{"runs": runs, "seconds": statistics.median(seconds)}], asked.out)


if __name__ == "__main__":
    main()
