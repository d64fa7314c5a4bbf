# Other studies may be reading or preparing this dataset: existing files stay (`update`).
for dataset in STUDY.study.datasets:

    rule:
        name:
            STUDY.preparing(dataset)
        output:
            update(STUDY.dataset_files(dataset)),
        log:
            STUDY.dataset_log(dataset),
        localrule: True
        conda:
            "../../environment.yml"
        script:
            "../scripts/prepare.py"


rule count:
    input:
        ancient(STUDY.counted_on),
    output:
        STUDY.parameter_counts,
    log:
        f"{STUDY.drawn}/logs/count.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        architectures=STUDY.counted,
        dataset=STUDY.study.definition.dataset,
    script:
        "../scripts/count.py"
