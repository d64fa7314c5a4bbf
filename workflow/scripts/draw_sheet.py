from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.figures.sheet import sheet

    sheet(map(Path, snakemake.input), Path(snakemake.output[0]))
