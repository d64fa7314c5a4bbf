# A rule per block of seeds. Its params hold the digest of the specification without seeds, block or device,
# so that neither more seeds nor another block size trains a finished run again. The work folder is in params
# because Snakemake deletes the outputs and logs of a killed job.
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
