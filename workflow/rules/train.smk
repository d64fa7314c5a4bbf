# A rule per block of seeds. Its params hold the digest of what a run is, without seeds, block or device,
# so that neither more seeds nor another block size trains a finished run again; the work folder comes
# through params because Snakemake deletes the outputs and logs of a job that is killed.
for seeds in STUDY.study.seed_blocks():

    rule:
        name:
            STUDY.block_name(seeds)
        input:
            FORCED.training,
        output:
            update(STUDY.run_files(seeds)),
        log:
            STUDY.block_log(seeds),
        conda:
            "../../environment.yml"
        threads: STUDY.study.processes_per_run * (1 + STUDY.workers)
        resources:
            **STUDY.training_resources(seeds, main=workflow.is_main_process),
        params:
            digest=STUDY.digest,
            work=STUDY.work_pattern,
        script:
            "../scripts/train.py"
