"""Training BatchNorm and Only BatchNorm: the targets, and the rule files."""

from snakemake.utils import min_version

from onlybn.workflow.outdated import Forced
from onlybn.workflow.paths import open_snakefile

min_version("9.0")


configfile: "config.yaml"


STUDY = open_snakefile(workflow, config)
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


# As a module of another Snakefile, these are the other's: the report's front page, and what a name may be.
if workflow.modifier.is_main_snakefile():

    report: "workflow/report/workflow.rst"

    # A name that is no target is taken for a file that this rule makes.
    rule refuse:
        input:
            STUDY.refuse,
        output:
            "{unknown,[^/.]+}",


# Rules that need the network, or take less time than to submit, are local: a cluster gets runs and analyses.
include: "workflow/rules/draw.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/prepare.smk"


onstart:
    STUDY.start(local=workflow.local_exec)
    STUDY.announce(workflow.dag.jobs, workflow.dag.needrun_jobs())


onsuccess:
    STUDY.finish()


onerror:
    STUDY.explain(log)
