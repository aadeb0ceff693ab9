"""The report page as text: one file, no fetches, nothing in the data can become markup."""

import copy
import html.parser
import json
import math
import re

import numpy as np
import pytest

from jaxreg.study.claims import page as ledger_page
from jaxreg.study.report import grid_page, judged_page, page
from tests.helpers.synthetic_page import make_payload

SVG_NAMESPACE = "http://www.w3.org/2000/svg"


class _Collector(html.parser.HTMLParser):
    """The tags, their attributes, and the text inside scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self._in_script = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data


def parsed(text: str) -> _Collector:
    collector = _Collector()
    collector.feed(text)
    collector.close()
    return collector


def embedded(text: str) -> dict:
    return json.loads(
        parsed(text).scripts[0], parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )


def test_fetches_nothing():
    text = page.render(make_payload())
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", text))
    assert addresses <= {SVG_NAMESPACE}
    assert not re.search(r"@import|url\(|\bimport\(|\bfetch\(|XMLHttpRequest|WebSocket", text)
    for tag, attributes in parsed(text).tags:
        assert tag not in ("img", "iframe", "object", "embed"), tag
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:,"))


def test_policy_of_the_page_forbids_the_network():
    policies = [
        attributes["content"]
        for tag, attributes in parsed(page.render(make_payload())).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]


def test_same_payload_gives_same_bytes():
    assert page.render(make_payload()) == page.render(copy.deepcopy(make_payload()))


def test_every_slot_is_filled_and_every_asset_is_used():
    text = page.render(make_payload())
    assert "<!--slot:" not in text
    own, shared = page.WEB / "report", page.WEB / "shared"
    assert {path.name for path in own.iterdir()} == {*page.SCRIPTS, "report.html"}
    assert {path.name for path in shared.iterdir()} == {*page.SHARED_SCRIPTS, "page.css"}
    ledger = {path.name for path in (page.WEB / "ledger").iterdir()}
    assert ledger == {*ledger_page.SCRIPTS, "ledger.css", "ledger.html"}
    verdict = {path.name for path in (page.WEB / "verdict").iterdir()}
    assert verdict == {*judged_page.SCRIPTS, "verdict.css", "verdict.html"}
    grid = {path.name for path in (page.WEB / "grid").iterdir()}
    assert grid == {*grid_page.SCRIPTS, "grid.html"}
    folders = {path.name for path in page.WEB.iterdir()}
    assert folders == {"report", "shared", "ledger", "verdict", "grid"}


def test_missing_numbers_become_null():
    payload = make_payload()
    payload["table"]["none"]["train"]["mean"] = math.nan
    payload["edges"]["probability"] = np.float32("inf")
    payload["table"]["none"]["train"]["per_seed"] = np.array([0.5, np.nan])
    shown = embedded(page.render(payload))
    assert shown["table"]["none"]["train"] == {
        **shown["table"]["none"]["train"],
        "mean": None,
        "per_seed": [0.5, None],
    }
    assert shown["edges"]["probability"] is None


def test_numbers_survive_the_trip():
    payload = make_payload()
    payload["comparisons"][0]["p"] = 1.9073486328125e-06
    shown = embedded(page.render(payload))
    assert shown["comparisons"][0]["p"] == pytest.approx(1.9073486e-06, rel=1e-5)
    assert shown["matrices"]["steps"] == payload["matrices"]["steps"]
    assert list(shown["timing"]) == list(payload["timing"])


@pytest.mark.parametrize(
    "sentence",
    [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "<!--slot:css-->",
        "a\u2028b",
        "\\</SCRIPT >",
    ],
)
def test_sentence_cannot_become_markup(sentence):
    payload = make_payload()
    payload["title"] = payload["question"] = sentence
    payload["flipped"]["decay"][0]["text"] = sentence
    text = page.render(payload)
    assert len(parsed(text).scripts) == 2
    assert embedded(text)["flipped"]["decay"][0]["text"] == sentence
    assert embedded(text)["question"] == sentence


def test_without_javascript_the_question_and_the_answer_stand_there_alone():
    payload = make_payload() | {"question": "Which <b>?", "headline": ["All & none.", "Two."]}
    without = "".join(re.findall(r"<noscript>.*?</noscript>", page.render(payload), re.DOTALL))
    assert "<h1>Which &lt;b&gt;?</h1>" in without
    assert "<li>All &amp; none.</li><li>Two.</li>" in without
    assert "header, main, footer { display: none; }" in without, "captions of nothing are hidden"
    assert page.render(payload | {"headline": None})


def test_what_json_has_no_form_for_is_an_error():
    with pytest.raises(TypeError, match="complex"):
        page.render({**make_payload(), "scope": 1j})
