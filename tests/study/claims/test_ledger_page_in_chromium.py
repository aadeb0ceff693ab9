"""The ledger's page in a real browser: rows open to their evidence, nothing is executed, it fits
the screen.
"""

import pytest

from jaxreg.study.claims.page import render
from tests.helpers import chromium
from tests.study.claims.test_ledger_page import EVIL, told_of

pytestmark = pytest.mark.skipif(
    chromium.why_missing() is not None, reason=f"needs a browser; {chromium.why_missing()}"
)


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as running:
        yield running


@pytest.fixture
def shown(browser, tmp_path):
    """Opens a ledger's page; at the end there must be nothing on the console."""
    browser.resize(1200)
    browser.color_scheme("light")

    def show(told: dict) -> chromium.Browser:
        path = tmp_path / "ledger.html"
        path.write_text(render(told, "jaxreg claims --workdir=runs/ledger"), encoding="utf-8")
        browser.errors()
        browser.open(path)
        return browser

    yield show
    assert browser.errors() == []


def open_all(browser):
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    browser.run(
        "document.querySelectorAll('.claim').forEach((part) => part.dispatchEvent(new"
        " Event('toggle')))"
    )


def test_every_claim_is_a_row_with_its_verdict(shown, tmp_path):
    told = told_of(tmp_path)
    browser = shown(told)
    assert browser.count(".claim") == len(told["claims"]) == 6
    assert browser.text("#claim-C1 summary").count("supported") == 1 and "+25.0" in browser.text(
        "#claim-C1 summary"
    )
    assert browser.count("#claim-C1 summary svg.mini .mark.supported") == 1
    for name, words in (
        ("C2", "not testable"),
        ("C3", "not run yet"),
        ("M1", "exact"),
        ("F1", "refuted"),
        ("N1", "not testable"),
    ):
        assert words in browser.text(f"#claim-{name} summary")
    assert browser.count("#opening .counts li") == 5


def test_a_row_opens_to_its_evidence(shown, tmp_path):
    told = told_of(tmp_path)
    browser = shown(told)
    assert browser.count("#claim-C1 .inside > *") == 0, "drawn when it is opened"
    browser.click("#claim-C1 summary")
    browser.run("return new Promise((done) => setTimeout(done, 200))")
    assert browser.count("#claim-C1 .inside svg.chart circle.seed") == 20 + 20, (
        "the question, and the one effect beside it"
    )
    assert browser.count("#claim-C1 .inside .mark.predicted") == 1
    question = told["claims"][0]["questions"][0]
    assert browser.count("#claim-C1 .checks li") == len(question["controls"]) + len(
        question["preconditions"]
    )
    assert browser.count("#claim-C1 .checks .failed") == 0
    inside = browser.text("#claim-C1 .inside")
    for word in (
        "Hypothesis",
        "Refuted if",
        "Predicted",
        "Scope",
        "data.verbs_per_noun = 2",
        "80 members",
    ):
        assert word in inside


def test_what_failed_stands_out(shown, tmp_path):
    browser = shown(told_of(tmp_path))
    browser.click("#claim-C2 summary")
    browser.run("return new Promise((done) => setTimeout(done, 200))")
    assert browser.count("#claim-C2 .checks .failed") == 1
    assert "failed: fits" in browser.text("#claim-C2 .checks").replace("✗ ", "")


def test_text_stays_text(shown, tmp_path):
    browser = shown(told_of(tmp_path, quote=EVIL))
    open_all(browser)
    assert (
        browser.count("img") == 0 and browser.run("return document.title") == "The essay on trial"
    )
    assert EVIL in browser.text("#claim-C1 .quote")


def test_a_quick_run_says_so(shown, tmp_path):
    told = told_of(tmp_path, quick=True)
    browser = shown(told)
    assert "no verdicts" in browser.text("#opening .note")
    assert browser.count("#claim-C1 .badge.supported") == 0


@pytest.mark.short_cases("light-400")
@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_never_scrolls_sideways(shown, tmp_path, width, scheme):
    browser = shown(told_of(tmp_path))
    browser.resize(width)
    browser.color_scheme(scheme)
    open_all(browser)
    assert browser.run("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)"
    )
