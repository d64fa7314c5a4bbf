"""Replaces workflow/scripts/prepare.py."""

from pathlib import Path

for file in snakemake.output:
    Path(file).touch()
