"""The report of a study, as a reader opens it: in a browser, without a network."""

import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
from checkout import ROOT, STUDY
from conftest import BUILTIN, CONFIG

from onlybn.configuration import open_study
from onlybn.drawing import report
from onlybn.workflow.paths import Workflow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SHOWN = {
    "1 Claims and accuracy": ["Claims of the paper, judged", "Final accuracy by network and regime"],
    "2 Main text": [
        "Figure 1: accuracy with and without γ and β",
        "Figure 2: accuracy by trained parameters",
        "Figure 3: accuracy by number of BatchNorm parameters",
        "Figure 5: share of γ near 0",
        "Figure 6: drop in accuracy with small γ set to 0",
        "Figure 7: ReLU channels that are off",
        "ReLU channels that are off, by position",
        "Table 1: parameter counts",
    ],
    "3 Runs": ["Provenance of the runs"],
}


def test_no_character_of_a_caption_or_claim_means_anything_to_the_report():
    from docutils.core import publish_string
    from jinja2 import Environment

    text = "|γ| < 0.01, *x*, `y`, a_b_, {{ 1 + 1 }}, {% if %}, \\n, ± 0.5 % [1]_"
    claims = pd.DataFrame({"statement": [text], "measured": [""]})
    described = Environment().from_string(report.description(text, claims)).render()
    shown = publish_string(described, writer="pseudoxml", settings_overrides={"report_level": 1}).decode()
    assert shown.count(text) == 2
    assert "<system_message" not in shown


def test_the_front_page_names_the_paper_and_what_the_studys_runs_differ_in(tmp_path):
    from docutils.core import publish_string
    from jinja2 import Environment

    one = "one: {architectures: [resnet-8], regimes: [all, batchnorm]"
    study = STUDY.replace(one, one + ", recipes: [none, slow]")
    (tmp_path / "mine.yaml").write_text(study + "recipes: {slow: {learning_rate: 0.01}}\n")
    config = {"study": str(tmp_path / "mine.yaml"), "results_dir": str(tmp_path)}
    workflow = SimpleNamespace(globals={"STUDY": Workflow(open_study(CONFIG | config, BUILTIN))})
    picture = SimpleNamespace(path="figure-1.png")
    shown = {"category": SimpleNamespace(name="1 Main text"), "labels": {"shows": "Figure 1: accuracy"}}
    files = [SimpleNamespace(workflow=workflow, mime="image/png", file=picture, **shown)]
    template = (ROOT / "workflow" / "report" / "workflow.rst").read_text()
    environment = Environment(trim_blocks=True, lstrip_blocks=True)  # Snakemake's
    page = environment.from_string(template).render(files=files)
    text = publish_string(page, writer="pseudoxml", settings_overrides={"report_level": 1}).decode()
    assert "<system_message" not in text
    lines = list(map(str.strip, text.splitlines()))
    assert (
        lines[0]
        == '<document ids="only-batchnorm" names="only\\ batchnorm" source="<string>" title="Only BatchNorm">'
    )
    for name, told in (
        ("Networks", "resnet-8, resnet-14, wrn-14-2"),
        ("What trains", "all, no-affine, batchnorm"),
        ("Recipes", "none, slow"),
        ("Seeds", "0, 1"),
    ):
        assert lines[lines.index(name) + 1 :][:3] == ["<field_body>", "<paragraph>", told]
    assert "Normalisations" not in lines
    assert "Figure 1: accuracy" in lines


@pytest.fixture(scope="module")
def page(request):
    """The report of the tiny study, open in a browser; its `faults` hold each error and each request."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    playwright = pytest.importorskip("playwright.sync_api")
    if browser is None:
        pytest.skip("there is no Chromium here")
    reproduced = request.getfixturevalue("reproduced")  # which takes long where nobody looks
    reproduced.ok("all")
    said = reproduced.ok("all", "--report", "report.html")
    assert "WARNING" not in said
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(10_000)
        page.faults, page.checkout = [], reproduced
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
        page.on("requestfailed", lambda request: page.faults.append(f"failed: {request.url[:99]}"))
        page.on("request", lambda r: None if r.url.startswith("data:") else page.faults.append(r.url[:99]))
        address = (reproduced.folder / "report.html").as_uri()
        page.goto(address)
        page.get_by_text("Only BatchNorm", exact=True).wait_for()
        assert page.faults == [address]  # the report itself, and nothing else
        page.faults.clear()
        yield page
        chromium.close()


def menu(page, category: str):
    """Open a category in the menu; return its rows, one for each result."""
    page.locator("nav ol a").first.click()  # home
    page.locator("nav").get_by_text(category, exact=True).click()
    return page.locator("nav tbody tr")


def test_the_menu_lists_every_figure_and_table_of_the_study_in_the_papers_order(page):
    categories = page.locator("nav ul a").all_inner_texts()
    assert categories[3:] == list(SHOWN)  # after what Snakemake says of itself
    for category, titles in SHOWN.items():
        assert menu(page, category).locator("td:first-child").all_inner_texts() == titles
    assert page.faults == []


def test_the_front_page_says_what_the_study_is_and_opens_each_result_beside_its_description(page):
    for title in (title for titles in SHOWN.values() for title in titles):
        page.locator("nav ol a").first.click()
        front = page.locator(".prose").first
        assert "resnet-8, resnet-14, wrn-14-2" in front.inner_text()
        front.get_by_role("link", name=title, exact=True).click()
        page.locator("nav").get_by_text(title, exact=True).wait_for()
        description = page.locator("nav .prose").inner_text()
        assert "Study tiny" in description
        if title.startswith("Figure"):
            picture = page.locator("#app > div > div img")
            picture.wait_for()
            assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
            place = picture.bounding_box()
            assert place["x"] >= 0 and place["x"] + place["width"] <= 1280
            assert place["y"] >= 0 and place["y"] + place["height"] <= 800
        else:
            table = page.frame_locator("iframe").locator("table").first
            table.wait_for()
            assert page.frame_locator("iframe").locator("h1").inner_text() == title
    assert page.faults == []


def test_a_description_holds_what_the_paper_published_beside_what_was_measured(page):
    menu(page, "2 Main text").filter(has_text="Figure 2").locator("a").nth(1).click()
    rows = page.locator("nav .prose tbody tr").all_inner_texts()
    (row,) = [row.split("\t") for row in rows if row.startswith("ResNet-110, BatchNorm\t")]
    assert [cell.strip() for cell in row[1:]] == ["69.5 % (± 2)", "", "not run"]


def test_a_table_is_read_in_the_report_and_saved_from_it(page):
    menu(page, "3 Runs").first.locator("a").first.click()
    table = page.frame_locator("iframe").locator("tbody tr")
    table.first.wait_for()
    runs = list(page.checkout.folder.glob("results/tiny/runs/*/*/*/seed-[01]/run.json"))
    assert table.count() == len(runs) == 10
    with page.expect_download() as saved:
        page.frame_locator("iframe").get_by_role("link").click()
    held = pd.read_csv(saved.value.path())
    assert held["status"].eq("finished").all() and held["top_1"].between(5, 100).all()
    assert held["seconds"].gt(0).all() and held["versions"].str.contains("torch 2").all()
