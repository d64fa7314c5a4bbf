"""Figures and tables from collected tables with known answers, diverged runs among them."""

import itertools
import json
import math
import os
import subprocess
import sys
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import run_columns
from matplotlib import pyplot as plt
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from PIL import Image

from onlybn.drawing import draw as drawing
from onlybn.drawing import make as making
from onlybn.drawing import provenance, style
from onlybn.drawing.png import write_png
from onlybn.drawing.sheet import sheet
from onlybn.drawing.summaries import RUN, finals, over_seeds, read
from onlybn.errors import UserError
from onlybn.models import build
from onlybn.papers import paper
from onlybn.papers.only_batchnorm.figures import (
    distribution,
    figure_3,
    figure_6,
    initialisation,
    layers,
    shares,
)
from onlybn.papers.only_batchnorm.figures.accuracy import REGIMES
from onlybn.papers.only_batchnorm.tables import accuracy, dead_relu, failed, near_zero, table_1
from onlybn.runs.schemas import DRAWN, SCHEMAS, missing

PAPER = paper("only-batchnorm")
FIGURES, TABLES = PAPER.figures, PAPER.tables
draw, make = partial(drawing.draw, PAPER), partial(making.make, PAPER)


def numbers_of(record, table) -> pd.DataFrame:
    """What a figure or table that reads one kind of collected table makes of it."""
    tables = {record.reads[0]: table}
    given = drawing.drawn(record, tables) if record.name in FIGURES else tables.values()
    return PAPER.load(record.module).numbers(*given)


def status(value) -> str:
    return "diverged" if value is None else "finished"


def whole(kind, rows) -> pd.DataFrame:
    """A table with all columns of its kind, those that no test looks at empty."""
    table = pd.DataFrame(rows)
    return table.assign(**dict.fromkeys(missing(kind, table.columns)))


def collected(points, seeds=(0, 1)) -> pd.DataFrame:
    """A collected metrics table: final top-1 per (architecture, regime[, variant]), one more per seed.

    Accuracy None is a run that diverged in its second epoch.
    """
    rows = []
    for (name, regime, *variant), top_1 in points.items():
        for seed in seeds:
            named = {"variant": variant[0]} if variant else {}
            run = run_columns(name, regime, seed, status=status(top_1), **named)
            final = math.nan if top_1 is None else top_1 + seed
            for epoch, value in ((1, 5.0), (2, final)):
                for split in ("train", "test"):
                    row = {"epoch": epoch, "split": split, "loss": 1.0, "learning_rate": 0.1}
                    rows.append(run | row | {"top_1": value, "top_5": min(100.0, value + 30)})
    return whole("metrics", rows)


def affine(points, seeds=(0, 1)) -> pd.DataFrame:
    """A collected affine table of 100 channels a run, as many γ at 0 as given, the others at ±1."""
    rows = []
    for (name, regime), zeros in points.items():
        for seed in seeds:
            run = run_columns(name, regime, seed, status=status(zeros))
            for channel in range(100):
                gamma = 0.0 if channel < (zeros or 0) else (-1.0) ** (channel % 4 == 0)
                place = {"position": "shortcut" if channel % 2 else "first", "channel": channel}
                place |= {"layer": channel // 50}
                rows.append(run | place | {"gamma": gamma, "beta": channel % 3 - 1.0})
    return whole("affine", rows)


def clamped(points, seeds=(0, 1)) -> pd.DataFrame:
    """A collected clamping table: accuracy 90 as trained, lower by 100 ε once clamped."""
    rows = []
    for (name, regime), share in points.items():
        for seed in seeds:
            run = run_columns(name, regime, seed, status=status(share))
            if share is None:
                empty = ("threshold", "beta_too", "top_1", "clamped_percent", "top_1_unclamped")
                rows.append(run | dict.fromkeys(empty))
                continue
            for threshold in (0.005, 0.01, 0.05, 0.1):
                for beta_too in (False, True):
                    row = {"threshold": threshold, "beta_too": beta_too, "top_1_unclamped": 90.0}
                    drop = 100 * threshold + 20 * beta_too
                    rows.append(run | row | {"top_1": 90.0 - drop, "clamped_percent": share})
    return whole("clamping", rows)


def activations(points, seeds=(0, 1)) -> pd.DataFrame:
    """A collected activations table of 100 channels a run, as many of them always off as given."""
    rows = []
    for (name, regime), dead in points.items():
        for seed in seeds:
            run = run_columns(name, regime, seed, status=status(dead))
            if dead is None:
                rows.append(run | {"position": None, "relu": None, "off": None})
                continue
            for channel in range(100):
                place = {"position": "addition" if channel % 2 else "inside", "relu": channel // 50}
                rows.append(run | place | {"off": 1.0 if channel < dead else 0.99})
    return whole("activations", rows)


TABLES_OF = {"metrics": collected, "affine": affine, "clamping": clamped, "activations": activations}


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-9])


