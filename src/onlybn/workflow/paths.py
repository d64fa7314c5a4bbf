"""What the rules need: the path of every file of a study, and which files each is made from."""

import hashlib
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from onlybn import custom, datasets, jobs, locks, observers, papers
from onlybn.analyses import ANALYSES
from onlybn.axes import ARCHITECTURE, AXES, OPTIONAL, REGIME, REPARAMETRISATION
from onlybn.configuration import open_study
from onlybn.environment import check_python
from onlybn.errors import UserError, unknown_message
from onlybn.files import refuse_future
from onlybn.models import architecture
from onlybn.networks.fits import check_fits
from onlybn.runs import folders, records
from onlybn.runs.records import FILES, RECORD
from onlybn.strict_yaml import read_yaml
from onlybn.study import Run, Study
from onlybn.workflow import demands

# Snakemake's, so that messages reach whichever display the user chose, and Snakemake's own log.
LOGGER = logging.getLogger("snakemake.logging")
# The attribute of a log record that carries what our display shows (snakemake_logger_plugin_onlybn).
SHOWN = "onlybn"
COLLECTED = ("runs", "metrics", "affine", *ANALYSES, *observers.OBSERVERS)
# The wildcards of a run's folders; the last one names the optional axes too (`Run.point`).
POINT = ("architecture", "regime", "variant")
FIGURE_FILES = (".pdf", ".png", ".parquet", ".rst")
TABLE_FILES = (".csv", ".md", ".parquet", ".html", ".rst")


