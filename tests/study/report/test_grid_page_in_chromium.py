"""A grid's page in a real browser: pictures, law, a row for each cell and arm; nothing runs."""

import json

import pytest

from jaxreg.store.atomic import to_json
from jaxreg.study.claims import grid_law
from jaxreg.study.report import grid_law_picture, grid_page, grid_picture
from tests.helpers import chromium
from tests.helpers.made_up_grid import cell, cells, contents

pytestmark = pytest.mark.skipif(
    chromium.why_missing() is not None, reason=f"needs a browser; {chromium.why_missing()}"
)
EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as running:
        yield running


@pytest.fixture
def shown(browser, tmp_path):
    """Opens a grid's page; at the end there must be nothing on the console."""

    def show(found: dict, width: int = 1200) -> chromium.Browser:
        found = json.loads(to_json(found))
        pictures = grid_picture.svg(found), grid_law_picture.svg(found)
        text = grid_page.render(found, *pictures, "jaxreg grid", grid_law.lines(found))
        (tmp_path / "grid.html").write_text(text, encoding="utf-8")
        browser.resize(width)
        browser.errors()
        browser.open(tmp_path / "grid.html")
        return browser

    yield show
    assert browser.errors() == []


def test_a_complete_grid_has_its_map_its_law_and_every_cell(shown):
    browser = shown(contents())
    assert browser.count("#map img") == 1 and browser.count("#law img") == 1
    assert "20 of 20 cells" in browser.text("header")
    law = browser.text("#law")
    assert "Stated before the run: it rises with the room" in law
    assert "law, dropout: holds on 10 cells" in law and "slope 1.0" in law
    assert browser.count("#cells tbody tr") == 20
    rows = browser.text("#cells tbody")
    assert "3 (baseline 3)" in rows and "fit" in rows and "test" in rows
    assert browser.count("#law table tbody tr") == 2  # the intercept and the feature


def test_cells_without_numbers_are_named_with_the_reason(shown):
    rows = [
        *cells(1.0)[:2],
        cell(0.3, 0.1, False, "kept back"),
        cell(0.4, 0.1, True, "not run yet"),
    ]
    rows[1] = cell(0.2, 0.1, False, "kept back")
    browser = shown(contents(cells=rows))
    words = browser.text("#cells")
    assert "2 cells kept back until all cells are done, to test the law: width 2" in words
    assert "1 cell not run yet: width 4" in words
    assert browser.count("#cells tbody tr") == 1 and browser.count("#law img") == 0


def test_the_law_of_another_grid_is_shown_with_its_name(shown, tmp_path):
    test = {"grid": "first", "statement": "it rises", "arms": {}}
    browser = shown(contents(law=None, law_found=None, other_law=test, cells=cells(1.0, (None,))))
    assert "Fitted on another grid, first: it rises" in browser.text("#law")
    assert "fit" not in browser.text("#cells tbody tr td:nth-child(7)")


def test_words_of_an_experiment_stay_words_and_the_page_fits_a_phone(shown):
    browser = shown(contents(question=EVIL, quick=True), width=400)
    assert browser.text("h1") == EVIL and browser.count("img[src=x]") == 0
    assert "A quick run" in browser.text("header")
    run = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert browser.run(run) is True
