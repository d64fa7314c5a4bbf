# One job per run and analysis, not per block of seeds: the inputs of a block change with its size, and
# Snakemake would then measure finished runs again. Training has usually left the table in the work folder: then
# this job verifies and moves it. If a run has changed, the table itself shows that it is outdated.
rule analyse:
    input:
        run=FORCED.analysis,
        dataset=FORCED.images,
    output:
        STUDY.analysis_pattern,
    log:
        STUDY.analysis_log,
    conda:
        "../../environment.yml"
    threads: 1 + STUDY.workers
    resources:
        **STUDY.analysis_resources(main=workflow.is_main_process),
    params:
        digest=STUDY.digest,
    script:
        "../scripts/analyse.py"
