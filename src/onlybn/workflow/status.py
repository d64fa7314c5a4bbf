"""Where a study stands: which of its runs are finished, running, diverged or missing."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

from tabulate import tabulate

from onlybn.errors import UserError
from onlybn.locks import is_locked
from onlybn.runs import records
from onlybn.study import Run
from onlybn.workflow.paths import Workflow

# In the order in which a run passes through them; what is wrong with it last.
STATES = ("missing", "interrupted", "running", "finished", "diverged", "outdated", "damaged")
LISTED = 20


def status(workflow: Workflow, *, verify: bool = False) -> str:
    """Return, as Markdown, how many runs of each experiment are in which state, and what is drawn.

    `running`: a job holds the run's lock; `interrupted`: a checkpoint waits for the next start; `outdated`:
    the folder holds another run than the study asks for, which the next start trains again; `damaged`, where
    `verify` asks to read every file: one is not what training wrote.
    """
    study = workflow.study
    data = {name: workflow.dataset_checksum(name) for name in study.datasets}
    # Experiments share runs: each is looked at once, under its name.
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
    at_work = {
        True: "a Snakemake is at work",
        False: "no Snakemake is at work",
        None: "whether a Snakemake is at work cannot be told, since its lock may not be read",
    }[is_locked(workflow.lock_file)]
    parts = [
        f"{study.name}: {done:,} of {total.total():,} runs are done; {at_work}",
        tabulate(rows, ["experiment", "runs", *shown], tablefmt="pipe", intfmt=","),
    ]
    for state in ("running", "interrupted", "diverged", "outdated", "damaged"):
        named = [line for kind, line in looked.values() if kind == state]
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
    if is_locked(work / ".lock"):
        return "running", _last_line(workflow, run)
    if any(work.glob("checkpoint*")):
        return "interrupted", _last_line(workflow, run)
    return ("outdated", published.fault) if published.fault else ("missing", str(run))


def _last_line(workflow: Workflow, run: Run) -> str:
    """Return the last line that a run's logs have of it."""
    logs = []
    for log in workflow.run_logs(run):
        with suppress(OSError):  # gone meanwhile, or another user's
            logs.append((log.stat().st_mtime, log.read_text(encoding="utf-8", errors="replace")))
    for _, text in sorted(logs, reverse=True):
        lines = text.splitlines()
        if said := [line for line in lines if line.startswith(f"{run}: ")]:
            return said[-1]
    return f"{run}: no epoch yet"
