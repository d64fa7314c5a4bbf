from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.analyses.measure import measure

    measure(
        snakemake.wildcards.analysis,
        Path(snakemake.input.run[0]).parent,
        Path(snakemake.output[0]),
        dataset=Path(snakemake.input.dataset[0]).parent,
        device=snakemake.config["device"],
        threads=snakemake.threads,
    )