class Workflow:
    """A study, and the paths of its files. Patterns keep Snakemake's wildcards in braces."""

    def __init__(self, study: Study):
        self.study = study
        self.paper = papers.paper(study.definition.paper)
        self.results = Path(study.results_dir)
        self.runs = str(self.results / study.runs_name)
        self.drawn = str(self.results / study.name)
        self.run_pattern = f"{self.runs}/runs/{{architecture}}/{{regime}}/{{variant}}"
        # Beside runs/, not below it: here are checkpoints, and finished runs until all is done.
        self.work_pattern = f"{self.runs}/work/{{architecture}}/{{regime}}/{{variant}}"
        self.replaced_pattern = f"{self.runs}/replaced/{{architecture}}/{{regime}}/{{variant}}"
        self.log_pattern = f"{self.runs}/logs/train/{{architecture}}/{{regime}}/{{variant}}"
        self._lock: int | None = None

    # prepare, count

    def dataset_files(self, dataset: str) -> list[str]:
        """Return the files of one of the study's datasets."""
        folder = self.results / "datasets" / custom.to_path(dataset)
        return [str(folder / file) for file in datasets.known(dataset).files]

    def preparing(self, dataset: str) -> str:
        """Return the name of the rule that prepares a dataset; the study's own is `prepare`."""
        study = self.study.definition.dataset
        return "prepare" if dataset == study else f"prepare-{custom.to_path(dataset)}"

    def dataset_checksums(self) -> dict[str, str | None]:
        """Return the checksum of each dataset's prepared images; None if they are missing or damaged."""
        found: dict[str, str | None] = dict.fromkeys(self.study.datasets)
        for name in found:
            with suppress(UserError):
                found[name] = datasets.read_facts(Path(self.dataset_files(name)[0]).parent)["checksum"]
        return found

    def dataset_log(self, dataset: str) -> str:
        """Return the log of preparing a dataset."""
        return str(self.results / "datasets" / "logs" / f"{custom.to_path(dataset)}.log")

    def images_of(self, wildcards: Any) -> list[str]:
        """Return the files of the dataset of a run."""
        return self.dataset_files(self._run(wildcards).dataset)

    @property
    def counted_on(self) -> list[str]:
        """The inputs of counting parameters: for a custom dataset, what preparing it found."""
        dataset = self.study.definition.dataset
        return self.dataset_files(dataset) if custom.is_custom(dataset) else []

    @property
    def parameter_counts(self) -> str:
        """The table of parameter counts."""
        return f"{self.drawn}/parameter_counts.parquet"

    @property
    def counted(self) -> list[str]:
        """The architectures whose parameters are counted: of the experiments that such a table shows."""
        tables = self.study.definition.tables.items()
        shown = (e for name, wanted in tables if self.paper.tables[name].counts for e in wanted)
        return list(dict.fromkeys(name for e in shown for name in self.study.experiments[e].architectures))

    # train

    def block_name(self, seeds: list[int]) -> str:
        """Return the name of the rule that trains a block of seeds; the first is `train`."""
        first = self.study.seed_blocks()[0]
        return "train" if seeds == first else f"train-{_span(seeds)}"

    def run_files(self, seeds: list[int]) -> list[str]:
        """Return the patterns of the run folders' files of a block of seeds."""
        return [f"{self.run_pattern}/seed-{seed}/{file}" for seed in seeds for file in FILES]

    def block_log(self, seeds: list[int]) -> str:
        """Return the pattern of the log of a block of seeds."""
        return f"{self.log_pattern}/{_span(seeds)}.log"

    def digest(self, wildcards: Any) -> str:
        """Return the digest of a run's specification, which does not depend on its seed."""
        return self._run(wildcards).digest

    def block_runs(self, wildcards: Any, files: list[str]) -> dict[Path, Run]:
        """Return the runs that a training job writes, by their folders, which `files` lie in."""
        folders = dict.fromkeys(Path(file).parent for file in files)
        return {folder: self.run_in(wildcards, folder) for folder in folders}

    def run_in(self, wildcards: Any, folder: Path) -> Run:
        """Return the run whose folder that is."""
        return self._run(wildcards).with_seed(int(folder.name.removeprefix("seed-")))

    def _run(self, wildcards: Any) -> Run:
        """Return the first replicate of the point that the wildcards name."""
        named = wildcards.architecture, wildcards.regime, wildcards.variant
        if named in self._points:
            return self._points[named]
        # A file that no experiment needs: the last name gives all axes but the first two, as in other points.
        like = next(run for point, run in self._points.items() if point[2] == named[2])
        names = {axis.name: like.value(axis) for axis in AXES}
        names |= {"architecture": custom.from_path(named[0]), "regime": custom.from_path(named[1])}
        with suppress(ValueError):
            run = self.study.run(**names, dataset=like.dataset)
            if run.point == named:
                return run
        sys.exit(f"error: no run of the study {self.study.name} lies in {'/'.join(named)}")

    @cached_property
    def _points(self) -> dict[tuple[str, str, str], Run]:
        """The first replicate of every point of the study, by the names of its folders."""
        return {run.point: run for name in self.study.experiments for run in self.study.points(name)}

    def replaced(self, wildcards: Any) -> Path:
        """Return the folder where training keeps the runs of a point that it replaced, by seed."""
        return Path(self.replaced_pattern.format(**dict(wildcards.items())))

    def places(self, run: Run) -> tuple[Path, Path]:
        """Return a run's folder, and its work folder, which has its checkpoint."""
        patterns = (self.run_pattern, self.work_pattern)
        folder, work = (Path(pattern.format(**_named(run))) / f"seed-{run.seed}" for pattern in patterns)
        return folder, work

    @property
    def workers(self) -> int:
        """How many processes decode photographs for each that trains; none if there are no photographs."""
        photographs = any(datasets.known(name).photographs for name in self.study.datasets)
        return self.study.workers if photographs else 0

    @cached_property
    def gpus(self) -> int:
        """How many GPUs a process uses, 1 or 0; `auto` uses one if there is an NVIDIA driver."""
        wants = {"cuda": True, "cpu": False, "auto": Path("/dev/nvidiactl").exists()}
        return int(wants[self.study.device])

    def training_resources(self, seeds: list[int], *, main: bool) -> dict[str, Any]:
        """Return the resources of a job that trains a block of seeds.

        `main` says that this is the Snakemake that submits jobs. Inside of a job, which reads the rules
        again, the resources are settled already, and nothing is estimated.
        """
        asked = self._gpus(self.gpus * self.study.processes_per_run)
        if not main or self.study.longest_job is None:
            return asked

        def memory(wildcards: Any, attempt: int) -> int:
            return demands.training_memory(self.study, self._run(wildcards), len(seeds), attempt)

        def minutes(wildcards: Any, attempt: int) -> int:
            run = self._run(wildcards)
            return demands.training_minutes(self.study, run, len(seeds), self.analyses(run), attempt)

        return asked | {"mem_mb": memory, "runtime": minutes}

    def _gpus(self, count: int) -> dict[str, int | str]:
        """Return the resource that requests GPUs."""
        if self.study.gpu_as == "gres":
            return {"gres": f"gpu:{count}"} if count else {}
        return {"gpu": count}

    # analyse

    def analysis_resources(self, *, main: bool) -> dict[str, Any]:
        """Return the resources of a job that analyses a run; `main` as in training."""
        asked = self._gpus(self.gpus)
        if not main or self.study.longest_job is None:
            return asked

        def memory(wildcards: Any, attempt: int) -> int:
            return demands.analysis_memory(self.study, self._run(wildcards), attempt)

        def minutes(wildcards: Any, attempt: int) -> int:
            return demands.analysis_minutes(self.study, self._run(wildcards), wildcards.analysis, attempt)

        return asked | {"mem_mb": memory, "runtime": minutes}

    def analyses(self, run: Run) -> list[str]:
        """Return the analyses of a run that the study's figures and tables show."""
        return [name for name in ANALYSES if name in self._shown.get((run.point, run.seed), ())]

    @cached_property
    def _shown(self) -> dict[tuple[Any, int], set[str]]:
        """The kinds of collected tables that figures and tables read, by a run's point and seed."""
        found: dict[tuple[Any, int], set[str]] = {}
        for name in self.study.experiments:
            kinds = self.study.kinds_shown(name)
            for run in self.study.runs(name):
                found.setdefault((run.point, run.seed), set()).update(kinds)
        return found

    @property
    def analysis_pattern(self) -> str:
        """The pattern of an analysis of a run."""
        return f"{self.run_pattern}/seed-{{seed}}/{{analysis}}.parquet"

    @property
    def analysed_run(self) -> list[str]:
        """The patterns of the files of a run that an analysis reads."""
        return [f"{self.run_pattern}/seed-{{seed}}/{file}" for file in ("run.json", "state.safetensors")]

    @property
    def analysis_log(self) -> str:
        """The pattern of an analysis' log."""
        point = "{architecture}/{regime}/{variant}"
        return f"{self.runs}/logs/{{analysis}}/{point}/seed-{{seed}}.log"

    # collect

    @property
    def experiment_pattern(self) -> str:
        """The pattern of an experiment's collected table."""
        return f"{self.drawn}/experiments/{{experiment}}/{{collected}}.parquet"

    def experiment_runs(self, wildcards: Any) -> list[str]:
        """Return the inputs of a collected table: its runs' records and tables.

        Exits with a sentence if it is of a recording that the experiment does not make.
        """
        experiment, kind = wildcards.experiment, wildcards.collected
        runs = self.study.runs(experiment)
        folders = [self.places(run)[0] for run in runs]
        read = ["run.json"]
        if kind in observers.OBSERVERS:  # no rule makes a recording: the record proves that it exists
            if any(kind not in self.study.recordings(run) for run in runs):
                sys.exit(
                    f"error: the experiment {experiment} does not make the recording {kind}; write record:"
                    f" [{kind}] in it, or in the study"
                )
        elif kind != "runs":
            read.append(f"{kind}.parquet")
        return [f"{folder}/{file}" for folder in folders for file in read]

    # draw

    @cached_property
    def tables(self) -> dict[str, list[str]]:
        """The study's tables and their experiments: those that it names, and its runs' provenance.

        The provenance is one table for the experiments whose runs `main` needs, and one for the others, so
        that `main` trains nothing for it.
        """
        named, made = self.study.definition.tables, self.paper.made
        drawn = {
            n: wanted for n, wanted in (self.study.definition.figures | named).items() if not made[n].counts
        }
        used = {e: None for name in drawn if made[name].main for e in drawn[name]}
        others = {e: None for experiments in drawn.values() for e in experiments if e not in used}
        provenance = {r.name: [*(used if r.main else others)] for part in papers.RUNS.values() for r in part}
        return named | {name: experiments for name, experiments in provenance.items() if experiments}

    def figure_files(self, figure: str) -> list[str]:
        """Return the files of a figure, or their pattern."""
        return [f"{self.drawn}/figures/{figure}{ending}" for ending in FIGURE_FILES]

    def table_files(self, table: str) -> list[str]:
        """Return the files of a table, or their pattern."""
        return [f"{self.drawn}/tables/{table}{ending}" for ending in TABLE_FILES]

    def figure_inputs(self, wildcards: Any) -> list[str]:
        """Return the collected tables of the experiments that a figure draws, and no others."""
        return self._figure_inputs(wildcards.figure)

    def _figure_inputs(self, figure: str) -> list[str]:
        return self.collected(self.study.definition.figures[figure], self.paper.figures[figure].reads)

    def table_inputs(self, wildcards: Any) -> list[str]:
        """Return the collected tables of the experiments that a table shows, and no others."""
        return self._table_inputs(wildcards.table)

    def _table_inputs(self, table: str) -> list[str]:
        record, wanted = self.paper.tables[table], self.tables[table]
        if record.counts:
            return [self.parameter_counts]
        if not record.if_drawn:
            return self.collected(wanted, record.reads)
        kinds = {e: sorted({*record.reads, *self._drawn(e).intersection(record.if_drawn)}) for e in wanted}
        return [file for e in wanted for file in self.collected([e], kinds[e])]

    def not_expected(self, wildcards: Any) -> dict[str, str]:
        """Return, for a table of claims, those that the study is not expected to show, with the reasons."""
        judges = self.paper.tables[wildcards.table].judges
        return self.study.definition.not_expected if judges else {}

    def _drawn(self, experiment: str) -> set[str]:
        """Return the kinds of collected tables that the study's figures draw of an experiment."""
        figures = [name for name, wanted in self.study.definition.figures.items() if experiment in wanted]
        return {kind for name in figures for kind in self.paper.figures[name].reads}

    def collected(self, experiments: Iterable[str], kinds: Iterable[str]) -> list[str]:
        """Return the collected tables of these kinds of each experiment."""
        return [
            self.experiment_pattern.format(experiment=experiment, collected=kind)
            for experiment in experiments
            for kind in kinds
        ]

    @property
    def numbers_drawn(self) -> dict[Path, list[Path]]:
        """The Parquet of every figure and table, and the collected tables that it is made from."""
        made = {f"figures/{name}": self._figure_inputs(name) for name in self.study.definition.figures}
        made |= {f"tables/{name}": self._table_inputs(name) for name in self.tables}
        return {Path(f"{self.drawn}/{name}.parquet"): [*map(Path, tables)] for name, tables in made.items()}

    @property
    def pictures(self) -> list[str]:
        """What the sheet shows: the main part's figures, or else all figures of the study, as PNG."""
        drawn = list(self.study.definition.figures)
        shown = [figure for figure in drawn if self.paper.figures[figure].main] or drawn
        return [f"{self.drawn}/figures/{figure}.png" for figure in shown]

    @property
    def sheet(self) -> str:
        """The sheet of figures."""
        return f"{self.drawn}/figures/sheet.png"

    @property
    def targets(self) -> dict[str, list[str]]:
        """The short targets: a figure's or table's name, or `sheet`, and its files."""
        drawn = {name: self.figure_files(name) for name in self.study.definition.figures}
        sheet = {"sheet": [self.sheet]} if drawn else {}
        return drawn | sheet | {name: self.table_files(name) for name in self.tables}

    @property
    def main(self) -> list[str]:
        """The files of the paper's main part."""
        named = {name for name, record in self.paper.made.items() if record.main}
        return [file for name, files in self.targets.items() if name in named for file in files]

    @property
    def everything(self) -> list[str]:
        """The files of every figure and table of the study, the appendices' included."""
        return [file for files in self.targets.values() for file in files]

    # report

    @property
    def shown_axes(self) -> dict[str, list[str]]:
        """The study's values on the axes that the report's first page lists, by its names for the axes."""
        always = {"Networks": self.study.names(ARCHITECTURE), "What trains": self.study.names(REGIME)}
        shown = [axis for axis in OPTIONAL if self.study.names(axis) != [axis.default]]
        return always | {axis.plural.capitalize(): self.study.names(axis) for axis in shown}

    def reported(self, files: list[str], report: Callable[..., str]) -> list[str]:
        """Return the files, with each picture and page flagged by Snakemake's `report`.

        Its place, title and description are the figure's or table's; categories are numbered from 1.
        """
        shown = [file for file in files if file.endswith((".png", ".html")) and file != self.sheet]
        placed = {Path(file).stem for file in shown}
        parts = {part: {record.name for record in records} for part, records in self.paper.parts.items()}
        categories = [part for part, names in parts.items() if placed & names]

        def flagged(file: str) -> str:
            name = Path(file).stem
            (category,) = [part for part in categories if name in parts[part]]
            return report(
                file,
                # Snakemake resolves captions from the Snakefile's folder.
                caption=str(Path(file).with_suffix(".rst").absolute()),
                category=f"{categories.index(category) + 1} {category}",
                labels={"shows": self.paper.made[name].title},
            )

        return [flagged(file) if file in shown else file for file in files]

    # the whole

    def refuse(self, wildcards: Any) -> list[str]:
        """Exit with a sentence: the study has no target of that name."""
        known = ["main", "all", *self.targets]
        if wildcards.unknown in self.paper.made:
            sys.exit(
                f"error: the study {self.study.name} does not show {wildcards.unknown}, or its selection has"
                f" no run of it; it shows {', '.join(self.targets)}"
            )
        fault = unknown_message(f"target of the study {self.study.name}", wildcards.unknown, known)
        sys.exit(f"error: {fault}")

    def wildcard_constraints(self) -> dict[str, str]:
        """Return, for each wildcard, a pattern of the study's values and no others."""
        definition = self.study.definition
        allowed = {
            **dict(zip(POINT, map(dict.fromkeys, zip(*self._points, strict=True)), strict=True)),
            "experiment": self.study.experiments,
            "collected": COLLECTED,
            "figure": definition.figures,
            "table": self.tables,
            "seed": [str(seed) for seeds in self.study.seed_blocks() for seed in seeds],
            "analysis": ANALYSES,
        }
        # A study without figures still needs a pattern, one that matches no name.
        return {name: "|".join(map(re.escape, names)) or r"(?!)" for name, names in allowed.items()}

    @property
    def lock_file(self) -> Path:
        """The file that a Snakemake at work on the study's runs locks."""
        return self.results / f".{self.study.runs_name}.lock"

    def start(self, *, local: bool) -> None:
        """Refuse to start while another Snakemake works on these runs, or for a device that is missing here.

        `local` says that jobs run on this machine, which then must have a CUDA device if one is requested.
        Other machines have other devices, which the configuration must name. Exits with one sentence.
        """
        try:
            self._lock = locks.lock(
                self.lock_file,
                f"another Snakemake is working in {self.runs}; wait for it, or choose another folder with"
                " --config results_dir=…",
                patience=1,  # `make status` looks at the lock for a moment
            )
            try:
                self.paper.check_claims(self.study.definition.not_expected)
            except ValueError as error:
                raise UserError(f"study: not_expected: {error}") from None
            if any(name != REPARAMETRISATION.default for name in self.study.names(REPARAMETRISATION)):
                from onlybn.networks.ranges import check_ranges  # which imports torch

                check_ranges(self.study)
            check_fits(self.study)
            images = [[*map(Path, self.dataset_files(name))] for name in self.study.datasets]
            for first, *_ in images:
                datasets.check_loader(first.parent, Path(self.study.data_dir))
            made = [self.places(run)[0] / file for run in self.study.each_run() for file in FILES]
            refuse_future([*chain(*images), *made], self.results)
            if not local and self.study.device == "auto":
                raise UserError(
                    "config: device: auto is for jobs that run here; on a cluster, say what its jobs take:"
                    " cpu or cuda"
                )
            if local and self.study.device == "cuda":
                from onlybn.devices import choose_device

                choose_device("cuda")
        except UserError as error:
            sys.exit(error.shown())
        except OSError as error:
            sys.exit(f"error: {error}")

    def announce(self, planned: Iterable[Any], needed: Iterable[Any]) -> None:
        """Log what will be done, given all of Snakemake's jobs and those that are needed.

        The record carries the runs, by their folders, for a display that shows how far each is.
        """
        needed = list(needed)
        training = self._trained_by(needed)
        # Where only collected tables are left, no run is there, and none is needed.
        others = (folder for folder in self._trained_by(planned) if folder not in training)
        whole = [*training, *(folder for folder in others if (folder / RECORD).exists())]
        data = self.dataset_checksums()
        found = {
            folder: records.find(folder, run, data[run.dataset], self.study.recordings(run))
            for folder, run in training.items()
        }
        present = {folder for folder, (record, _) in found.items() if record}  # which no job trains again
        rules = {"analysis": "analyse", "figure": "draw_figure", "table": "make_table"}
        to_make = {"run": len(training) - len(present)}
        for noun, rule in rules.items():  # which has a prefix where another workflow imports this one
            to_make[noun] = sum(job.rule.name.endswith(rule) for job in needed)
        parts = [jobs.counted(number, name) for name, number in to_make.items() if number]
        there = len(whole) - to_make["run"]
        done = f"; {there:,} of {jobs.counted(len(whole), 'run')} were done before" if there else ""
        runs = {
            str(folder): {
                "name": str(run),
                "work": str(self.places(run)[1]),
                "weight": _weight(run),
                "present": folder in present,
            }
            for folder, run in sorted(training.items(), key=lambda item: (item[1].point, item[1].seed))
        }
        LOGGER.info(
            f"{self.study.name}: to do: {', '.join(parts) or 'nothing that takes long'}{done}",
            extra={SHOWN: {"event": "planned", "study": self.study.name, "runs": runs, "all": len(whole)}},
        )

    def _trained_by(self, some: Iterable[Any]) -> dict[Path, Run]:
        """Return the runs that these jobs train, by their folders."""
        found = {}
        for job in some:
            made = (file for file in map(str, job.output) if file.startswith(f"{self.runs}/runs/"))
            if files := [file for file in made if Path(file).name == RECORD]:
                found |= self.block_runs(job.wildcards, files)
        return found

    def finish(self) -> None:
        """Log where results are, and remove what jobs kept for another attempt, once all is done."""
        folders.clear_work(Path(f"{self.runs}/work"), Path(f"{self.runs}/runs"))
        made = [kind for kind in ("figures", "tables") if Path(self.drawn, kind).is_dir()]
        where = " and ".join(f"{kind} are in {self.drawn}/{kind}" for kind in made)
        where = where[:1].upper() + where[1:]
        LOGGER.info(where or "Done", extra={SHOWN: {"event": "done", "where": where}})

    def explain(self, logs: list[str]) -> None:
        """Log, after Snakemake's own messages, why jobs failed: the last line of each one's log, once."""
        lines = list(dict.fromkeys(line for log in logs for line in jobs.last_lines(Path(log))))
        faults = [line for line in lines if line != jobs.INTERRUPTED]
        if faults:
            text = "\n  ".join(["What went wrong:", *faults])
        elif lines:
            text = jobs.INTERRUPTED.capitalize()
        else:  # with --quiet, Snakemake's own log has no faults either
            text = "Not all jobs succeeded; the same command without --quiet tells why"
        LOGGER.error(text, extra={SHOWN: {"event": "failed", "faults": faults}})


