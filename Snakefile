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


# In a module of another Snakefile, the other one has these: the report's front page, and its own targets.
if workflow.modifier.is_main_snakefile():

    report: "workflow/report/workflow.rst"

    # Snakemake takes a name that is no target for a file, which this rule would make.
    rule refuse:
        input:
            STUDY.refuse,
        output:
            "{unknown,[^/.]+}",


# Rules that need the network, or take less time than submitting, are local: a cluster gets runs and analyses.
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
