"""Generate the parts of the documentation that come from the code or from measurements: `make docs`.

A part is between `<!-- made from NAME -->` and `<!-- end -->`; NAME is one of the tables below, or a
committed file, which is copied. The thumbnails of docs/figures.md are generated too.
"""

import re
from functools import cache, partial
from pathlib import Path

import pandas as pd
import yaml
from PIL import Image, PngImagePlugin
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from tabulate import tabulate

from onlybn.configuration import configuration_with, open_study
from onlybn.files import sha256
from onlybn.papers import NAMES as PAPERS
from onlybn.papers import Figure, Table, paper
from onlybn.study import Definition, Experiment, Training
from onlybn.workflow.paths import Workflow

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference"
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("measurements", "running", "studies", "results", "figures")),
)
DEFAULT_STUDY = "digits"
# The study of each paper that a reader runs first.
FIRST_STUDIES = dict(zip(PAPERS, (DEFAULT_STUDY, *PAPERS[1:]), strict=True))
# What the names of datasets that need no `data_dir` begin with.
EMBEDDED = ("digits", "deep-linear")
THUMBNAILS = ROOT / "docs" / "thumbnails"
THUMBNAIL_WIDTH = 320  # pixels


def keys(model: type[BaseModel]) -> str:
    """Return the keys of a part of a study file, as their model describes them."""
    rows = []
    for name, field in model.model_fields.items():
        default = (
            "" if field.default is PydanticUndefined else f"`{yaml.safe_dump(field.default).split()[0]}`"
        )
        if isinstance(field.default, list):
            default = f"`[{', '.join(field.default)}]`"
        rows.append([f"`{name}`", "needed" if field.is_required() else default, field.description])
    return tabulate(rows, ["key", "default", "what"], tablefmt="pipe")


