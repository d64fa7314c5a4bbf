"""Write the HTML report of a target that is made, to report.html in the folder of the study's figures."""

import argparse
import os
import sys
from pathlib import Path

from onlybn.configuration import configuration_with, open_study
from onlybn.errors import UserError
from onlybn.workflow.paths import Workflow


def main() -> None:
    """Let Snakemake write the report; a user's mistakes are reported, one sentence each, with status 1."""
    parser = argparse.ArgumentParser(prog="python -m onlybn.workflow.report", description=__doc__)
    parser.add_argument("target", metavar="TARGET", help="a figure, a table or another target that is made")
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as after Snakemake's --config")
    asked = parser.parse_args()
    try:
        workflow = Workflow(open_study(configuration_with(asked.config), Path("workflow") / "studies"))
    except UserError as error:
        sys.exit(error.shown())
    report = f"{workflow.drawn}/report.html"
    command = [sys.executable, "-m", "snakemake", asked.target, "--report", report]
    os.execv(sys.executable, [*command, "--config", *asked.config] if asked.config else command)


if __name__ == "__main__":
    main()
