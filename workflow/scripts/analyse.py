from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.analyses.measure import measure

    measure(
        snakemake.wildcards.analysis,
        Path(snakemake.input.run[0]).parent,
        Path(snakemake.output[0]),
        dataset=Path(snakemake.input.dataset[0]).parent,
        data_dir=Path(snakemake.config["data_dir"]),
        device=snakemake.config["device"],
        threads=max(1, snakemake.threads - snakemake.config["workers"]),
        workers=snakemake.config["workers"],
    )
