import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])) as terminal:
    from onlybn.analyses.measure import measure
    from onlybn.workflow.paths import open_workflow

    workflow = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies")
    folder = Path(snakemake.input.run[0]).parent
    measure(
        snakemake.wildcards.analysis,
        workflow.run_in(snakemake.wildcards, folder),
        folder,
        Path(snakemake.output[0]),
        dataset=Path(snakemake.input.dataset[0]).parent,
        data_dir=Path(workflow.study.data_dir),
        device=workflow.study.device,
        threads=max(1, snakemake.threads - workflow.workers),
        workers=workflow.workers,
        terminal=terminal,
    )
