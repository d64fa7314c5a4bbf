import sys
from pathlib import Path

# The package, where the job's environment lacks it (--sdm conda).
sys.path.append(str(Path(__file__).parents[2] / "src"))

from onlybn.jobs import job

with job(Path(snakemake.log[0])) as terminal:
    from onlybn.custom import from_path
    from onlybn.datasets.prepare import prepare_once
    from onlybn.workflow.paths import open_workflow

    study = open_workflow(snakemake.config, Path(snakemake.scriptdir).parent / "studies").study
    folder = Path(snakemake.output[0]).parent
    prepare_once(from_path(folder.name), Path(study.data_dir), folder, terminal)
