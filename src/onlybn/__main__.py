"""Plan, status and claims of a study, with the keys of Snakemake's --config; export, bank and classify."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from onlybn.configuration import configuration_with, open_study
from onlybn.errors import UserError

STUDIES = Path("workflow") / "studies"


def main() -> None:
    """Run the command; a user's mistakes are reported, one sentence each, with exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m onlybn", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    planning = commands.add_parser("plan", help="what a study will cost, before anything is trained")
    planning.add_argument("--device", help="a device whose step times were measured; default: this one")
    planning.add_argument("--at-once", type=int, help="jobs side by side; default: one a core, or one GPU")
    planning.add_argument("--main", action="store_true", help="only what the target main needs")
    looking = commands.add_parser("status", help="which runs are finished, running, diverged or missing")
    how = looking.add_mutually_exclusive_group()
    how.add_argument(
        "--verify", action="store_true", help="read every file of the runs and check its SHA-256"
    )
    how.add_argument("--watch", action="store_true", help="refresh until all runs are done")
    judging = commands.add_parser("claims", help="the paper's claims that a study judged, in short")
    exporting = commands.add_parser("export", help="a finished run's network as a file for other programs")
    exporting.add_argument("run", type=Path, help="the run's folder")
    exporting.add_argument("file", type=Path, help="what to write: FILE.safetensors, FILE.pt2 or FILE.onnx")
    exporting.add_argument("--fold", action="store_true", help="make BatchNorm a part of the convolutions")
    threshold = {"type": float, "metavar": "THRESHOLD"}
    exporting.add_argument(
        "--prune", **threshold, help="set smaller γ to 0, and remove channels that are then 0 for every image"
    )
    exporting.add_argument("--trust", action="store_true", help="run the custom code that the run names")
    banking = commands.add_parser("bank", help="several runs on the same features as one file of tasks")
    banking.add_argument("file", type=Path, help="the file to write, FILE.safetensors")
    banking.add_argument(
        "runs", nargs="+", metavar="NAME=FOLDER", help="the task's name and its run's folder"
    )
    classifying = commands.add_parser("classify", help="the classes of an image file in a task of a bank")
    classifying.add_argument("file", type=Path, help="the bank")
    classifying.add_argument("task", help="the task's name")
    classifying.add_argument("image", type=Path, help="the image")
    for command in (planning, looking, judging):
        command.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as after Snakemake's --config")
    asked = parser.parse_args()
    try:
        if asked.command in FILES:
            print("\n".join(FILES[asked.command](asked)))
            return
        config = configuration_with(asked.config)
        if asked.command == "plan":
            _plan(config, asked.device, asked.at_once, main=asked.main)
        elif asked.command == "status":
            _status(config, verify=asked.verify, follow=asked.watch)
        else:
            _claims(config)
    except UserError as error:
        sys.exit(error.shown())


def _plan(config: dict[str, Any], device: str | None, at_once: int | None, *, main: bool) -> None:
    from onlybn.datasets import known
    from onlybn.devices import choose_device, choose_precision, name_of, name_of_precision
    from onlybn.networks.fits import check_fits
    from onlybn.workflow.costs import Times, is_processor, measured, measured_precision, nearest_measured
    from onlybn.workflow.paths import Workflow
    from onlybn.workflow.plan import guessed, markdown, plan, sentence

    study = open_study(config, STUDIES)
    check_fits(study)
    if at_once is not None and at_once < 1:
        raise UserError(f"plan: --at-once: {at_once} jobs do nothing; allowed: 1 or more")
    if study.processes_per_run > 1:
        raise UserError(
            "plan: processes_per_run: a run that several processes share is not planned; allowed: 1"
        )
    here = choose_device(study.device)
    table = measured()
    asked = study.definition.training.precision
    if device is None:
        own, precision = name_of(here), name_of_precision(choose_precision(asked, here))
        device = nearest_measured(table, own, precision)
        if device != own:
            print(
                f"'{own}' was not measured; these are the times of another processor, which may be several"
                " times as fast or slow. python benchmarks/scaling.py measures this one.\n"
            )
    else:
        precision = measured_precision(table, device, asked)
    cores = (os.cpu_count() or 1) // (1 + Workflow(study).workers)
    at_once = at_once or (max(1, cores) if is_processor(device) else 1)
    times = Times(table, device, precision, study.seeds_per_job)
    print(f"{study.name} on {device}, {precision}\n\n{markdown(plan(study, times, main=main), at_once)}")
    if not main and not (part := plan(study, times, main=True)).empty:
        print(f"Of these the target main needs {sentence(part, at_once)}")
    if far := guessed(study, times):
        print(
            f"No network nearly as wide as {', '.join(far)} was measured on this device, and its rate grows"
            " with width: their times may be several times too long or too short. python"
            " benchmarks/scaling.py --architectures … measures them."
        )
    others = {run.training.precision for run in study.each_run()} - {asked}
    if others:
        print(f"Runs of recipes in another precision ({', '.join(others)}) are planned in {precision} too.")
    if any(known(name).photographs for name in study.datasets):
        print("The plan does not count decoding photographs: set workers so that decoding keeps up.")


def _status(config: dict[str, Any], *, verify: bool, follow: bool) -> None:
    from onlybn.workflow.paths import Workflow
    from onlybn.workflow.status import status, watch

    workflow = Workflow(open_study(config, STUDIES))
    if follow:
        watch(workflow)
    else:
        print(status(workflow, verify=verify))


def _claims(config: dict[str, Any]) -> None:
    from onlybn.workflow.paths import Workflow
    from onlybn.workflow.verdicts import verdicts

    print(verdicts(Workflow(open_study(config, STUDIES))))


def _export(asked: argparse.Namespace) -> list[str]:
    from onlybn.exporting.export import export

    return export(asked.run, asked.file, folds=asked.fold, threshold=asked.prune, trust=asked.trust)


def _bank(asked: argparse.Namespace) -> list[str]:
    from onlybn.exporting.bank import Bank, refuse_custom_code
    from onlybn.runs.saving import custom_code

    pairs = [given.partition("=") for given in asked.runs]
    for given, pair in zip(asked.runs, pairs, strict=True):
        if not all(pair):
            raise UserError(f"bank: '{given}' is not NAME=FOLDER")
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise UserError(f"bank: two tasks have one name in {', '.join(names)}")
    for _, _, folder in pairs:
        refuse_custom_code(custom_code(Path(folder)))
    bank = Bank.of_runs({name: folder for name, _, folder in pairs})
    bank.save(asked.file)
    kilobytes = asked.file.stat().st_size / 1e3
    return [f"{asked.file}: {len(names)} {'task' if len(names) == 1 else 'tasks'}, {kilobytes:,.0f} kB"]


def _classify(asked: argparse.Namespace) -> list[str]:
    from onlybn.exporting.bank import Bank, classify

    chances = classify(Bank.load(asked.file), asked.task, asked.image)
    best = sorted(chances, key=chances.__getitem__, reverse=True)[:5]
    return [f"{name}: {100 * chances[name]:.1f} %" for name in best]


# Commands on files, not on studies; each returns the lines to print.
FILES = {"export": _export, "bank": _bank, "classify": _classify}


if __name__ == "__main__":
    try:
        main()
        print(end="", flush=True)
    except BrokenPipeError:  # the reader closed the pipe, as `head` does; nothing more is written at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
