import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.collect import collect
    from onlybn.files import write_table

    folders = dict.fromkeys(Path(file).parent for file in snakemake.input)
    wildcards = snakemake.wildcards
    write_table(Path(snakemake.output[0]), collect(wildcards.experiment, wildcards.collected, folders))
