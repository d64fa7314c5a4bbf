from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])) as terminal:
    from onlybn.block import train_block
    from onlybn.workflow import open_workflow

    workflow = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies")
    runs = workflow.block_runs(snakemake.wildcards, snakemake.output)
    train_block(
        list(runs.values()),
        list(runs),
        work=Path(snakemake.params.work),
        dataset=Path(snakemake.input[0]).parent,
        device=workflow.study.device,
        threads=snakemake.threads,
        terminal=terminal,
    )
