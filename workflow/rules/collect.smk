rule collect:
    input:
        STUDY.experiment_runs,
    output:
        STUDY.experiment_pattern,
    log:
        f"{STUDY.drawn}/logs/collect/{{experiment}}-{{collected}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    script:
        "../scripts/collect.py"
