"""The state of a study: which of its runs are finished, running, diverged or missing."""

import sys
import time
from collections import Counter
from pathlib import Path

from rich.live import Live
from rich.text import Text
from tabulate import tabulate

from onlybn.errors import UserError
from onlybn.locks import is_locked
from onlybn.runs import progress, records
from onlybn.screen import Screen
from onlybn.study import Run
from onlybn.workflow.paths import Workflow

# In the order in which a run passes through them; faults last.
STATES = ("missing", "interrupted", "running", "finished", "diverged", "outdated", "damaged")
LISTED = 20
# Seconds between two looks at a study that is watched: on a terminal, and in a file or pipe.
EVERY, EVERY_PLAIN = 2.0, 60.0


def status(workflow: Workflow, *, verify: bool = False) -> str:
    """Return, as Markdown, how many runs of each experiment are in which state, and what is drawn.

    `running`: a job holds the run's lock. `interrupted`: the next start resumes from a checkpoint.
    `outdated`: the folder holds another run than the study specifies, or a record that was altered; the next
    start trains it again.
    `damaged`: with `verify`, which reads every file, one is not what training wrote.
    """
    text, _ = _status(workflow, verify=verify)
    return text


def watch(workflow: Workflow) -> None:
    """Show the status until all runs are done and no Snakemake is at work, or until Ctrl-C."""
    screen = Screen(sys.stdout)
    try:
        if screen.can_draw:
            with Live(console=screen, auto_refresh=False) as live:
                while True:
                    began = time.monotonic()
                    text, over = _status(workflow)
                    live.update(Text(text), refresh=True)
                    if over:
                        return
                    time.sleep(max(EVERY, 5 * (time.monotonic() - began)))  # looking takes its time too
        while True:
            text, over = _status(workflow)
            print(text, flush=True)
            if over:
                return
            print(flush=True)
            time.sleep(EVERY_PLAIN)
    except KeyboardInterrupt:
        return


def _status(workflow: Workflow, *, verify: bool = False) -> tuple[str, bool]:
    """Return the status, and whether all runs are done and no Snakemake is at work."""
    study = workflow.study
    data = workflow.dataset_checksums()
    # Experiments share runs: each run is looked at once, under its name.
    looked = {str(run): _look(workflow, run, data[run.dataset], verify) for run in study.each_run()}
    states = {name: state for name, (state, _) in looked.items()}
    total = Counter(states.values())
    shown = [state for state in STATES if total[state]]
    rows = []
    for name in study.experiments:
        counts = Counter(states[str(run)] for run in study.runs(name))
        rows.append([name, counts.total(), *(counts[state] for state in shown)])
    rows.append(["all, each run once", total.total(), *(total[state] for state in shown)])
    done = total["finished"] + total["diverged"]
    locked = is_locked(workflow.lock_file)
    at_work = {
        True: "a Snakemake is at work",
        False: "no Snakemake is at work",
        None: "it is unknown whether a Snakemake is at work, since this user may not read its lock",
    }
    parts = [
        f"{study.name}: {done:,} of {total.total():,} runs are done; {at_work[locked]}",
        tabulate(rows, ["experiment", "runs", *shown], tablefmt="pipe", intfmt=","),
    ]
    for state in ("running", "interrupted", "diverged", "outdated", "damaged"):
        named = [line for kind, line in looked.values() if kind == state]
        if named:
            more = [f"and {len(named) - LISTED:,} more"] if len(named) > LISTED else []
            parts.append("\n".join([f"{state}:", *(f"  {line}" for line in (*named[:LISTED], *more))]))
    drawn = {target: all(Path(file).exists() for file in files) for target, files in workflow.targets.items()}
    lacking = [target for target, present in drawn.items() if not present]
    parts.append(
        f"{len(drawn) - len(lacking)} of {len(drawn)} figures and tables are there"
        + (f"; not yet: {', '.join(lacking)}" if lacking else "")
    )
    return "\n\n".join(parts), done == total.total() and not locked


def _look(workflow: Workflow, run: Run, data: str | None, verify: bool) -> tuple[str, str]:
    """Return the state of a run, one of `STATES`, and a line on it."""
    folder, work = workflow.places(run)
    recordings = workflow.study.recordings(run)
    published = records.find(folder, run, data, recordings)
    waiting = records.find(work, run, data, recordings)  # for the end of its block
    for path, (record, _) in ((folder, published), (work, waiting)):
        if record:
            try:
                records.check_files(path, record, None if verify else ())
            except UserError as error:
                return "damaged", str(error)
            return record["status"], f"{run}: in epoch {record.get('diverged_epoch')}"
    reached = str(progress.read(work) or f"{run}: no epoch yet")
    if is_locked(work / ".lock"):
        return "running", reached
    if any(work.glob("checkpoint*")):
        return "interrupted", reached
    return ("outdated", published.fault) if published.fault else ("missing", str(run))
