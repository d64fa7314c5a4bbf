import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.drawing.make import make

    target = Path(snakemake.output[0]).with_suffix("")
    make(snakemake.wildcards.table, target.parents[1].name, map(Path, snakemake.input), target)
