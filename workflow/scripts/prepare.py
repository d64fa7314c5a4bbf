from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.datasets.prepare import prepare

    prepare(
        snakemake.wildcards.dataset,
        Path(snakemake.config["data_dir"]),
        Path(snakemake.output[0]).parent,
    )