def settings() -> str:
    """Return the keys of config.yaml, as its comments describe them."""
    lines = (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines()
    found = [match for line in lines if (match := re.fullmatch(r"(\w+): (\S+)(?: +# (.*))?", line))]
    rows = [[f"`{key}`", f"`{value}`", what] for key, value, what in (match.groups() for match in found)]
    return tabulate(rows, ["key", "default", "what"], tablefmt="pipe")


# Studies of CIFAR-10 that were measured, and what a column of docs/measurements.md calls them.
CIFAR10 = {
    "cifar10-resnet-14_regimes-all,batchnorm,random-2_seeds-5": "160 epochs, ResNet-14",
    "cifar10-short_seeds-4": "3 epochs (`cifar10-short`)",
}


def claims() -> str:
    """Return the paper's claims that a committed study of CIFAR-10 says something of, a column for each."""
    judged = [
        pd.read_parquet(REFERENCE / study / "tables" / "claims.parquet").itertuples() for study in CIFAR10
    ]
    rows = []
    for verdicts in zip(*judged, strict=True):  # every table lists every claim, in one order
        if any(told.verdict != "not run" for told in verdicts):
            found = [f"**{told.verdict}**: {told.measured}" if told.measured else "" for told in verdicts]
            cells = [verdicts[0].statement, verdicts[0].published, *found]
            rows.append([cell.replace("|", "\\|") for cell in cells])
    return tabulate(rows, ["claim", "published", *CIFAR10.values()], tablefmt="pipe")


def benchmark(name: str) -> pd.DataFrame:
    """Return a committed benchmark's table."""
    return pd.read_parquet(ROOT / "results" / "reference" / "benchmarks" / f"{name}.parquet")


def _measured(name: str) -> str:
    """Return a committed benchmark's table as it was printed."""
    return benchmark(name).drop(columns=["machine", "torch"]).to_markdown(index=False)


def throughput() -> str:
    """Return images per second of the textbook loop and of the engine, and their ratio."""
    table = benchmark("throughput")
    rates = table[["textbook (images/s)", "engine (images/s)", "ratio"]].itertuples(index=False)
    table["cell"] = [f"{textbook:,.0f} → {engine:,.0f} ({ratio:.1f})" for textbook, engine, ratio in rates]
    wide = table.pivot(index="architecture", columns="regime", values="cell").loc[
        table["architecture"].unique()
    ]
    wide.index.name = "textbook → engine (ratio)"
    return wide.to_markdown()


def functions() -> str:
    """Return what training through each function costs over training without, in percent of a step."""
    rows = benchmark("reparametrise")
    cells = [
        f"{row['cost (%)']:+.1f} ({row.lowest:+.1f} to {row.highest:+.1f})" for _, row in rows.iterrows()
    ]
    wide = rows.assign(cell=cells).pivot(index="function", columns="network", values="cell")
    return wide.loc[rows["function"].unique()].reset_index().to_markdown(index=False)


def memory() -> str:
    """Return the peak memory of training, and what the workflow foresees."""
    points = ["dataset", "batch", "architecture", "regime"]
    wide = benchmark("memory").pivot(index=[*points, "foreseen_mb"], columns="precision", values="peak_mb")
    shown = wide.reset_index()[[*points, "float32", "bfloat16", "foreseen_mb"]]
    return tabulate(shown.rename(columns={"foreseen_mb": "foreseen"}), "keys", "pipe", showindex=False)


def storage() -> str:
    """Return what a finished run keeps, in kB, and the seconds that loading it takes."""
    shown = benchmark("storage").drop(columns=["same bits", "machine", "torch"])
    formats = ("", "", ",d", ",d", *5 * [".0f"], ".2f")
    return shown.to_markdown(index=False, floatfmt=formats, intfmt=formats)


def parity() -> str:
    """Return how many parameters `batchnorm` and `random-2` train in each layer of ResNet-14."""
    from onlybn.models import build
    from onlybn.networks import regimes

    network = build("resnet-14", channels=3, classes=10)
    convolutions, batchnorms = network.convolutions(), network.normalisations()
    places = network.normalisation_places()
    fan_ins = [layer.weight[0].numel() for layer in convolutions]  # before some of them are chosen
    chosen = [p.numel() for p in regimes.apply(network, "random-2", 0).values()]
    layers = pd.DataFrame(
        {
            "channels": [norm.num_features for norm in batchnorms],
            "weights of a channel": fan_ins,
            "γ and β": [norm.weight.numel() + norm.bias.numel() for norm in batchnorms],
            "chosen weights": chosen,
        }
    )
    place = [f"{places[norm].stage}, {places[norm].position}" for norm in batchnorms]
    counted = layers.assign(**{"stage, position": place}).value_counts(sort=False).reset_index(name="layers")
    counted = counted.sort_values("stage, position")[["stage, position", "layers", *layers]]
    total = {"stage, position": "all"} | {
        name: (counted[name] * (1 if name == "layers" else counted["layers"])).sum()
        for name in ("layers", "γ and β", "chosen weights")
    }
    rows = [*counted.to_dict("records"), total]
    return tabulate(rows, "keys", tablefmt="pipe", intfmt=",")


def committed(record: Figure | Table, of: str = PAPERS[0]) -> Path | None:
    """Return the committed picture or table of a record of a paper: its first study's, another's, or None."""
    place = f"figures/{record.name}.png" if isinstance(record, Figure) else f"tables/{record.name}.md"
    own = {file.stem for file in (ROOT / "workflow" / "studies" / of.replace("-", "_")).glob("*.yaml")}
    studies = [REFERENCE / FIRST_STUDIES[of], *sorted(REFERENCE.iterdir())]
    studies = [study for study in studies if study.name.split("_")[0] in own]
    return next((study / place for study in studies if (study / place).exists()), None)


def figures(of: str) -> str:
    """Return a paper's figures and tables: what each shows, a thumbnail and its command, by section."""
    sections = []
    for part, records in paper(of).parts.items():
        made = [record for record in records if _study_of(record, of)]
        rows = [[_link(record, of), f"`{record.name}`", _says(record, of)] for record in made]
        listed = tabulate(rows, ["committed result", "target", "what it shows, and its command"], "pipe")
        sections.append(f"### {part}\n\n{listed}")
    return "\n\n".join(sections)


def thumbnail(name: str, of: str = PAPERS[0]) -> Path:
    """Return the thumbnail of a figure of a paper; those of the first paper are in no folder of their own."""
    return (THUMBNAILS if of == PAPERS[0] else THUMBNAILS / of) / f"{name}.png"


def _link(record: Figure | Table, of: str) -> str:
    file = committed(record, of)
    if file is None:
        return ""
    picture = thumbnail(record.name, of).relative_to(THUMBNAILS.parent)
    text = f"![{record.name}]({picture})" if file.suffix == ".png" else "table"
    return f"[{text}](../{file.relative_to(ROOT)})"


@cache
def _studies(of: str) -> dict[str, Workflow]:
    """Return the studies of a paper, the first one first."""
    folder = ROOT / "workflow" / "studies" / of.replace("-", "_")
    files = sorted(folder.glob("*.yaml"), key=lambda file: (file.stem != FIRST_STUDIES[of], file.stem))
    configs = {file.stem: configuration_with([f"study={file.stem}"], ROOT) for file in files}
    return {name: Workflow(open_study(config, folder.parent)) for name, config in configs.items()}


def _study_of(record: Figure | Table, of: str) -> str | None:
    """Return the first study of a paper that makes a figure or table, if there is one."""
    return next((name for name, workflow in _studies(of).items() if record.name in workflow.targets), None)


def _says(record: Figure | Table, of: str) -> str:
    file = committed(record, of)
    study = _study_of(record, of) if file is None else file.relative_to(REFERENCE).parts[0].split("_")[0]
    config = "" if study == DEFAULT_STUDY else f" --config study={study}"
    if not all(name.startswith(EMBEDDED) for name in _studies(of)[study].study.datasets):
        config += " data_dir=FOLDER"
    place = record.number or record.section
    said = record.says.replace("|", "\\|")
    return f"{f'**{place}.** ' if place else ''}{said}<br>`snakemake --cores 2 {record.name}{config}`"


def write_thumbnails() -> None:
    """Write a thumbnail of each figure's committed picture, unless it is there; delete all others."""
    found = {
        thumbnail(name, of): committed(record, of)
        for of in PAPERS
        for name, record in paper(of).figures.items()
    }
    pictures = {target: picture for target, picture in found.items() if picture is not None}
    for file in THUMBNAILS.rglob("*.png"):
        if file not in pictures:
            file.unlink()
    for target, picture in pictures.items():
        if source(target) != sha256(picture):
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_thumbnail(picture, target)


def source(thumbnail: Path) -> str:
    """Return the SHA-256 of the picture that a thumbnail was made from, which it holds as text."""
    if not thumbnail.exists():
        return ""
    with Image.open(thumbnail) as image:
        return image.text.get("source", "")


def _write_thumbnail(picture: Path, target: Path) -> None:
    with Image.open(picture) as image:
        height = round(image.height * THUMBNAIL_WIDTH / image.width)
        small = image.convert("RGB").resize((THUMBNAIL_WIDTH, height), Image.Resampling.LANCZOS)
    facts = PngImagePlugin.PngInfo()
    facts.add_text("source", sha256(picture))
    small.save(target, "PNG", optimize=True, pnginfo=facts)


TABLES = {
    "the parameters of random-2, layer by layer": parity,
    "the claims on CIFAR-10": claims,
    **{f"the figures and tables of {name}": partial(figures, name) for name in PAPERS},
    "the keys of a study": lambda: keys(Definition),
    "the keys of training": lambda: keys(Training),
    "the keys of an experiment": lambda: keys(Experiment),
    "the keys of config.yaml": settings,
    "the throughput of training": throughput,
    "the start of a job": lambda: benchmark("startup")[["stage", "seconds"]].to_markdown(
        index=False, floatfmt=".2f"
    ),
    "the cost of functions": functions,
    "the memory of training": memory,
    "the storage of a run": storage,
    "exported networks": lambda: _measured("export"),
    "the cost of tasks": lambda: _measured("bank"),
    "the cost of recordings": lambda: _measured("recordings"),
}


def written(text: str) -> str:
    """Return a page with its generated parts generated anew."""

    def part(match: re.Match) -> str:
        name = match[1]
        content = TABLES[name]() if name in TABLES else (ROOT / name).read_text(encoding="utf-8").rstrip()
        return f"<!-- made from {name} -->\n{content}\n<!-- end -->"

    return re.sub(r"<!-- made from (.+?) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)


if __name__ == "__main__":
    write_thumbnails()
    for page in PAGES:
        path = ROOT / page
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
