from pathlib import Path

from onlybn.jobs import job

with job(Path(snakemake.log[0])):
    from onlybn.figures.draw import draw

    target = Path(snakemake.output[0]).with_suffix("")
    draw(snakemake.wildcards.figure, target.parents[1].name, map(Path, snakemake.input), target)
