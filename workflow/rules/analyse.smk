# A job per run and analysis, not per block of seeds: a block's inputs change with its size, and Snakemake
# would measure finished runs again. Of a run that changed, the analysis itself tells that it is outdated.
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
