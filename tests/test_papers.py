"""Papers: what is known of one stands in its folder, and the engine imports none."""

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from checkout import ROOT, STUDY, Checkout
from conftest import BUILTIN, CONFIG, run_columns

import onlybn
from onlybn import papers
from onlybn.configuration import open_study
from onlybn.datasets import DATASETS
from onlybn.errors import UserError
from onlybn.files import sha256
from onlybn.observers import OBSERVERS
from onlybn.papers import Figure, Paper, Table, paper
from onlybn.workflow.paths import COLLECTED

PACKAGE = Path(onlybn.__file__).parent
FOLDERS = [folder.name for folder in (PACKAGE / "papers").iterdir() if (folder / "paper.py").exists()]
ENGINE = [file for file in PACKAGE.rglob("*.py") if not set(file.relative_to(PACKAGE).parts) & {*FOLDERS}]
PAPERS = [paper(name) for name in papers.NAMES]
RECORDS = [(one, record) for one in PAPERS for record in one.made.values()]
each_record = pytest.mark.parametrize(
    ("one", "record"), RECORDS, ids=[f"{one.name} {record.name}" for one, record in RECORDS]
)


def imported(tree: ast.AST, package: str) -> set[str]:
    """Every module that a module imports, and every name that it imports from one, as a module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            levels = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*levels, *filter(None, [node.module])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("file", ENGINE, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_engine_imports_no_paper_and_names_none_of_its_figures_and_tables(file):
    tree = ast.parse(file.read_text())
    package = ".".join(["onlybn", *file.relative_to(PACKAGE).parent.parts])
    own = [f"onlybn.papers.{folder}" for folder in FOLDERS]
    assert not [name for name in imported(tree, package) if name.startswith(tuple(own))]
    if file != PACKAGE / "papers" / "__init__.py":  # which has the papers' names and what all of them share
        named = {record.name for _, record in RECORDS if "-" in record.name} | {*papers.NAMES}
        named -= {*OBSERVERS, *DATASETS}  # a figure may have the name of the recording or data that it shows
        assert not [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in named]


def test_every_paper_has_a_name_and_its_folder():
    assert sorted(papers.NAMES) == sorted(folder.replace("_", "-") for folder in FOLDERS)
    assert [one.name for one in PAPERS] == list(papers.NAMES)


def test_what_the_snakefile_reads_of_papers_imports_nothing_large():
    code = (
        "import sys; from onlybn.papers import NAMES, paper; [paper(name) for name in NAMES];"
        "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'matplotlib', 'scipy', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@each_record
def test_every_record_has_its_module_and_reads_what_can_be_collected(one, record):
    module = one.load(record.module)
    functions = ("draw",) if isinstance(record, Figure) else ("shown",)
    for function in ("numbers", "caption", *functions):
        assert callable(getattr(module, function))
    if isinstance(record, Table):
        assert isinstance(module.WORDS, tuple)
        assert {*record.if_drawn} <= {*COLLECTED}
    assert record.reads == ("parameter_counts",) or {*record.reads} <= {*COLLECTED}


@pytest.mark.parametrize("one", PAPERS, ids=papers.NAMES)
def test_no_two_targets_of_a_paper_have_one_name(one):
    names = [record.name for part in one.parts.values() for record in part]
    assert len({*names, "main", "all", "sheet"}) == len(names) + 3


@pytest.mark.parametrize("one", [one for one in PAPERS if one.claims], ids=lambda one: one.name)
def test_claims_have_unique_ids_and_every_section_of_a_record_has_one(one):
    claims = one.load(one.claims).CLAIMS
    assert len({claim.id for claim in claims}) == len(claims)
    for record in one.made.values():
        assert any(claim.section.endswith(record.section) for claim in claims), record


@each_record
def test_every_record_has_a_sentence_for_its_caption(one, record):
    assert record.says.endswith(".") and record.says.count(". ") == 0


@pytest.mark.parametrize("name", paper("only-batchnorm").made)
def test_the_page_of_figures_has_each_record_and_a_current_thumbnail_of_its_committed_picture(name):
    found = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(found)
    found.loader.exec_module(generate)
    record = paper("only-batchnorm").made[name]
    assert f"| `{name}` " in (ROOT / "docs" / "figures.md").read_text()
    picture = generate.committed(record)
    if isinstance(record, Figure) and picture is not None:
        thumbnail = generate.THUMBNAILS / f"{name}.png"
        assert generate.source(thumbnail) == sha256(picture), "make docs"
        assert sum(file.stat().st_size for file in thumbnail.parent.iterdir()) < 1_500_000


TITLES = {
    "figure-2": "Figure 2: it",
    "figure-c2": "Figure C2: it",
    "figure-10b": "Figure 10B: it",
    "figure-g-layers": "Figure G, by layer: it",
    "table-1": "Table 1: it",
    "table-12": "Table 12: it",
    "landscape": "it",
    "figure-of-merit": "it",
    "accuracy-vgg": "it",
}


@pytest.mark.parametrize("name", TITLES)
def test_a_record_is_called_by_its_number_or_by_what_it_shows(name):
    assert Figure(name, ".module", ("metrics",), "it").title == TITLES[name]


def test_an_unknown_paper_is_one_sentence_and_its_figures_are_no_further_faults(tmp_path):
    with pytest.raises(ValueError, match=r"^unknown paper 'only-batchnrm'; did you mean 'only-batchnorm'\?"):
        paper("only-batchnrm")
    file = tmp_path / "mine.yaml"
    file.write_text(STUDY.replace("dataset: digits", "paper: only-batchnrm\ndataset: digts"))
    with pytest.raises(UserError) as raised:
        open_study(CONFIG | {"study": str(file), "results_dir": str(tmp_path)}, BUILTIN)
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{file}: paper: unknown paper 'only-batchnrm'; did you mean 'only-batchnorm'? A")
    assert second.startswith(f"{file}: dataset: ")


def test_a_figure_of_a_recording_that_its_experiment_does_not_make_is_one_sentence(tmp_path, monkeypatch):
    toy = Paper("toy", "Toy", "", "toy", {"Toys": (Figure("weights", ".weights", ("weights",), "weights"),)})
    monkeypatch.setattr(papers, "paper", lambda name: toy)
    file, (study, _) = tmp_path / "mine.yaml", STUDY.split("figures:")

    def opened(record):
        file.write_text(f"{study}figures: {{weights: [one]}}\n{record}")
        return open_study(CONFIG | {"study": str(file), "results_dir": str(tmp_path)}, BUILTIN)

    with pytest.raises(UserError) as raised:
        opened("")
    assert str(raised.value) == (
        f"{file}: figures.weights: reads the recording weights, which the experiment one does not make;"
        " write record: [weights] in it, or in the study"
    )
    assert opened("record: [weights]").definition.figures == {"weights": ["one"]}


TOY = {
    "paper.py": '''"""A paper of one figure."""

from onlybn.papers import Figure, Paper

PAPER = Paper(
    name="toy-paper",
    title="Toy",
    about="A toy.",
    package=__package__,
    records={"Toys": (Figure("landscape", ".landscape", ("metrics",), "accuracies", regimes=("b*",)),)},
)
''',
    "landscape.py": '''"""Accuracies, a panel per family."""

from functools import partial

from onlybn.drawing import style
from onlybn.drawing.looks import Look, Looks
from onlybn.drawing.summaries import finals, over_seeds

LOOKS = Looks({"batchnorm": Look("γ and β", "black", "o")}, panels=())


def numbers(metrics):
    points = over_seeds(finals(metrics), values=["top_1"])
    return LOOKS.by_panel(points.rename(columns={"top_1": "y", "top_1_std": "std"}))


def draw(numbers):
    return style.panels(numbers, partial(style.regime_lines, looks=LOOKS), LOOKS, y_label="accuracy (%)")


def caption(numbers):
    return "How it lies."
''',
}


def test_a_paper_is_added_as_a_folder_and_its_figure_is_drawn_by_its_short_name(tmp_path):
    source = tmp_path / "src" / "onlybn"
    shutil.copytree(ROOT / "src" / "onlybn", source, ignore=shutil.ignore_patterns("__pycache__"))
    names = source / "papers" / "__init__.py"
    names.write_text(names.read_text().replace('"one-seed")', '"one-seed", "toy-paper")'))
    (source / "papers" / "toy_paper").mkdir()
    for name, text in TOY.items():
        (source / "papers" / "toy_paper" / name).write_text(text)
    study, _ = STUDY.split("figures:")
    checkout = Checkout(tmp_path, f"paper: toy-paper{study}figures: {{landscape: [one]}}\n")
    rows = [
        run_columns("resnet-8", regime, seed, study="tiny")
        | {"epoch": 1, "split": "test", "loss": 1.0, "top_1": 50.0, "top_5": 90.0, "learning_rate": 0.1}
        for regime in ("all", "batchnorm")
        for seed in (0, 1)
    ]
    collected = tmp_path / "results" / "tiny" / "experiments" / "one" / "metrics.parquet"
    collected.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(collected)  # so that nothing is trained
    checkout.ok("landscape", PYTHONPATH=str(tmp_path / "src"))
    drawn = tmp_path / "results" / "tiny" / "figures"
    assert pd.read_parquet(drawn / "landscape.parquet")["panel"].tolist() == ["resnet depth"]
    caption = (drawn / "landscape.rst").read_text()
    assert caption.startswith("How it lies. Not drawn: all. Study tiny, 2 epochs;")