def without(name):
    return lambda path: pd.read_parquet(path).drop(columns=name).to_parquet(path)


BAD_TABLES = {
    "cut short": (cut_short, "is missing or damaged ("),
    "empty": (lambda path: path.write_bytes(b""), "is missing or damaged ("),
    "text": (lambda path: path.write_text("top_1,top_5\n1,2\n"), "is missing or damaged ("),
    "gone": (lambda path: path.unlink(), "is missing or damaged ("),
    "folder": (lambda path: (path.unlink(), path.mkdir(), (path / "x").touch()), "is missing or damaged ("),
    "unreadable": (lambda path: (path.unlink(), path.symlink_to(path)), "is missing or damaged ("),
    "no accuracy": (without("top_1"), "lacks the columns top_1; delete it to collect it again"),
    "no status": (without(["status", "split"]), "lacks the columns status, split; delete it"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_damaged_collected_table_is_one_sentence_and_draws_nothing(tmp_path, case):
    damage, sentence = BAD_TABLES[case]
    table = tmp_path / "metrics.parquet"
    collected({("resnet-14", "batchnorm"): 50.0}).to_parquet(table)
    damage(table)
    with pytest.raises(UserError) as raised:
        draw("figure-2", "s", [table], tmp_path / "drawn" / "figure-2")
    assert str(raised.value).startswith(f"{table} {sentence}")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "drawn").exists()


def test_a_runs_final_accuracy_is_its_last_test_row():
    assert finals(collected({("resnet-14", "all"): 50.0}))["top_1"].tolist() == [50, 51]


def test_replicates_are_summarised_with_n_minus_1():
    (point,) = over_seeds(finals(collected({("resnet-14", "all"): 50.0}))).to_dict("records")
    assert point["top_1"] == 50.5
    assert point["top_1_std"] == pytest.approx(np.std([50, 51], ddof=1))
    assert (point["n"], point["diverged"], point["at_chance"]) == (2, 0, 0)


def test_diverged_runs_enter_no_mean_and_are_counted_and_so_are_runs_at_chance():
    metrics = pd.concat(
        [
            collected({("resnet-14", "all"): 50.0}, seeds=[0, 1]),
            collected({("resnet-14", "all"): None}, seeds=[2]),
            collected({("resnet-14", "output"): 14.5}, seeds=[0, 1]),
        ]
    )
    points = over_seeds(finals(metrics)).set_index("regime")
    assert points.loc["all", ["top_1", "n", "diverged"]].tolist() == [50.5, 2, 1]
    assert points.loc["output", ["n", "at_chance"]].tolist() == [2, 1]


@pytest.mark.parametrize("kind", ["metrics", "affine"])
@pytest.mark.parametrize("order", [("digits", "stripes"), ("stripes", "digits")])
def test_a_custom_dataset_beside_a_built_in_one_has_its_own_chance(kind, order, tmp_path):
    """Only tables of custom datasets have the column `classes`."""
    table = TABLES_OF[kind]({("resnet-14", "all"): 20})
    of = {"digits": table, "stripes": table.assign(dataset="mine:stripes", classes=4)}
    paths = [tmp_path / name / f"{kind}.parquet" for name in order]
    for name, path in zip(order, paths, strict=True):
        path.parent.mkdir()
        of[name].to_parquet(path)
    whole = read(paths)
    assert dict(zip(whole["dataset"], whole["classes"], strict=True)) == {"digits": 10, "mine:stripes": 4}
    if kind == "metrics":
        points = over_seeds(finals(whole)).set_index("dataset")
        assert points["at_chance"].to_dict() == {"digits": 0, "mine:stripes": 2}


@pytest.mark.parametrize("kind", ["metrics", "affine", "clamping", "activations"])
def test_runs_of_two_trainings_never_share_a_mean(kind):
    rates = [json.dumps({"epochs": 2, "learning_rate": rate}) for rate in (0.1, 0.3)]
    value = {"metrics": (50.0, 60.0), "affine": (10, 30), "clamping": (10.0, 30.0), "activations": (10, 30)}
    make_table = TABLES_OF[kind]
    one, other = (
        make_table({("resnet-14", "batchnorm"): value}).assign(training=rate)
        for value, rate in zip(value[kind], rates, strict=True)
    )
    for name, record in PAPER.made.items():
        if (*record.reads, *getattr(record, "if_drawn", ())) != (kind,):
            continue
        alone = numbers_of(record, one)
        assert "training" not in alone
        both = numbers_of(record, pd.concat([one, other], ignore_index=True))
        assert set(both["training"]) == set(rates), name
        assert (both["n"] == 2).all()
        same = [c for c in alone.columns if c not in ("left", "right", "share", "slope", "intercept")]
        first = both.loc[both["training"] == rates[0], same].reset_index(drop=True)
        if len(first) == len(alone):
            pd.testing.assert_frame_equal(first, alone[same], check_dtype=False)


def test_the_accuracy_table_names_what_two_trainings_differ_in():
    metrics = collected({("resnet-14", "all"): 50.0})
    other = collected({("resnet-14", "all"): 60.0}).assign(
        training=json.dumps({"epochs": 2, "batch_size": 32, "learning_rate": 0.3})
    )
    shown = accuracy.shown(accuracy.numbers(pd.concat([metrics, other])))
    assert shown["network"].tolist() == ["resnet-14 learning_rate 0.1", "resnet-14 learning_rate 0.3"]


def test_figure_2_places_resnet_14_in_both_panels():
    metrics = collected({(name, "batchnorm"): 50.0 for name in ("resnet-14", "resnet-32", "wrn-14-2")})
    numbers = REGIMES.numbers(metrics)
    panels = numbers.groupby("panel")["x"].apply(list).to_dict()
    assert panels == {"depth": [14, 32], "width": [1, 2]}
    assert numbers["y"].tolist() == [50.5] * 4


def test_regimes_of_a_single_network_are_bars_with_their_means_above():
    alike = {("resnet-14", "all"): 50.0, ("resnet-14", "batchnorm"): 50.0, ("resnet-14", "output"): None}
    (axes,) = REGIMES.draw(REGIMES.numbers(collected(alike))).axes
    bars = [container.patches[0] for container in axes.containers if isinstance(container, BarContainer)]
    assert [bar.get_height() for bar in bars[:2]] == [50.5, 50.5]
    edges = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(edges))
    assert [text.get_text() for text in axes.texts] == ["50.5", "50.5", "chance"]
    (lost,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert lost.get_xdata() == [2] and edges[2][0] < 2 < edges[2][1]
    assert axes.get_title() == "digits, resnet-14"


@pytest.mark.parametrize("figure", FIGURES)
def test_no_figure_of_a_single_network_draws_a_lone_mark(figure):
    record = FIGURES[figure]
    table = TABLES_OF[record.reads[0]]({("resnet-14", regime): 50.0 for regime in ("batchnorm", "random-2")})
    picture = PAPER.load(record.module).draw(numbers_of(record, table))
    marked = [line for axes in picture.axes for line in axes.lines if line.get_marker() not in ("None", "")]
    assert not [line for line in marked if len(line.get_xdata()) == 1]
    plt.close("all")


LONG = "cifar10-short_seeds-4_architectures-resnet-14_epochs-30"


@pytest.mark.parametrize("study", ["s", LONG, "x" * 200], ids=["short", "long", "one long word"])
@pytest.mark.parametrize("figure", ["figure-2", "figure-4", "figure-6", "figure-f"])
@pytest.mark.parametrize("networks", [["resnet-14"], ["resnet-14", "resnet-32", "wrn-14-2"]], ids=len)
def test_a_caption_is_below_all_else_and_as_wide_as_the_picture(figure, study, networks):
    record = FIGURES[figure]
    points = {(name, regime): 50.0 for name in networks for regime in ("all", "batchnorm", "random-2")}
    numbers = numbers_of(record, TABLES_OF[record.reads[0]](points))
    picture = PAPER.load(record.module).draw(numbers)
    picture.canvas.draw()
    box = picture.get_tightbbox().transformed(picture.dpi_scale_trans)
    style.caption_below(picture, f"{record.says} Study {study}, 160 epochs; n = 4 seeds.")
    written = picture.texts[-1]
    extent = written.get_window_extent()
    assert extent.y1 < box.y0
    assert box.x0 <= extent.x0 and extent.x1 <= box.x1
    assert study in written.get_text().replace("\n", "")
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}4" in written.get_text()
    plt.close("all")


