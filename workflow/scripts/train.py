import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])) as terminal:
    from onlybn.analyses.measure import measure
    from onlybn.runs.block import train_block
    from onlybn.workflow.paths import open_workflow

    workflow = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies")
    study = workflow.study
    runs = workflow.block_runs(snakemake.wildcards, snakemake.output)
    train_block(
        list(runs.values()),
        list(runs),
        work=Path(snakemake.params.work),
        replaced=workflow.replaced(snakemake.wildcards),
        dataset=Path(snakemake.input[0]).parent,
        data_dir=Path(study.data_dir),
        device=study.device,
        deterministic=study.deterministic,
        threads=max(1, snakemake.threads // study.processes_per_run - workflow.workers),
        processes=study.processes_per_run,
        workers=workflow.workers,
        checkpoint_every=study.checkpoint_every,
        recordings=[study.recordings(run) for run in runs.values()],
        analyses=[workflow.analyses(run) for run in runs.values()],
        measure=measure,
        terminal=terminal,
    )
