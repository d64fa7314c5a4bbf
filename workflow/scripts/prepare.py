from pathlib import Path

from onlybn.datasets.prepare import prepare
from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    prepare(
        snakemake.wildcards.dataset,
        Path(snakemake.config["data_dir"]),
        Path(snakemake.output[0]).parent,
    )
