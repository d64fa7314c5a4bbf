"""Find the files of a study that are not what the study requests, from the files alone.

Snakemake detects changes from its own records and from the times of files; both are lost when results are
copied, touched or shared. Reading the 1,390 records of a study takes a fraction of a second.
"""

import sys
from pathlib import Path
from typing import Any

from onlybn.analyses import ANALYSES
from onlybn.runs import records
from onlybn.runs.records import Found, told_at
from onlybn.study import Run
from onlybn.workflow.paths import COLLECTED, Workflow


def find_runs(workflow: Workflow) -> list[tuple[Run, Found]]:
    """Return every run of the study once, with what its folder has."""
    data = workflow.dataset_checksums()
    study = workflow.study
    return [
        (run, records.find(workflow.places(run)[0], run, data[run.dataset], study.recordings(run)))
        for run in study.each_run()
    ]


class Forced:
    """Makes Snakemake regenerate outdated files, as `--forcerun` does.

    Its methods are input functions, since the graph of jobs exists when they are called, and not yet when the
    rules are read. The jobs of a cluster also read the rules, but force nothing.
    """

    def __init__(self, workflow: Workflow, snakemake: Any):
        self.workflow, self.snakemake = workflow, snakemake
        self._forced: tuple[object, set[str]] = (None, set())

    def training(self, wildcards: Any) -> list[str]:
        """Return the inputs of a training job; their times are ignored."""
        self._outdated()
        return self.images(wildcards)

    def images(self, wildcards: Any) -> list[str]:
        """Return the images of a run; their times are ignored."""
        return _ancient(self.workflow.images_of(wildcards))

    def analysis(self, wildcards: Any) -> list[str]:
        """Return the inputs of an analysis; their times are ignored unless one of them is outdated."""
        files = [pattern.format(**dict(wildcards.items())) for pattern in self.workflow.analysed_run]
        return files if self._outdated().intersection(files) else _ancient(files)

    def _outdated(self) -> set[str]:
        """Return the outdated files, after adding them to the graph of jobs."""
        graph = self.snakemake.dag
        if self._forced[0] is not graph:
            self._forced = graph, outdated(self.workflow) if self.snakemake.is_main_process else set()
            graph.forcefiles.update(self._forced[1])
        return self._forced[1]


def _ancient(files: list[str]) -> list[str]:
    from snakemake.io import ancient

    return [ancient(file) for file in files]


def outdated(workflow: Workflow) -> set[str]:
    """Return the files that were made from another study, run or dataset than the study now requests.

    Prints one line to standard error: the number of such runs, and what happens to them.
    """
    found = find_runs(workflow)
    others = [(run, fault) for run, (_, fault) in found if fault]
    if others:
        print(
            f"{len(others):,} of {len(found):,} runs of {workflow.study.name} exist but are not what the"
            " study requests. They are trained again if a target needs them, and the old ones are moved to"
            f" {workflow.runs}/replaced. The first: {others[0][1]}",
            file=sys.stderr,
        )
    files = {workflow.places(run)[0] / file for run, _ in others for file in records.FILES}
    for run, (record, fault) in found:
        for path in (workflow.places(run)[0] / f"{a}.parquet" for a in ANALYSES if record or fault):
            if path.exists() and (fault or not records.is_measured(told_at(path), record)):
                files.add(path)
    now = {str(run): record for run, (record, _) in found}
    for name in workflow.study.experiments:
        present = [path for path in map(Path, workflow.collected([name], COLLECTED)) if path.exists()]
        runs = [(run, now[str(run)]) for run in workflow.study.runs(name)] if present else []
        sources = records.collected_from(runs)
        files |= {path for path in present if not records.is_collected(told_at(path), sources)}
    counts = Path(workflow.parameter_counts)
    counted = {"dataset": workflow.study.definition.dataset, "counted": workflow.counted}
    if counts.exists() and told_at(counts) not in ({}, counted):
        files.add(counts)
    for path, tables in workflow.numbers_drawn.items():
        told = told_at(path) if path.exists() else {}
        recorded = told.get("tables") if all(table.exists() for table in tables) else None
        if told.get("damaged") or (recorded and recorded != records.drawn_from(tables)):
            files.add(path)
    return set(map(str, files))
