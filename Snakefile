"""Training BatchNorm and Only BatchNorm: the targets, and the rule files."""

from pathlib import Path

from snakemake.utils import min_version

from onlybn.outdated import Forced
from onlybn.workflow import open_workflow

min_version("9.0")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


STUDY = open_workflow(config, Path(workflow.basedir) / "workflow" / "studies")
FORCED = Forced(STUDY, workflow)


wildcard_constraints:
    **STUDY.wildcard_constraints(),


rule main:
    input:
        STUDY.reported(STUDY.main, report),


rule all:
    input:
        STUDY.reported(STUDY.everything, report),


for target, files in STUDY.targets.items():

    rule:
        name:
            target
        input:
            STUDY.reported(files, report),


# A name that is no target is taken for a file that this rule makes.
rule refuse:
    input:
        STUDY.refuse,
    output:
        "{unknown,[^/.]+}",


# What needs the network, or takes less time than to submit it: on a cluster, only runs and their analyses are
# sent off.
localrules:
    prepare,
    count,
    collect,
    draw_figure,
    make_table,
    draw_sheet,


include: "workflow/rules/draw.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/prepare.smk"


onstart:
    STUDY.start(local=workflow.local_exec)


onsuccess:
    STUDY.finish()


onerror:
    STUDY.explain(log)
