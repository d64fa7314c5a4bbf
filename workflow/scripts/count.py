import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.datasets import prepared
    from onlybn.files import write_table
    from onlybn.models.counting import count
    from onlybn.runs.records import telling
    from onlybn.workflow.paths import open_workflow

    workflow = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies")
    dataset = workflow.study.definition.dataset
    facts = prepared(dataset, Path(workflow.dataset_files(dataset)[0]).parent)
    table = telling(count(workflow.counted, dataset, facts), dataset=dataset, counted=workflow.counted)
    write_table(Path(snakemake.output[0]), table)
