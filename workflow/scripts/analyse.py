import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])) as terminal:
    from onlybn.datasets import read_facts
    from onlybn.runs.records import is_analysis
    from onlybn.workflow.paths import open_workflow

    workflow = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies")
    folder = Path(snakemake.input.run[0]).parent
    dataset = Path(snakemake.input.dataset[0]).parent
    run, analysis = workflow.run_in(snakemake.wildcards, folder), snakemake.wildcards.analysis
    target = Path(snakemake.output[0])
    prepared = workflow.places(run)[1] / target.name
    if is_analysis(prepared, run, folder, read_facts(dataset)["checksum"]):
        print(f"{run}: {analysis} was measured after training")
        prepared.replace(target)
    else:  # this imports torch, which takes seconds
        from onlybn.analyses.measure import measure_alone

        measure_alone(
            analysis,
            run,
            folder,
            target,
            dataset=dataset,
            data_dir=Path(workflow.study.data_dir),
            device=workflow.study.device,
            threads=max(1, snakemake.threads - workflow.workers),
            workers=workflow.workers,
            terminal=terminal,
        )