EVERY = ["all", "batchnorm", "gamma", "beta", "random-4", "mine:stem"]
LEFT_OUT = {"figure-3": {*EVERY} - {"batchnorm"}, "figure-f": {*EVERY} - {"batchnorm", "random-4"}}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_draws_every_regime_or_says_what_it_leaves_out(figure):
    record = FIGURES[figure]
    table = TABLES_OF[record.reads[0]]({("resnet-14", regime): 50.0 for regime in EVERY})
    numbers = numbers_of(record, table)
    left = LEFT_OUT.get(figure, set())
    assert set(numbers["regime"]) == {*EVERY} - left
    said = drawing.left_out({"any": table}, numbers)
    assert said == (f" Not drawn: {', '.join(r for r in EVERY if r in left)}." if left else "")
    drawn = PAPER.load(record.module).draw(numbers).axes
    labels = {label for axes in drawn for label in axes.get_legend_handles_labels()[1]}
    titles = " ".join(axes.get_title() for axes in plt.gcf().axes)
    if figure not in LEFT_OUT:
        for shown in ("γ alone", "β alone", "4 random weights per channel", "stem"):
            assert shown in labels or shown in titles
    plt.close("all")


def test_a_regime_looks_alike_in_every_panel():
    points = {(n, r): 50.0 for n in ("resnet-32", "resnet-56") for r in ("mine:a", "mine:b", "random-4")}
    points |= {(n, r): 50.0 for n in ("wrn-14-2", "wrn-14-4") for r in ("random-4", "mine:b")}
    looks = []
    for axes in REGIMES.draw(REGIMES.numbers(collected(points))).axes:
        handles, labels = axes.get_legend_handles_labels()
        looks.append({label: h.lines[0].get_color() for label, h in zip(labels, handles, strict=True)})
    deep, wide = looks
    assert wide == {label: deep[label] for label in ("b", "4 random weights per channel")}
    assert len(set(deep.values())) == 3


