import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.drawing.make import make
    from onlybn.workflow.paths import open_workflow

    workflow = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies")
    target = Path(snakemake.output[0]).with_suffix("")
    files = map(Path, snakemake.input)
    make(
        workflow.paper,
        snakemake.wildcards.table,
        workflow.study.name,
        files,
        target,
        snakemake.params.not_expected,
    )
