"""The report page in a real browser: it draws without errors, its controls work, and it fits the
screen.
"""

import copy
import dataclasses
import json

import pytest

from jaxreg.study.analysis.metric import LOSS
from jaxreg.study.report.page import render
from tests.helpers import chromium
from tests.helpers.synthetic_page import ARMS, VIEWS, make_counterfactual, make_payload

pytestmark = pytest.mark.skipif(
    chromium.why_missing() is not None, reason=f"needs a browser; {chromium.why_missing()}"
)

END, RIGHT, SPACE = "\ue010", "\ue014", "\ue00d"
SECTIONS = (
    "table",
    "forest",
    "curves",
    "pathways",
    "mass",
    "matrices",
    "flipped",
    "predictions",
    "controls",
    "scope",
    "time",
    "again",
)


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as running:
        yield running


@pytest.fixture
def shown(browser, tmp_path):
    """Opens a payload's page; at the end there must be nothing on the console."""
    browser.resize(1200)
    browser.color_scheme("light")

    def show(payload: dict) -> chromium.Browser:
        path = tmp_path / "report.html"
        path.write_text(render(payload), encoding="utf-8")
        browser.errors()
        browser.open(path)
        return browser

    yield show
    assert browser.errors() == []


def overflow(browser) -> int:
    """By how many pixels the page is wider than the screen."""
    return browser.run("return document.documentElement.scrollWidth - innerWidth")


def dropped(payload: dict, index: int, layer: int, head: int) -> int:
    return payload["matrices"]["steps"][index]["kept"][layer][head].count("0")


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def test_a_run_in_nats_shows_nats_and_lower_is_better(shown):
    payload = make_payload()
    found = payload["comparisons"]
    for row in found:
        row["difference"] = -row["difference"]
    payload |= {"metric": dataclasses.asdict(LOSS), "accuracy": payload["table"], "margin": 0.05}
    browser = shown(payload)
    row = next(row for row in found if row["split"] == payload["primary"])
    cell = payload["table"][row["arm"]][payload["primary"]]
    table, forest = browser.text("[data-mount=table]"), browser.text("[data-mount=forest]")
    assert f"{cell['mean']:.3f}" in table and f"accuracy {percent(cell['mean'])}" in table
    assert f"{abs(row['difference']):.3f}" in forest and "nats of loss" in forest
    assert "better · worse" in forest and "margin ±0.05" in forest and "points" not in forest
    kinds = {arm["name"]: arm["kind"] for arm in payload["arms"]}
    rows = [r for r in found if r["split"] == payload["primary"] and kinds[r["arm"]] == "arm"]
    titles = {arm["name"]: arm["title"] for arm in payload["arms"]}
    lowest = titles[min(rows, key=lambda r: r["difference"])["arm"]]
    assert f"is “{lowest}”: " in forest and "; lower is better." in forest
    assert "Loss while training" in browser.text("#curves")


def test_all_sections_stand_in_order(shown):
    browser = shown(make_payload())
    assert (
        tuple(
            browser.run(
                "return [...document.querySelectorAll('main > section')].filter((part) =>"
                " !part.hidden).map((part) => part.id)"
            )
        )
        == SECTIONS
    )
    assert browser.count("main > section:not([hidden]) [data-mount]:empty") == 0
    assert browser.text("h1") == make_payload()["question"]


def test_a_note_of_the_experiment_stands_with_the_scope(shown):
    note = "8 to 13 points <i>by one initialization</i>"
    assert note not in shown(make_payload()).text("#scope")
    assert note in shown(make_payload() | {"note": note}).text("#scope")


def _holds_zero(interval):
    low, high = interval
    return low <= 0 <= high


def test_table_shows_every_cell_and_verdicts_on_the_primary_view_only(shown):
    payload = make_payload()
    browser = shown(payload)
    assert browser.count(".results tbody tr") == len(ARMS)
    assert browser.count(".results tbody td") == len(ARMS) * len(VIEWS)
    assert (
        browser.count(".results td.primary .badge")
        == browser.count(".results td .badge")
        == len(ARMS) - 1
    )
    first = browser.text(".results tbody tr:nth-child(2) td.primary")
    assert percent(payload["table"]["attention_10"]["recombination"]["mean"]) in first
    assert "▲ supported" in first
    short = [row for row in payload["comparisons"] if row["seeds_needed"]]
    clear = [row for row in short if not row["verdict"] and not _holds_zero(row["ci95"])]
    lacking = {(row["arm"], row["split"]) for row in short if row not in clear}
    assert lacking
    assert browser.count(".results td.dull .needs") == len(lacking)
    assert browser.count(".results thead th.dull") == len(payload["uninformative"]) == 3
    assert "uninformative: all arms at the ceiling" in browser.text(".results thead th.dull")


