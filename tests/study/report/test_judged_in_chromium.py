"""verdict.html in a real browser: all sections, a dot per run, no sideways scrolling, text stays
text.
"""

import csv
import dataclasses
import itertools
import time

import numpy as np
import pytest

from jaxreg.cli.main import main
from jaxreg.study.analysis import verdict
from jaxreg.study.analysis.runs import Runs
from jaxreg.study.report import judged_content, judged_page
from jaxreg.study.report.judged_numbers import decimals, interval, number, p_value, signed
from tests.helpers import chromium
from tests.helpers.judged import make_outcome, make_question, make_runs

pytestmark = pytest.mark.skipif(
    chromium.why_missing() is not None, reason=f"needs a browser; {chromium.why_missing()}"
)

TEXT = '</script><script>window.owned=1</script><img src=x onerror="window.owned=2">'
SECTIONS = ["verdicts", "forest", "runs", "method", "input", "words", "sources"]


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as running:
        yield running


@pytest.fixture
def shown(browser, tmp_path):
    """Opens a page of the judge; at the end there must be nothing on the console."""

    def show(runs: Runs, **asked) -> chromium.Browser:
        question = make_question(**asked)
        content = judged_content.content(
            make_outcome(runs, question), question, runs.understood, warnings=["first"]
        )
        path = tmp_path / "verdict.html"
        path.write_text(judged_page.render(content), encoding="utf-8")
        browser.errors()
        browser.open(path)
        return browser

    yield show
    assert browser.errors() == []


def sections(browser) -> list[str]:
    return browser.run(
        "return [...document.querySelectorAll('main > section')].filter((part) =>"
        " !part.hidden).map((part) => part.id)"
    )


def test_all_sections_a_dot_per_run_and_a_verdict_per_arm(shown):
    browser = shown(make_runs())
    assert sections(browser) == SECTIONS
    assert browser.count("#forest circle.seed") == 4 * 8
    assert browser.count("#runs circle.seed") == 5 * 8
    assert browser.count("#verdicts tbody tr") == 5 and browser.count("#verdicts .badge") == 4
    assert browser.text("#verdicts .badge.supported").endswith("supported, by the margin")
    assert browser.text("#opening .warnings li").endswith("first")
    assert "95% at every number of seeds" in browser.text("#forest .numbers thead")
    assert browser.count("#forest rect.band") == 1
    order = browser.run(
        "return document.querySelector('.warnings').compareDocumentPosition("
        "document.querySelector('.headline')) & Node.DOCUMENT_POSITION_FOLLOWING"
    )
    assert order, "warnings stand above what came out"