def test_what_a_figure_leaves_out_stands_in_its_caption(tmp_path):
    table = tmp_path / "metrics.parquet"
    collected({("resnet-14", "batchnorm"): 50.0, ("resnet-14", "gamma"): 40.0}).to_parquet(table)
    draw("figure-3", "s", [table], tmp_path / "figure-3")
    assert " Not drawn: gamma. Study s" in (tmp_path / "figure-3.rst").read_text()


def test_figure_3_fits_points_per_doubling_of_batchnorm_parameters():
    counts = {"resnet-14": 1_120, "resnet-32": 2_464, "resnet-110": 8_288, "wrn-14-4": 4_480}
    slope = {"resnet": 4.0, "wrn": 3.0}
    points = {
        (name, "batchnorm"): 40 + slope[name.split("-")[0]] * math.log2(count / 1_120)
        for name, count in counts.items()
    }
    numbers = numbers_of(FIGURES["figure-3"], collected(points | {("resnet-14", "all"): 90.0}))
    assert numbers.groupby("panel")["slope"].first().to_dict() == pytest.approx({"depth": 4.0, "width": 3.0})
    assert set(numbers["x"]) == set(counts.values())
    fitted = "+4.0 points per doubling by depth (3 networks), +3.0 points per doubling by width (2 networks)"
    assert fitted in figure_3.caption(numbers)


@pytest.fixture
def coarse(monkeypatch):
    """Save all pictures as PNGs of few pixels, in half the time."""
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: save(self, file, format="png", dpi=40))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    "points",
    [
        {("resnet-14", r): 50.0 for r in ("all", "no-affine", "batchnorm")},
        {("resnet-14", "all"): None, ("resnet-14", "batchnorm"): None, ("wrn-14-2", "batchnorm"): 40.0},
    ],
    ids=["one network", "every run of a point diverged"],
)
def test_a_figure_of_little_is_drawn_and_says_what_it_lacks(figure, points, tmp_path, coarse):
    (kind,) = FIGURES[figure].reads
    TABLES_OF[kind](points, seeds=[0]).to_parquet(tmp_path / f"{kind}.parquet")
    draw(figure, "s", [tmp_path / f"{kind}.parquet"], tmp_path / figure)
    pixels = np.asarray(Image.open(tmp_path / f"{figure}.png").convert("L"))
    assert 0.01 < (pixels < 250).mean() < 0.9
    caption = (tmp_path / f"{figure}.rst").read_text()
    assert "Study s" in caption
    assert ("diverged" in caption) == (None in points.values())


def test_a_caption_says_where_pooling_stops_on_small_images(tmp_path, coarse):
    for network, said in (("vgg-11", True), ("resnet-14", False)):
        collected({(network, "batchnorm"): 50.0}).to_parquet(tmp_path / "metrics.parquet")
        draw("figure-c2", "s", [tmp_path / "metrics.parquet"], tmp_path / network)
        caption = (tmp_path / f"{network}.rst").read_text()
        assert ("On 8×8 images, VGG's pooling stops at 1×1." in caption) == said


