"""Where an environment may lie: `python -m onlybn.environment FOLDER` checks it before an installation."""

import re
import sys
from pathlib import Path

from onlybn.errors import UserError


def check_python(path: str) -> None:
    """Raise UserError if Snakemake can start no job by that path of Python.

    Snakemake writes it into the command of every script's job as it is, without quotes.
    """
    if special := re.search(r"""[\s'"\\$&|;<>()*?[\]{}`]""", path):
        raise UserError(
            f"the environment's Python is {path}, and Snakemake can start no job with {special[0]!r} in"
            " that path; put the environment below a folder without spaces and special characters"
        )


if __name__ == "__main__":
    try:
        check_python(str(Path(sys.argv[1]).absolute() / "bin" / "python"))
    except UserError as error:
        sys.exit(error.shown())
