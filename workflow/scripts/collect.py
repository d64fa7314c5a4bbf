from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.collect import collect
    from onlybn.files import write_tables

    folders = dict.fromkeys(Path(file).parent for file in snakemake.input)
    wildcards = snakemake.wildcards
    write_tables(Path(snakemake.output[0]), collect(wildcards.experiment, wildcards.collected, folders))
