"""Write the HTML report of a target that is made: `python -m onlybn.workflow.report TARGET [KEY=VALUE …]`."""

import os
import sys
from pathlib import Path

from onlybn.configuration import configuration_with, open_study
from onlybn.errors import UserError
from onlybn.workflow.paths import Workflow


def main(target: str, *config: str) -> None:
    """Let Snakemake write the target's report to report.html in the folder of the study's figures."""
    study = open_study(configuration_with(list(config)), Path("workflow") / "studies")
    report = f"{Workflow(study).drawn}/report.html"
    command = [sys.executable, "-m", "snakemake", target, "--report", report]
    os.execv(sys.executable, [*command, "--config", *config] if config else command)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(error.shown())
