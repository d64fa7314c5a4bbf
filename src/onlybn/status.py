"""Where a study stands: which of its runs are finished, running, diverged or missing."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from tabulate import tabulate

from onlybn.jobs import is_locked
from onlybn.study import Run
from onlybn.workflow import Workflow

# In the order in which a run passes through them; what is wrong with it last.
STATES = ("missing", "interrupted", "running", "finished", "diverged", "outdated")
LISTED = 20


def status(workflow: Workflow) -> str:
    """Return, as Markdown, how many runs of each experiment are in which state, and what is drawn.

    `running`: a job holds the run's lock; `interrupted`: a checkpoint waits for the next start; `outdated`:
    the folder holds a run of another specification, which the next start trains again.
    """
    study = workflow.study
    # Experiments share runs: each is looked at once, under its name.
    runs = {str(run): run for name in study.experiments for run in study.runs(name)}
    states = {name: state_of(workflow, run) for name, run in runs.items()}
    total = Counter(states.values())
    shown = [state for state in STATES if total[state]]
    rows = []
    for name in study.experiments:
        counts = Counter(states[str(run)] for run in study.runs(name))
        rows.append([name, counts.total(), *(counts[state] for state in shown)])
    rows.append(["all, each run once", total.total(), *(total[state] for state in shown)])
    done = total["finished"] + total["diverged"]
    at_work = "a Snakemake is at work" if is_locked(workflow.results / ".lock") else "no Snakemake is at work"
    parts = [
        f"{study.name}: {done:,} of {total.total():,} runs are done; {at_work}",
        tabulate(rows, ["experiment", "runs", *shown], tablefmt="pipe", intfmt=","),
    ]
    for state in ("running", "interrupted", "diverged", "outdated"):
        named = [_line(workflow, run, state) for name, run in runs.items() if states[name] == state]
        if named:
            more = [f"and {len(named) - LISTED:,} more"] if len(named) > LISTED else []
            parts.append("\n".join([f"{state}:", *(f"  {line}" for line in (*named[:LISTED], *more))]))
    drawn = {target: all(Path(file).exists() for file in files) for target, files in workflow.targets.items()}
    lacking = [target for target, there in drawn.items() if not there]
    parts.append(
        f"{len(drawn) - len(lacking)} of {len(drawn)} figures and tables are there"
        + (f"; not yet: {', '.join(lacking)}" if lacking else "")
    )
    return "\n\n".join(parts)


def state_of(workflow: Workflow, run: Run) -> str:
    """Return the state of a run, one of `STATES`."""
    work = workflow.places(run)[1]
    record = _record(workflow, run)
    if record.get("digest") == run.digest:
        return record["status"]
    if is_locked(work / ".lock"):
        return "running"
    if any(work.glob("checkpoint*")):
        return "interrupted"
    return "outdated" if record else "missing"


def _record(workflow: Workflow, run: Run) -> dict[str, Any]:
    """Return what `run.json` tells of a run, in its folder or where it waits for its block; else nothing."""
    for place in workflow.places(run):
        with suppress(OSError, ValueError):
            record = json.loads((place / "run.json").read_text(encoding="utf-8"))
            if isinstance(record, dict) and record.get("status") in STATES:
                return record
    return {}


def _line(workflow: Workflow, run: Run, state: str) -> str:
    """Return a line on a run: of one that is not finished, the last that its log has of it."""
    if state == "diverged":
        return f"{run}: in epoch {_record(workflow, run)['diverged_epoch']}"
    if state in ("running", "interrupted"):
        logs = workflow.run_logs(run)
        for log in sorted(logs, key=lambda log: log.stat().st_mtime, reverse=True):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            said = [line for line in lines if line.startswith(f"{run}: ")]
            if said:
                return said[-1]
        return f"{run}: no epoch yet"
    return str(run)
