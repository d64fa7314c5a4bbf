from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.tables.make import make

    target = Path(snakemake.output[0]).with_suffix("")
    make(snakemake.wildcards.table, target.parents[1].name, map(Path, snakemake.input), target)
