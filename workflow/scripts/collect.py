import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.files import write_tables
    from onlybn.runs.collect import collect
    from onlybn.workflow.paths import open_workflow

    workflow = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies")
    wildcards = snakemake.wildcards
    runs = {workflow.places(run)[0]: run for run in workflow.study.runs(wildcards.experiment)}
    dataset = next(iter(runs.values())).dataset
    data = workflow.dataset_checksums()[dataset]
    tables = collect(wildcards.experiment, wildcards.collected, runs, data)
    write_tables(Path(snakemake.output[0]), tables)