def test_forest_has_a_dot_per_seed_and_no_verdict_on_other_views(shown):
    payload = make_payload()
    browser = shown(payload)
    assert browser.count("#forest circle.seed") == len(payload["seeds"]) * (len(ARMS) - 1)
    assert "supported" in browser.text("#forest svg")
    browser.run(
        "const s = document.querySelector('#forest select'); s.value = 'template';"
        " s.dispatchEvent(new Event('change'))"
    )
    assert "supported" not in browser.text("#forest svg")
    assert browser.count("#forest circle.seed") == len(payload["seeds"]) * (len(ARMS) - 1)


@pytest.mark.parametrize("place", ['.word[data-edge="1"]', '#before [data-edge="1"]'])
def test_clicking_an_edge_severs_it_and_moves_the_probability(shown, place):
    payload = make_payload()
    browser = shown(payload)
    assert browser.text("#probability") == percent(payload["edges"]["probability"])
    browser.click(place)
    assert browser.text("#probability") == percent(payload["edges"]["severed"][1])
    assert "SIT → cat severed in all heads and layers" in browser.text("#probability-text")
    assert (
        browser.count(".arc.severed")
        == browser.count(".word.severed")
        == browser.count("#before .severed")
        == 1
    )
    browser.click(place)
    assert browser.text("#probability") == percent(payload["edges"]["probability"])
    assert browser.count(".arc.severed") == 0


def test_an_arc_can_be_clicked(shown):
    payload = make_payload()
    browser = shown(payload)
    browser.run(
        "document.querySelector('.arc[data-arc=\"4\"] .reach').dispatchEvent(new"
        " MouseEvent('click', {bubbles: true}))"
    )
    assert browser.text("#probability") == percent(payload["edges"]["severed"][4])


def test_one_head_can_be_severed_with_the_keyboard(shown):
    payload = make_payload()
    browser = shown(payload)
    browser.press('input[name="edge-scope"][value="all"]', RIGHT)
    browser.press('input[name="head"][value="0-0"]', RIGHT)
    browser.press('.word[data-edge="0"]', SPACE)
    assert browser.text("#probability") == percent(payload["edges"]["severed_by_head"][0][1][0])
    assert "in layer 1, head 2" in browser.text("#probability-text")
    assert browser.run("return document.activeElement.dataset.edge") == "0", (
        "the focus stays where it was"
    )


def test_slider_shows_the_mask_of_each_step(shown):
    payload = make_payload()
    browser = shown(payload)
    last = len(payload["matrices"]["steps"]) - 1
    seen = []
    for index, keys in ((0, ""), (1, RIGHT), (2, RIGHT), (last, END)):
        browser.press("#step", keys)
        assert browser.count("#after td.dropped") == dropped(payload, index, 0, 0)
        assert browser.text("#dropped-count") == str(dropped(payload, index, 0, 0))
        assert browser.text("#step-number") == f"step {payload['matrices']['steps'][index]['step']}"
        seen.append(browser.count("#after td.dropped"))
    assert len(set(seen)) > 1
    browser.click('label:has(input[value="1-2"])')
    assert browser.count("#after td.dropped") == dropped(payload, last, 1, 2)
    size = len(payload["matrices"]["words"])
    cells = browser.run(
        "return [...document.querySelectorAll('#after tbody tr')].map((row) =>"
        " [...row.querySelectorAll('td:not(.total)')].map((cell) => cell.matches('.dropped') ? '0'"
        " : '1'))"
    )
    assert (
        "".join(bit for row in cells for bit in row)
        == payload["matrices"]["steps"][last]["kept"][1][2]
    )
    assert len(cells) == size


def test_dropped_and_tiny_cells_differ(shown):
    payload = make_payload()
    payload["matrices"]["weights"][0][0][0] = [0.004, 0.4, 0.004, 0.3, 0.292, 0.0]
    payload["matrices"]["steps"][0]["kept"][0][0] = "011011" + "1" * 30
    browser = shown(payload)
    row = browser.run(
        "return [...document.querySelector('#after tbody"
        " tr').querySelectorAll('td:not(.total)')].map((cell) => [cell.className, cell.textContent,"
        " !!cell.querySelector('s')])"
    )
    assert row[0] == ["dropped", "0.00 dropped", True]
    assert row[1][1:] == ["0.57", False]  # .4 * 65536 / 45875
    assert row[3] == ["dropped", "0.30 dropped", True]
    assert row[5] == ["kept tiny", "0.00", False]
    styles = browser.run(
        "return ['.dropped', '.tiny'].map((name) => getComputedStyle(document.querySelector('#after"
        " ' + name)).backgroundImage)"
    )
    assert "gradient" in styles[0]
    assert styles[1] == "none"


