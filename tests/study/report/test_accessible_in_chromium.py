"""Every page in a real browser: names, headings, contrast, the keyboard, a phone's width; and what
its buttons save opens elsewhere.
"""

import csv
import io
import json
import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jaxreg.store.atomic import to_json
from jaxreg.study.claims import grid_law
from jaxreg.study.claims import page as ledger_page
from jaxreg.study.report import (
    grid_law_picture,
    grid_page,
    grid_picture,
    judged_content,
    judged_page,
    page,
)
from tests.helpers import accessible, chromium, made_up_grid
from tests.helpers.judged import make_outcome, make_question, make_runs
from tests.helpers.synthetic_page import make_counterfactual, make_payload
from tests.study.claims.test_ledger_page import told_of

pytestmark = pytest.mark.skipif(
    chromium.why_missing() is not None, reason=f"needs a browser; {chromium.why_missing()}"
)
RESULTS = Path(__file__).parents[3] / "experiments" / "results"
SVG = "{http://www.w3.org/2000/svg}"


def report() -> str:
    return page.render({**make_payload(), "counterfactual": make_counterfactual()})


def committed_report() -> str:
    return (RESULTS / "cat_sat" / "report.html").read_text()


def ledger() -> str:
    with tempfile.TemporaryDirectory() as folder:
        told = told_of(Path(folder))
    return ledger_page.render(told, "jaxreg claims --workdir=runs/ledger")


def verdict() -> str:
    question, runs = make_question(), make_runs()
    outcome = make_outcome(runs, question)
    return judged_page.render(judged_content.content(outcome, question, runs.understood))


def grid() -> str:
    found = json.loads(to_json(made_up_grid.contents()))
    pictures = grid_picture.svg(found), grid_law_picture.svg(found)
    return grid_page.render(found, *pictures, "jaxreg grid", grid_law.lines(found))


PAGES = {made.__name__: made for made in (report, committed_report, ledger, verdict, grid)}


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as running:
        yield running


@pytest.fixture(scope="module")
def texts():
    return {}


@pytest.fixture(params=PAGES)
def shown(request, browser, texts, tmp_path):
    """The browser with a page, all its parts open."""
    if request.param not in texts:
        texts[request.param] = PAGES[request.param]()
    path = tmp_path / f"{request.param}.html"
    path.write_text(texts[request.param], encoding="utf-8")
    browser.resize(1280)
    browser.color_scheme("light")
    browser.errors()
    browser.open(path)
    accessible.open_all(browser)
    yield browser
    assert browser.errors() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_read_it(shown, width, scheme):
    shown.resize(width)
    shown.color_scheme(scheme)
    assert accessible.faults(shown) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(shown, scheme):
    shown.color_scheme(scheme)
    assert accessible.axe(shown) == []


def test_axe_finds_a_fault(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(verdict(), encoding="utf-8")
    browser.open(path)
    browser.run("document.documentElement.removeAttribute('lang')")
    assert any(each.startswith("html-has-lang") for each in accessible.axe(browser))


@pytest.mark.parametrize(
    "change, fault",
    [
        ("document.querySelector('button').replaceChildren(); document.querySelector('button')."
         "removeAttribute('aria-label')", "has no name"),
        ("document.querySelector('h2').outerHTML = '<h4>deep</h4>'", "after a heading of level 1"),
        ("document.querySelector('h2').style.color = '#999'", "has a contrast of"),
        ("document.querySelector('h2').style.width = '3000px'", "wider than the screen"),
    ],
)  # fmt: skip
def test_a_fault_is_found(browser, tmp_path, change, fault):
    path = tmp_path / "page.html"
    path.write_text(verdict(), encoding="utf-8")
    browser.color_scheme("light")
    browser.open(path)
    browser.run(change)
    assert any(fault in each for each in accessible.faults(browser))


def test_it_opens_with_the_answer_and_a_picture(shown):
    opening = "header [data-mount=headline] li, header [data-mount=counts] li"
    assert shown.count(opening) > 0
    assert shown.count("header svg[role=img][aria-label], #map img[alt]") > 0


def test_what_is_saved_opens_elsewhere(shown):
    files = accessible.saved(shown)
    tables = {name: text for name, text in files.items() if name.endswith(".csv")}
    pictures = {name: text for name, text in files.items() if name.endswith(".svg")}
    assert tables and len(tables) + len(pictures) == len(files)
    for name, text in tables.items():
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])}, name
        assert "−" not in text and "undefined" not in text and "NaN" not in text, name
    for name, text in pictures.items():
        drawing = ElementTree.fromstring(text)
        assert drawing.tag == f"{SVG}svg" and len(list(drawing.iter())) > 4, name
        assert not re.search(r"class=|style=|var\(|tabindex", text), name
    if shown.count("#map img"):
        [href] = shown.run(
            "return [...document.querySelectorAll('#map a.save')].map((a) => a.href)"
        )
        assert href == shown.run("return document.querySelector('#map img').src")
    else:
        assert pictures


def test_the_numbers_in_a_file_are_those_of_the_results(browser, tmp_path):
    payload = make_payload() | {"title": "a name longer than any file's should be, by far"}
    path = tmp_path / "report.html"
    path.write_text(page.render(payload), encoding="utf-8")
    browser.open(path)
    files = accessible.saved(browser)
    [text] = [text for name, text in files.items() if "every-arm-on-every-view" in name]
    rows = list(csv.reader(io.StringIO(text)))
    head, first = rows[0], rows[1]
    assert head[:3] == ["arm", "view", "accuracy (%)"]
    assert len(rows) == 1 + len(payload["arms"]) * len(payload["views"])
    mean = payload["table"][first[0]][first[1]]["mean"]
    assert float(first[2]) == pytest.approx(100 * mean, rel=1e-5)


def test_saved_matrices_show_every_weight_and_what_the_step_dropped(browser, tmp_path):
    payload = make_payload()
    path = tmp_path / "report.html"
    path.write_text(page.render(payload), encoding="utf-8")
    browser.open(path)
    files = accessible.saved(browser)
    [text] = [text for name, text in files.items() if name.endswith("attention-weights.svg")]
    texts = list(ElementTree.fromstring(text).iter(f"{SVG}text"))
    words = payload["matrices"]["words"]
    shown = {node.text for node in texts}
    assert shown >= set(words) and len(texts) == 2 * (1 + 2 * len(words) + len(words) ** 2)
    struck = [node for node in texts if node.get("text-decoration") == "line-through"]
    assert len(struck) == payload["matrices"]["steps"][0]["kept"][0][0].count("0") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_saved_figure_keeps_the_colors_that_were_seen(browser, tmp_path, scheme):
    path = tmp_path / "report.html"
    path.write_text(page.render(make_payload()), encoding="utf-8")
    browser.color_scheme(scheme)
    browser.open(path)
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    files = accessible.saved(browser)
    [text] = [text for name, text in files.items() if name.endswith("-effects.svg")]
    drawing = ElementTree.fromstring(text)
    assert drawing.find(f"{SVG}rect").get("fill") == paper
    assert any(node.get("font-size") == "14.5px" for node in drawing.iter(f"{SVG}text"))
    browser.color_scheme("light")
