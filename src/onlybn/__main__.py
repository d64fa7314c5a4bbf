"""Commands that only look: `python -m onlybn plan [KEY=VALUE …]`, with the keys of Snakemake's --config."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from onlybn.configuration import open_study
from onlybn.errors import UserError

STUDIES = Path("workflow") / "studies"


def main() -> None:
    """Run the command; a user's mistake ends in its sentences and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m onlybn", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    planning = commands.add_parser("plan", help="what a study will cost, before anything is trained")
    planning.add_argument("config", nargs="*", metavar="KEY=VALUE", help="as after Snakemake's --config")
    planning.add_argument("--device", help="a device whose step times were measured; default: this one")
    planning.add_argument("--at-once", type=int, default=os.cpu_count(), help="jobs side by side")
    planning.add_argument("--main", action="store_true", help="only what the target main needs")
    asked = parser.parse_args()
    try:
        _plan(_configuration(asked.config), asked.device, asked.at_once, main=asked.main)
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))


def _configuration(given: list[str]) -> dict[str, Any]:
    """Return config.yaml of this folder with what was given on the command line over it."""
    try:
        config = yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8"))
    except OSError:
        raise UserError("config.yaml is not here; start this in the folder of the Snakefile") from None
    for pair in given:
        key, separator, value = pair.partition("=")
        if not separator:
            raise UserError(f"config: '{pair}' is not KEY=VALUE")
        config[key] = value if "," in value or value.startswith("[") else yaml.safe_load(value)
    return config


def _plan(config: dict[str, Any], device: str | None, at_once: int, *, main: bool) -> None:
    from onlybn.costs import Times, measured
    from onlybn.plan import markdown, plan
    from onlybn.training import choose_device, choose_precision, name_of

    study = open_study(config, STUDIES)
    here = choose_device(study.device)
    asked = study.definition.training.precision
    if asked == "auto" and device is not None:
        asked = "bfloat16"
    precision = str(choose_precision(asked, here)).removeprefix("torch.")
    device = device or name_of(here)
    together = study.seeds_per_job if here.type == "cuda" else 1
    table = plan(study, Times(measured(), device, precision, together), main=main)
    print(f"{study.name} on {device}, {precision}\n\n{markdown(table, at_once)}")


if __name__ == "__main__":
    main()