def test_curves_switch_to_loss_and_read_out_a_step(shown):
    payload = make_payload()
    browser = shown(payload)
    assert browser.count("#curves .panel") == len(ARMS)
    browser.press("#curves .panel-picture", RIGHT + RIGHT)
    assert "step 40" in browser.text("#curves .readout")
    assert f"{100 * payload['curves']['none']['train']['mean'][1]:.0f}%" in browser.text(
        "#curves .readout"
    )
    browser.click('#curves label:has(input[value="loss"])')
    assert f"{payload['curves']['none']['loss/train']['mean'][-1]:.2f}" in browser.text(
        "#curves .readout"
    )


def test_flipped_sentences_go_both_ways(shown):
    payload = make_payload()
    browser = shown(payload)
    browser.run(
        "const s = document.querySelector('#flipped select'); s.value = 'decay';"
        " s.dispatchEvent(new Event('change'))"
    )
    repaired = sum(entry["arm_says"] == entry["answer"] for entry in payload["flipped"]["decay"])
    assert f" {repaired}" in browser.text(".flip.repaired h3")
    assert f" {len(payload['flipped']['decay']) - repaired}" in browser.text(".flip.broken h3")
    browser.click(".flip.repaired .more")
    assert browser.count(".flip.repaired li") == repaired


def test_predictions_are_in_points(shown):
    browser = shown(make_payload())
    assert "+8.0 → +1" in browser.text("#predictions svg.chart")


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("size", ["small", "large"])
def test_never_scrolls_sideways(shown, width, size):
    large = {
        "num_seeds": 40,
        "words": "on the mats the journeys SIT quickly near the small dogs outside",
    }
    browser = shown(make_payload(**large) if size == "large" else make_payload())
    browser.resize(width)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert overflow(browser) <= 0
    assert browser.run("return document.querySelector('#forest svg.chart').clientWidth") <= width


def test_dark_scheme_and_paper_change_the_colors(shown):
    browser = shown(make_payload())
    background = "return getComputedStyle(document.body).backgroundColor"
    assert browser.run(background) == "rgb(255, 255, 255)"
    browser.color_scheme("dark")
    assert browser.run(background) == "rgb(20, 23, 27)"
    browser.color_scheme("dark", media="print")
    assert browser.run(background) == "rgb(255, 255, 255)"