def _weight(run: Run) -> int:
    """Return roughly how long a run takes, in any unit: for a display's estimate of the time left."""
    try:
        described = architecture(run.architecture)
    except ValueError:  # the user's own
        return run.training.length
    return run.training.length * described.depth * described.width**2


def _named(run: Run) -> dict[str, str]:
    """Return the wildcards that name a run's folders."""
    return dict(zip(POINT, run.point, strict=True))


def _span(seeds: list[int]) -> str:
    """Return a name for increasing seeds, such as `seed-3`, `seeds-0-to-4` or `seeds-0-and-4-to-6`."""
    rows = [[seed for _, seed in row] for _, row in groupby(enumerate(seeds), lambda pair: pair[1] - pair[0])]
    parts = [str(row[0]) if len(row) == 1 else f"{row[0]}-to-{row[-1]}" for row in rows]
    named = "-and-".join(parts)
    if len(named) > 150:  # a file's name has 255 bytes at most
        named = hashlib.sha256(named.encode()).hexdigest()[:16]
    return f"seed-{named}" if len(seeds) == 1 else f"seeds-{named}"


def open_workflow(config: Mapping[str, Any], builtin: Path) -> Workflow:
    """Open the study that Snakemake's configuration names; on faults, print them and exit."""
    try:
        return Workflow(open_study(config, builtin))
    except UserError as error:
        sys.exit(error.shown())


def open_snakefile(snakemake: Any, config: Mapping[str, Any]) -> Workflow:
    """Open the study for the Snakefile that Snakemake reads: the main one, or a module of another one.

    `snakemake` is Snakemake's `workflow`. On faults, prints them and exits.
    """
    module = snakemake.modifier
    folder = Path(str(snakemake.current_basedir.get_path_or_uri(secret_free=True)))
    try:
        check_python(sys.executable)
        if module.modify_path("results") != "results":
            raise UserError(
                "module: prefix and replace_prefix are not supported, since jobs find a study's other files"
                " by their paths; give results_dir in the module's config instead"
            )
        for file in snakemake.configfiles if module.is_main_snakefile() else ():
            read_yaml(Path(file))  # Snakemake itself accepts ambiguous YAML
    except UserError as error:
        sys.exit(error.shown())
    return open_workflow(config, folder / "workflow" / "studies")
