# A job per run and analysis, not per block of seeds: a block's inputs change with its size, and Snakemake
# would measure finished runs again.
rule analyse:
    input:
        run=STUDY.analysed_run,
        dataset=ancient(STUDY.dataset_files()),
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