def blank(value):
    """The payload with every number unknown."""
    if isinstance(value, dict):
        return {
            key: (
                item
                if key in ("margin", "alpha", "query", "seed", "seeds", "step", "example")
                else blank(item)
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [blank(item) for item in value]
    return None if isinstance(value, float) else value


def test_every_number_may_be_missing(shown):
    browser = shown(blank(make_payload()))
    assert browser.text(".results td .value") == "–"
    assert "NaN" not in browser.run("return document.querySelector('main').innerText")
    browser.click('.word[data-edge="1"]')
    assert browser.text("#probability") == "–"


@pytest.mark.short_cases("curves", "timing", "comparisons")
@pytest.mark.parametrize(
    "absent",
    [
        "curves",
        "pathways",
        "attention_mass",
        "matrices",
        "edges",
        "flipped",
        "predictions",
        "controls",
        "uninformative",
        "timing",
        "environment",
        "comparisons",
        "headline",
        "details",
    ],
)
def test_what_was_not_recorded_is_left_out(shown, absent):
    payload = copy.deepcopy(make_payload())
    payload[absent] = None
    browser = shown(payload)
    assert browser.text("h1")
    assert browser.count(".note:not(noscript .note)") == 0
    assert browser.run("return document.querySelector('#table').hidden") is False


def test_speed_and_waiting_stand_below_the_time(shown):
    said = "120 model-steps/s, 8 ms a step; 61,440 tokens/s; waiting for data 0.4%"
    assert said in shown(make_payload() | {"machine": said}).text("#machine")


def test_what_a_command_changed_and_what_ran_earlier_is_said(shown):
    plain = shown(make_payload())
    assert plain.count(".time .sum") == 1 and "They were not made for" not in plain.text("main")
    payload = make_payload() | {"changed": ["train.num_steps=40"], "earlier": 60.0}
    browser = shown(payload)
    assert browser.count(".time .sum") == 2
    assert "with the earlier parts of this run" in browser.text("main")
    assert "They were not made for this run, which changes train.num_steps=40." in browser.text(
        "main"
    )
    assert "recombination" in browser.text(".results th.primary")


def test_one_seed_one_arm(shown):
    payload = make_payload(num_seeds=1, num_steps=1)
    payload["arms"] = payload["arms"][:1]
    payload["comparisons"] = []
    browser = shown(json.loads(json.dumps(payload, allow_nan=True)))
    assert browser.count(".results tbody tr") == 1


def test_sentence_stays_text(shown):
    payload = make_payload()
    evil = "</script><img src=x onerror=\"document.title='owned'\">"
    payload["question"] = payload["headline"][0] = payload["flipped"]["attention_30_decay"][0][
        "text"
    ] = evil
    payload["details"] = [evil]
    payload["matrices"]["words"][0] = "<b>the</b>"
    browser = shown(payload)
    assert browser.text("h1") == evil
    assert browser.text("#opening .lines") == evil
    assert browser.count("img") == 0
    assert browser.text("#before tbody th") == "<b>the</b>"
    assert browser.run("return document.title") == payload["title"]


def with_counterfactual() -> dict:
    return {**make_payload(), "counterfactual": make_counterfactual()}


def points(value: float) -> str:
    text = f"{abs(100 * value):.3f}"
    return text if float(text) == 0 else ("−" if value < 0 else "+") + text


def test_every_kept_connection_has_its_cell_and_its_row(shown):
    payload = with_counterfactual()
    found = payload["counterfactual"]
    browser = shown(payload)
    assert (
        browser.run(
            "return [...document.querySelectorAll('main > section')].filter((part) =>"
            " !part.hidden).map((part) => part.id)"
        ).count("counterfactual")
        == 1
    )
    assert browser.count("#counterfactual td.effect") == len(found["connections"])
    assert browser.count("#counterfactual td.dropped") == 1, "the one that was left out"
    assert "1 more connection of this row" in browser.text("#counterfactual .note")
    cells = browser.run(
        "return [...document.querySelectorAll('#counterfactual tbody tr')].map((row) =>"
        " [...row.querySelectorAll('td')].map((cell) => [cell.className, cell.textContent,"
        " cell.dataset.tip]))"
    )
    for row in found["connections"]:
        classes, text, tip = cells[row["layer"] * 4 + row["head"]][row["key"]]
        change = row["change"]["probability"]
        assert text == points(change)
        assert classes == f"effect {'raised' if change > 0 else 'lowered'}"
        assert points(change) in tip and f"SIT → {row['word']}" in tip
    assert [cell[0] for cells_of_head in cells[:8] for cell in cells_of_head].count(
        "untouched"
    ) == 48 - len(found["connections"]) - 1
    assert browser.count("#counterfactual .numbers tbody tr") == len(found["connections"]) + 1
    strongest = max(found["connections"], key=lambda row: abs(row["change"]["probability"]))
    assert points(strongest["change"]["probability"]) in browser.text("#counterfactual .shows")


def test_the_section_is_hidden_without_a_counterfactual(shown):
    browser = shown({**make_payload(), "counterfactual": None})
    assert browser.run("return document.querySelector('#counterfactual').hidden") is True


@pytest.mark.parametrize("width", [400, 1200])
def test_the_kept_connections_never_scroll_the_page_sideways(shown, width):
    browser = shown(with_counterfactual())
    browser.resize(width)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert overflow(browser) <= 0


def test_diverged_members_are_dashes(shown):
    payload = with_counterfactual()
    for row in payload["counterfactual"]["connections"]:
        row.update(
            dict.fromkeys(("probability", "accuracy", "loss", "distance")),
            change=dict.fromkeys(("probability", "accuracy", "loss")),
        )
    browser = shown(payload)
    assert browser.text("#counterfactual .shows") == "No member came to an answer."
    assert (
        "NaN" not in browser.text("#counterfactual")
        and browser.text("#counterfactual td.effect") == "–"
    )


def test_a_planted_script_stays_text_in_the_counterfactual(shown):
    payload = with_counterfactual()
    evil = "</script><img src=x onerror=\"document.title='owned'\">"
    found = payload["counterfactual"]
    found["text"] = found["answer"] = found["words"][1] = found["arm_title"] = found[
        "what"
    ] = found["view_title"] = evil
    for row in found["connections"]:
        row["word"] = evil
    browser = shown(payload)
    assert (
        browser.count("#counterfactual img") == 0
        and browser.run("return document.title") == payload["title"]
    )
    assert (
        browser.text("#counterfactual em") == evil
        and browser.text("#counterfactual thead th:nth-child(3)") == evil
    )
