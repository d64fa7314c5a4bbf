# Other studies may read a dataset, or prepare it, at this moment: what is there stays.
rule prepare:
    output:
        update(STUDY.dataset_files("{dataset}")),
    log:
        STUDY.dataset_log,
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