@pytest.mark.parametrize("size", [1.0, 10.0, 0.002])
def test_the_ticks_of_an_axis_differ(shown, size):
    runs = make_runs(num_seeds=20)
    table = {arm: dict(row) for arm, row in runs.scores.items()}
    for view, values in table["adamw"].items():  # the dots reach further than the interval
        table["muon"][view] = values + size * np.linspace(-1.5, 4.5, 20)
    browser = shown(dataclasses.replace(runs, scores=table), margin=size, higher_is_better=True)
    find = (
        "return [...document.querySelectorAll('svg.chart')].map((chart) =>"
        " [...chart.querySelectorAll('text.tick')].map((tick) => tick.textContent))"
    )
    deadline = time.monotonic() + 10
    while len(charts := browser.run(find)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # each is drawn when its place is measured
    assert len(charts) == 3
    for labels in charts:
        values = [float(label.replace("−", "-")) for label in labels]
        steps = {round(b - a, 9) for a, b in itertools.pairwise(values)}
        assert len(values) > 2 and len(steps) == 1 and min(steps) > 0, labels


def test_the_page_writes_numbers_as_the_texts_do(shown):
    runs = make_runs()
    browser = shown(runs)
    cells = browser.run(
        "return [...document.querySelectorAll('#verdicts tbody tr')].slice(1).map((row) =>"
        " [...row.children].map((cell) => [cell.firstChild.textContent,"
        " cell.querySelector('.range')?.textContent ?? '']))"
    )
    results = make_outcome(runs, make_question()).results
    rows = [row for row in results["comparisons"] if row["split"] == "test"]
    assert len(cells) == len(rows) == 4
    for (arm, label, difference, p, mean, count), row in zip(cells, rows, strict=True):
        digits = decimals(row["ci95"])
        cell = results["arms"][row["arm"]]["test"]
        assert arm[0] == row["arm"] and label[0].endswith(
            verdict.words(row["verdict"], row["by_margin"])
        )
        assert difference == [signed(row["difference"], digits), interval(row["ci95"], digits)]
        assert p == [p_value(row["p_holm"]), f"alone {p_value(row['p'])}"]
        assert mean[0] == number(cell["mean"], decimals(cell["ci95"])) and count[0] == "8"


def test_another_view_has_effects_and_no_verdicts(shown):
    browser = shown(make_runs())
    browser.run(
        "const s = document.querySelector('#forest select'); s.value = 'val_loss';"
        " s.dispatchEvent(new Event('change'))"
    )
    assert "supported" not in browser.text("#forest svg")
    assert browser.count("#forest .mark") == 4


def test_without_a_margin(shown):
    browser = shown(make_runs(views=("test",)), margin=None)
    assert sections(browser) == SECTIONS
    assert browser.count(".badge") == browser.count("#forest rect.band") == 0
    assert browser.count("#forest select") == 0


@pytest.mark.short_cases("40-400")
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("num_seeds", [2, 40])
def test_never_scrolls_sideways_in_light_and_dark(shown, width, num_seeds):
    browser = shown(make_runs(num_seeds=num_seeds))
    browser.resize(width)
    for scheme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")):
        browser.color_scheme(scheme)
        color = browser.run("return getComputedStyle(document.body).backgroundColor")
        wider = browser.run("return document.documentElement.scrollWidth - innerWidth")
        assert (color, wider <= 0) == (paper, True)
        cut = browser.run(
            "return [...document.querySelectorAll('svg.chart text')].filter((text) => {"
            " const box = text.getBoundingClientRect(); return box.left < 0 || box.right >"
            " innerWidth; }).map((text) => text.textContent)"
        )
        assert cut == []
    browser.color_scheme("light")
    assert "NaN" not in browser.run("return document.querySelector('main').innerText")


def test_names_that_are_scripts_stay_text(shown):
    runs = make_runs(views=("test", TEXT))
    renamed = {arm.replace("muon", TEXT): arm for arm in runs.arms}
    runs = dataclasses.replace(
        runs,
        seeds={
            new: tuple(f"{TEXT}{seed}" for seed in runs.seeds[old]) for new, old in renamed.items()
        },
        scores={new: runs.scores[old] for new, old in renamed.items()},
        understood=(TEXT,),
    )
    browser = shown(runs, primary=TEXT)
    browser.run(
        "document.querySelectorAll('[data-tip]').forEach((part) => part.dispatchEvent(new"
        " PointerEvent('pointerover', {bubbles: true})))"
    )
    assert browser.run("return window.owned === undefined")
    assert browser.count("script") == 2 and browser.count("img, iframe, object, embed") == 0
    assert browser.text("#verdicts tbody tr:nth-child(2) th") == TEXT
    assert browser.text("#input li") == TEXT and TEXT in browser.text("#tooltip")
    assert TEXT in browser.text("#words .prose")


def test_a_file_of_scripts_through_the_command(browser, tmp_path, monkeypatch):
    """Arms, seeds, view and the file's own name are scripts; the page of the real command."""
    monkeypatch.chdir(tmp_path)
    runs = make_runs(views=("test",))
    name = "<svg onload=window.owned=3>.csv"
    with open(name, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["arm", "seed", "<img src=x onerror=window.owned=4>"])
        for arm, seeds in runs.seeds.items():
            for seed, value in zip(seeds, runs.scores[arm]["test"], strict=True):
                table.writerow([arm.replace("muon", TEXT), f"{TEXT}{seed}", value])
    words = ["--baseline=adamw", "--lower_is_better", "--margin=.01", "--report=verdict.html"]
    assert main(["judge", name, *words]) == 0
    browser.errors()
    browser.open(tmp_path / "verdict.html")
    assert browser.errors() == [] and browser.run("return window.owned === undefined")
    assert browser.count("script") == 2
    assert browser.count("img, iframe, object, embed, [onload], [onerror]") == 0
    assert TEXT in browser.text("#verdicts tbody") and name in browser.text("#input")


def test_runs_with_an_assumed_score_are_hollow(shown):
    runs = make_runs()
    for view in runs.views:
        runs.scores["muon"][view][3] = np.nan
    browser = shown(runs, diverged="worst")
    assert browser.count("#runs circle.seed.assumed") == 1
    assert browser.count("#forest circle.seed.assumed") == 1
    tip = "return document.querySelector('#runs circle.assumed').dataset.tip"
    assert browser.run(tip).startswith("seed 3: ")
    assert browser.run(tip).endswith("(assumed, since this run has no score)")
    assert "8 runs, 1 assumed" in browser.text("#runs")
    assert "A hollow dot has an assumed score" in browser.text("#runs")
    assert "A hollow dot has an assumed score" in browser.text("#forest")
    browser = shown(make_runs())
    assert browser.count("circle.assumed") == 0 and "hollow" not in browser.text("main")