DRAWS = """
from pathlib import Path
from onlybn.jobs import job
with job(Path("log")):
    from onlybn.drawing.draw import draw
    from onlybn.papers import paper
    draw(paper("only-batchnorm"), "figure-3", "s", [Path("metrics.parquet").absolute()], Path("elsewhere"))
"""


def test_a_figure_redrawn_is_the_same_bytes_whatever_the_user_has_set(tmp_path):
    table = tmp_path / "metrics.parquet"
    collected({("resnet-14", "batchnorm"): 50.0}).to_parquet(table)
    draw("figure-3", "s", [table], tmp_path / "plain")
    with mpl.rc_context({"text.usetex": True, "font.size": 30, "axes.formatter.use_locale": True}):
        draw("figure-3", "s", [table], tmp_path / "settings")
    (tmp_path / "rc").write_bytes(b"text.usetex: True # \xff")
    own = {"MPLBACKEND": "module://nope", "MATPLOTLIBRC": str(tmp_path / "rc"), "SOURCE_DATE_EPOCH": "1"}
    own |= {"PYTHONWARNINGS": "error", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", DRAWS], cwd=tmp_path, env=os.environ | own)
    assert done.returncode == 0, (tmp_path / "log").read_text()
    for ending in (".pdf", ".png", ".parquet", ".rst"):
        files = [tmp_path / f"{name}{ending}" for name in ("plain", "settings", "elsewhere")]
        assert len({file.read_bytes() for file in files}) == 1, ending


def test_a_picture_is_small_and_keeps_its_colours_and_its_resolution(tmp_path):
    steps = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.full((200, 300, 4), 255, np.uint8)
    pixels[:64, :64, 0], pixels[:64, :64, 1] = np.meshgrid(steps, steps)  # 4,096 colours
    pixels[100, :, :3] = (213, 94, 0)  # a thin line
    picture = Image.fromarray(pixels)
    picture.info["dpi"] = (220, 220)
    write_png(picture, tmp_path / "small.png")
    written = Image.open(tmp_path / "small.png")
    assert written.mode == "P"
    assert written.info["dpi"] == pytest.approx((220, 220), abs=0.1)
    off = np.abs(np.asarray(written.convert("RGB")).astype(int) - pixels[..., :3])
    assert off.max() <= 17
    assert (off[64:100] == 0).all()  # white stays white
    assert off[100].max() <= 4


SIZES = [(1213, 601), (1056, 656), (884, 734), (753, 720), (1056, 623), (1672, 700), (1056, 1172)]


@pytest.mark.parametrize("count", range(1, 15))
def test_a_sheet_is_filled_at_any_number_of_figures(count, tmp_path):
    pictures = []
    for place in range(count):
        pictures.append(tmp_path / f"{place}.png")
        Image.new("RGB", SIZES[place % len(SIZES)], (10 * place, 0, 0)).save(pictures[-1])
    sheet(pictures, tmp_path / "sheet.png")
    shown = np.array(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert shown.shape[1] <= 1_800
    filled = shown[..., 1] == 0
    assert [*np.unique(shown[..., 0][filled])] == [10 * place for place in range(count)]
    inside = filled[24:-24, 24:-24]
    between_rows = ~inside.any(axis=1)
    assert between_rows.sum() <= 24 * (count - 1)
    assert (~inside[~between_rows]).sum(axis=1).max() <= 24 * 3 + 4  # at most four pictures in a row
    heights = [(shown[..., 0][filled] == 10 * p).sum() / np.prod(SIZES[p % 7]) for p in range(count)]
    assert max(heights) / min(heights) < 2.6**2  # no picture much larger than another


def test_a_damaged_picture_of_a_sheet_is_one_sentence(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "whole.png")
    sheet([tmp_path / "whole.png"], tmp_path / "sheet.png")
    cut = tmp_path / "figure-2.png"
    cut.write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with pytest.raises(UserError, match=rf"{cut} is missing or damaged \(.*\); delete it to draw it again"):
        sheet([tmp_path / "whole.png", cut], tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_runs_that_experiments_share_are_counted_once(tmp_path):
    for name in ("a", "b"):
        metrics = collected({("resnet-14", "all"): 50.0})
        metrics.assign(experiment=name).to_parquet(tmp_path / name)
    assert over_seeds(finals(read([tmp_path / "a", tmp_path / "b"])))["n"].tolist() == [2]


@pytest.mark.parametrize("kind", ["affine", "activations"])
def test_tables_by_channel_are_read_as_categories_and_give_the_same_numbers(kind, tmp_path):
    points = {("resnet-14", "batchnorm"): 27, ("resnet-8", "all"): 4, ("resnet-8", "batchnorm"): None}
    plain = TABLES_OF[kind](points).drop(columns="experiment")
    # One run is in both, as experiments share runs; so are their words, in another order.
    parts = plain[plain["architecture"] == "resnet-14"], plain[plain["seed"] == 1][::-1]
    for name, part in zip(("a", "b"), parts, strict=True):
        (tmp_path / name).mkdir()
        part.assign(experiment=name).reset_index(drop=True).to_parquet(tmp_path / name / f"{kind}.parquet")
    alone = parts[1][parts[1]["architecture"] != "resnet-14"]
    whole = pd.concat([parts[0], alone], ignore_index=True)
    held = read(tmp_path / name / f"{kind}.parquet" for name in ("a", "b"))
    assert list(held.columns) == [n for n in whole if n not in SCHEMAS[kind].names or n in DRAWN[kind]]
    assert {str(held[name].dtype) for name in (*RUN, "position")} == {"category"}
    assert len(held) == len(whole)
    for module in dict.fromkeys(r.module for r in PAPER.made.values() if r.reads == (kind,)):
        module = PAPER.load(module)
        pd.testing.assert_frame_equal(module.numbers(held), module.numbers(whole))


def test_a_run_of_which_two_tables_hold_other_rows_is_refused(tmp_path):
    for name, zeros in (("a", 4), ("b", 5)):
        (tmp_path / name).mkdir()
        affine({("resnet-14", "all"): zeros}).to_parquet(tmp_path / name / "affine.parquet")
    one, other = (tmp_path / name / "affine.parquet" for name in ("a", "b"))
    with pytest.raises(
        UserError, match=f"{one} and {other} have different rows of the run s digits resnet-14"
    ):
        read([one, other])


def test_figure_4_counts_every_channel_once_and_averages_moments_over_runs():
    numbers = distribution.GAMMA.numbers(affine({("resnet-14", "batchnorm"): 27, ("resnet-14", "all"): 4}))
    assert numbers.groupby("regime")["share"].sum().to_dict() == pytest.approx({"all": 100, "batchnorm": 100})
    facts = numbers.drop_duplicates("regime").set_index("regime")
    values = np.array([0.0] * 27 + [(-1.0) ** (c % 4 == 0) for c in range(27, 100)])
    assert facts.loc["batchnorm", "mean"] == pytest.approx(values.mean())
    assert facts.loc["batchnorm", "deviation"] == pytest.approx(values.std(ddof=1))
    assert facts.loc["batchnorm", "negative"] == pytest.approx(100 * (values < 0).mean())
    around_0 = (numbers["left"] <= 0) & (numbers["right"] > 0) & (numbers["regime"] == "batchnorm")
    assert numbers.loc[around_0, "share"].item() == 27


@pytest.mark.parametrize("shift", [0.0, 0.37, -2.0])
def test_a_spike_of_gammas_of_both_signs_is_one_bin_wherever_the_others_lie(shift):
    table = affine({("resnet-14", "batchnorm"): 27})
    spike = table["gamma"] == 0
    table.loc[spike, "gamma"] = 1e-4 * (-1.0) ** table.loc[spike, "channel"]
    table.loc[~spike, "gamma"] = shift + np.linspace(-2, 2, (~spike).sum())
    numbers = distribution.GAMMA.numbers(table)
    assert numbers["share"].max() >= 27
    assert numbers["share"].sum() == pytest.approx(100)
    assert 80 <= len(numbers) <= 83


def test_figures_by_layer_average_each_layers_quantiles_over_seeds():
    table = affine({("resnet-14", "all"): 0, ("resnet-14", "batchnorm"): None})
    table["gamma"] = table["channel"] % 50 + 100.0 * table["layer"] + 10.0 * table["seed"]
    numbers = layers.GAMMA.numbers(table)
    trained = numbers[numbers["regime"] == "all"]
    assert trained["x"].tolist() == [1, 2]
    assert trained[["low", "median", "high"]].to_numpy().tolist() == pytest.approx(
        np.array([[9.9, 29.5, 49.1], [109.9, 129.5, 149.1]])
    )
    (lost,) = numbers[numbers["regime"] == "batchnorm"].to_dict("records")
    assert math.isnan(lost["median"])
    assert lost["diverged"] == 2


def test_figure_5_counts_gammas_strictly_below_a_hundredth():
    table = affine({("resnet-14", "batchnorm"): 27})
    table.loc[table["gamma"] == 1.0, "gamma"] = 0.01
    assert shares.NEAR_ZERO.numbers(table)["y"].tolist() == [27]


def test_figure_6_shows_the_drop_from_the_unclamped_network_paired_by_seed():
    points = {("resnet-14", "all"): 4, ("resnet-14", "batchnorm"): 27, ("resnet-14", "gamma"): None}
    table = clamped(points)
    for name in ("top_1", "top_1_unclamped"):  # seeds differ in accuracy, and hardly in the drop
        table[name] = table[name].astype(float) + 5 * table["seed"]
    table.loc[table["seed"] == 1, "top_1"] -= 0.2
    numbers = figure_6.numbers(table)
    drops = numbers[numbers["regime"] == "batchnorm"].set_index("threshold")
    assert drops["y"].to_dict() == pytest.approx({0.01: 1.1, 0.05: 5.1, 0.1: 10.1})
    assert drops["std"].tolist() == pytest.approx([np.std([0, 0.2], ddof=1)] * 3)
    assert numbers.loc[numbers["regime"] == "gamma", ["n", "diverged"]].to_numpy().tolist() == [[0, 2]] * 3
    caption = figure_6.caption(numbers)
    assert (
        "at ε = 0.01: 4 % of γ set to 0, drop 1.10 (all); 27 % of γ set to 0, drop 1.10 (batchnorm)."
        in caption
    )


def test_figure_7_counts_channels_off_strictly_more_than_99_percent():
    assert shares.OFF.numbers(activations({("resnet-14", "all"): 31}))["y"].tolist() == [31]


def test_appendix_e2_shows_means_with_and_without_the_runs_at_chance():
    name = "kaiming-normal_gamma-one"
    metrics = pd.concat(
        [
            collected({("resnet-14", "batchnorm", name): 10.0}, seeds=[0]),
            collected({("resnet-14", "batchnorm", name): 60.0}, seeds=[2]),
        ]
    )
    means = initialisation.BATCHNORM.numbers(metrics).set_index("runs")["y"].to_dict()
    assert means == {"all": 36, "trained": 62}
    (row,) = failed.numbers(metrics).to_dict("records")
    assert (row["runs"], row["failed"], row["top_1"], row["top_1_trained"]) == (2, 1, 36, 62)
    assert "gamma-one" in failed.shown(failed.numbers(metrics))["variant"].item()


def test_appendix_f_places_random_k_at_k_and_batchnorm_at_none():
    points = {("resnet-14", regime): 20.0 for regime in ("random-1", "random-16", "batchnorm", "all")}
    numbers = numbers_of(FIGURES["figure-f"], collected(points))
    assert numbers["regime"].tolist() == ["random-1", "random-16", "batchnorm"]
    assert numbers["x"].tolist()[:2] == [1, 16]
    assert math.isnan(numbers["x"].iloc[2])


def test_appendix_f_names_the_line_of_batchnorm_only_where_there_is_one():
    for top_1, label in ((30.0, {"BatchNorm alone"}), (None, set())):
        points = {("resnet-14", "random-1"): 20.0, ("resnet-14", "batchnorm"): top_1}
        numbers = numbers_of(FIGURES["figure-f"], collected(points))
        module = PAPER.load(FIGURES["figure-f"].module)
        figure = module.draw(numbers)
        assert {text.get_text() for text in figure.legends[0].get_texts()} == {
            "resnet-14, random weights"
        } | label
        assert module.caption(numbers).startswith("Dashed") == bool(label)
        plt.close(figure)


def test_chance_of_five_guesses_is_five_times_as_high():
    metrics = collected({("resnet-14", regime): 50.0 for regime in ("all", "batchnorm")})
    figure = REGIMES.draw(REGIMES.numbers(metrics.assign(dataset="cifar100")))
    levels = {axes.get_ylabel() or place: axes.lines for place, axes in enumerate(figure.axes)}
    chance = [
        [line.get_ydata()[0] for line in lines if line.get_linestyle() == ":"] for lines in levels.values()
    ]
    assert chance == [[1.0], [5.0]]
    plt.close(figure)


def test_counts_are_called_the_papers_for_its_datasets_alone():
    counts = pd.DataFrame({"dataset": ["cifar10", "cifar10-jpeg"]})
    assert table_1.caption(counts).endswith("Those of the paper's networks equal its counts.")
    assert "paper" not in table_1.caption(counts.assign(dataset="digits"))


def test_near_zero_gammas_are_split_by_the_sign_of_beta():
    (row,) = near_zero.numbers(affine({("resnet-14", "batchnorm"): 30})).to_dict("records")
    parts = [row[name] for name in ("beta_negative", "beta_zero", "beta_positive")]
    assert (row["near_zero"], parts) == (30, [10, 10, 10])
    assert row["near_zero_without_shortcuts"] == 30


def test_dead_relus_are_split_by_position_and_diverged_runs_counted():
    points = {("resnet-14", "batchnorm"): 31, ("resnet-14", "all"): None}
    rows = dead_relu.numbers(activations(points)).set_index("regime")
    assert rows.loc["batchnorm", ["every", "inside", "addition"]].tolist() == [31, 32, 30]
    assert rows.loc["all", ["n", "diverged"]].tolist() == [0, 2]


@pytest.mark.parametrize("table", [name for name, record in TABLES.items() if record.reads[0] in TABLES_OF])
def test_every_table_is_made_even_where_every_run_diverged(table, tmp_path):
    points = {("resnet-14", "all"): None, ("resnet-14", "batchnorm"): 40.0}
    files = [tmp_path / f"{kind}.parquet" for kind in (*TABLES[table].reads, *TABLES[table].if_drawn)]
    for file in files:
        TABLES_OF[file.stem](points).to_parquet(file)
    make(table, "s", files, tmp_path / table)
    assert (tmp_path / f"{table}.md").read_text()


def test_the_accuracy_table_shows_mean_deviation_n_and_what_diverged():
    metrics = pd.concat(
        [
            collected({("resnet-14", "all"): 50.0, ("resnet-14", "output"): None}),
            collected({("resnet-32", "all"): 60.0}, seeds=[0]),
        ]
    )
    rows = accuracy.shown(accuracy.numbers(metrics)).set_index("network")
    assert rows.loc["resnet-14"].to_dict() == {"all": "50.5 ± 0.7 (n = 2)", "output": "diverged (2)"}
    assert rows.loc["resnet-32", "all"] == "60.0 (n = 1)"


def test_table_1_shows_batchnorms_share():
    counts = build("resnet-110", channels=3, classes=10).parameter_counts()
    table = table_1.numbers(pd.DataFrame([{"architecture": "resnet-110", "dataset": "cifar10"} | counts]))
    assert table["batchnorm_percent"].round(2).tolist() == [0.48]
    assert table_1.shown(table)["all"].item() == 1_730_714


def test_tables_come_as_csv_markdown_parquet_and_a_page(tmp_path):
    collected({("resnet-14", "all"): 50.0}).to_parquet(tmp_path / "metrics.parquet")
    make("accuracy", "s", [tmp_path / "metrics.parquet"], tmp_path / "accuracy")
    assert pd.read_csv(tmp_path / "accuracy.csv")["top_1"].tolist() == [50.5]
    assert pd.read_parquet(tmp_path / "accuracy.parquet")["n"].tolist() == [2]
    assert (tmp_path / "accuracy.md").read_text().startswith("| network")
    page = (tmp_path / "accuracy.html").read_text()
    assert "<td class='number'>50.5 ± 0.7 (n = 2)</td>" in page
    assert "<td class='word'>69.5 % (± 2)</td>" in page
    assert "Study s; n = 2 seeds." in (tmp_path / "accuracy.rst").read_text()


def test_provenance_has_a_row_per_run_with_its_accuracy_but_where_it_diverged():
    points = {("resnet-14", "all"): 50.0, ("resnet-14", "output"): None}
    metrics = collected(points, seeds=[0])
    runs = metrics.drop_duplicates(RUN)[[*RUN, "training"]].assign(trainable_parameters=1)
    told = {"resumed": [0, 2], "commit": ["0123456789abcdef+", None], "seconds": 90.0, "device_name": "a CPU"}
    runs = whole("runs", runs.assign(**told))
    held = provenance.numbers(runs, metrics)
    assert held["top_1"].fillna(-1).tolist() == [50, -1]
    assert "2 runs: 1 finished, 1 diverged, 1 resumed from a checkpoint; 3.0 minutes" in provenance.caption(
        held
    )
    assert provenance.shown(held)["commit"].fillna("").tolist() == ["0123456789+", ""]


def test_drawing_and_collecting_import_no_torch():
    code = (
        "import sys; import onlybn.drawing.draw, onlybn.drawing.make, onlybn.runs.collect;"
        "from onlybn.papers import NAMES, paper;"
        "[paper(n).load(r.module) for n in NAMES for r in paper(n).made.values()];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("lengths", "phrase"),
    [
        ({"epochs": [16, 16]}, "16 epochs"),
        ({"epochs": [1, 1]}, "1 epoch"),
        ({"epochs": [16, 4]}, "4 to 16 epochs"),
        ({"epochs": [0, 0], "steps": [600, 3_000]}, "600 to 3,000 steps"),
        ({"epochs": [3, 0], "steps": [0, 100]}, "3 epochs or 100 steps"),
    ],
)
def test_a_caption_says_how_long_all_its_runs_were_trained(lengths, phrase):
    assert drawing.length(pd.DataFrame(lengths)) == phrase
