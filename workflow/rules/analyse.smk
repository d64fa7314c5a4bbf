# A job per run and analysis, not per block of seeds: a block's inputs change with its size, and Snakemake
# would measure finished runs again.
rule analyse:
    input:
        run=STUDY.analysed_run,
        dataset=ancient(STUDY.dataset_files()),
    output:
        STUDY.analysis_pattern,
    params:
        digest=STUDY.digest,
    log:
        STUDY.analysis_log,
    threads: 1
    resources:
        gpu=STUDY.gpus,
    conda:
        "../../environment.yml"
    script:
        "../scripts/analyse.py"
