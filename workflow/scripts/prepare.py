import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job, wait_for_lock

with job(Path(snakemake.log[0])) as terminal:
    from onlybn.datasets.prepare import prepare
    from onlybn.workflow import open_workflow

    study = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies").study
    folder = Path(snakemake.output[0]).parent
    told = f"{folder}: another Snakemake prepares it; this one waits for its end"
    wait_for_lock(folder.with_name(f".{folder.name}.lock"), told, terminal)
    if all(Path(file).exists() for file in snakemake.output):
        print("prepared meanwhile")
    else:
        prepare(study.definition.dataset, Path(study.data_dir), folder)
