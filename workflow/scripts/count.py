from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.counting import count
    from onlybn.files import write_table

    write_table(Path(snakemake.output[0]), count(snakemake.params.architectures, snakemake.params.dataset))
