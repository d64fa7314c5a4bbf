rule draw_figure:
    input:
        STUDY.figure_inputs,
    output:
        STUDY.figure_files("{figure}"),
    log:
        f"{STUDY.drawn}/logs/draw/{{figure}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    script:
        "../scripts/draw_figure.py"


rule make_table:
    input:
        STUDY.table_inputs,
    output:
        STUDY.table_files("{table}"),
    log:
        f"{STUDY.drawn}/logs/draw/{{table}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        not_expected=STUDY.not_expected,
    script:
        "../scripts/make_table.py"


rule draw_sheet:
    input:
        STUDY.pictures,
    output:
        STUDY.sheet,
    log:
        f"{STUDY.drawn}/logs/draw/sheet.log",
    localrule: True
    conda:
        "../../environment.yml"
    script:
        "../scripts/draw_sheet.py"
