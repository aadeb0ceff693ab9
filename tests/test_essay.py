"""What docs/essay.md says of the essay is the committed ledger; intervals on other pages, too."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxreg.study.analysis import statistics
from jaxreg.study.claims import markdown
from jaxreg.study.claims import verdicts as judging
from jaxreg.study.claims.claim import FRESH_SEEDS
from jaxreg.study.claims.design import load_folder

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
LEDGER, AGAIN = RESULTS / "ledger", RESULTS / "followups"
VERDICTS = (  # what the page says in words alone
    ("C1c", "determiner -> noun dropped: position", "refuted: negligible"),
    ("C3", "CUES: canaries", "refuted: negligible"),
    ("C6", "CATSAT: strongest head out", "refuted: negligible"),
    ("D3", "dropout helps less", "refuted: opposite"),
    ("D6", "AdamW no worse than L2", "supported"),
    ("D4", "top without dropout, bottom with it", "supported"),
    ("D8", "images", "supported"),
    ("D10", "train against evaluation mode", "supported"),
    ("D3", "gradient of the first layer against the last, 6 layers", "supported"),
    ("D9", "prose: validation loss no higher than dropout's", "inconclusive"),
    ("D11", "prose: loss no higher than everywhere's", "refuted: opposite"),
    ("D10", "AGREE: accuracy on unseen pairs", "inconclusive"),
    ("C1a", "one verb per noun", "inconclusive"),
)


def test_what_is_said_of_the_essay_is_the_committed_ledger():
    told = json.loads((LEDGER / "ledger.json").read_text())
    assert (LEDGER / "ledger.md").read_text() == markdown.markdown(told)
    asked = [question for claim in told["claims"] for question in claim.get("questions", [])]
    assert all(
        check["passed"]
        for question in asked
        for check in (*question["preconditions"], *question["controls"])
    ), "all held"
    for name, effect, verdict in VERDICTS:
        assert shown(told, name, effect)["verdict"] == verdict, (name, effect)


def test_what_was_asked_again_is_its_ledger_and_was_declared():
    told = json.loads((AGAIN / "ledger.json").read_text())
    assert (AGAIN / "ledger.md").read_text() == markdown.markdown(told)
    designs = load_folder(ROOT / "experiments" / "followups")
    assert [claim["id"] for claim in told["claims"]] == list(designs)
    assert told["questions_in_family"] == len(judging.family(designs)) and not told["quick"]
    for claim in told["claims"]:
        assert "changed_after_training" not in claim and set(claim["seeds"]) == set(FRESH_SEEDS)
        asked = designs[claim["id"]].claim.questions
        for question, found in zip(asked, claim["questions"], strict=True):
            assert found["name"] == question.name
            for field in ("margin", "predict", "kind", "direction"):
                assert found[field] == getattr(question, field), (claim["id"], question.name)


def test_each_interval_in_the_words_is_one_of_a_ledger():
    page = (ROOT / "docs" / "essay.md").read_text()
    words = re.sub(r"<!-- generated: (\w+) -->.*?<!-- end of \1 -->", "", page, flags=re.S)
    told = [json.loads((folder / "ledger.json").read_text()) for folder in (LEDGER, AGAIN)]
    effects = {
        markdown.effect(entry).split("]")[0] + "]"
        for ledger in told
        for claim in ledger["claims"]
        for entry in (*claim.get("questions", ()), *claim.get("secondary", ()))
        if entry.get("difference") is not None
    }
    said = re.findall(r"[+-][\d.]+ \[[^\]]*\]", " ".join(words.split()))
    assert len(said) > 5 and set(said) <= effects


def test_no_effect_begins_a_line():
    """Markdown takes a line that begins with a comment for HTML, and shows its links as text."""
    page = (ROOT / "docs" / "essay.md").read_text()
    assert "<!-- = " in page and not re.search(r"^ *<!-- = ", page, re.M)


def shown(told, name, effect):
    """A question or a secondary effect of the ledger."""
    claim = next(claim for claim in told["claims"] if claim["id"] == name)
    return next(
        entry for entry in (*claim["questions"], *claim["secondary"]) if entry["name"] == effect
    )


PAGES = ("results", "short-data", "phase-diagram", "statistics", "controls")
NO_LONGER_KEPT = {(2.0, 7.4, 1)}
"""Of a run whose numbers are not in the repository: a control by the rule of its time."""


def committed_intervals() -> set[tuple[float, float, int]]:
    """(low, high, decimals) of every interval in committed results, in points and as it is."""
    found = {name: json.loads(name.read_text()) for name in RESULTS.glob("*/*.json")}
    ends = [pair for each in found.values() for pair in intervals_in(each)]
    for path in (RESULTS / "independent").glob("*.csv"):
        table = list(csv.DictReader(path.open(encoding="utf-8")))
        for arm in {row["arm"] for row in table} - {"none"}:
            for view in set(table[0]) - {"arm", "seed"}:
                own, none = (
                    np.array([float(row[view]) for row in table if row["arm"] == name])
                    for name in (arm, "none")
                )
                interval = statistics.t_interval(own - none)
                ends.append((interval.low, interval.high))
    return {
        (round(low, decimals) + 0.0, round(high, decimals) + 0.0, decimals)
        for pair in ends
        for scale in (1, 100, -1, -100)
        for low, high in [sorted(scale * end for end in pair)]
        for decimals in (1, 2)
    }


def intervals_in(tree) -> Iterator[tuple[float, float]]:
    """Every pair under "ci95" in a tree of JSON."""
    if isinstance(tree, list):
        tree = dict(enumerate(tree))
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == "ci95" and value is not None and None not in value:
                yield tuple(value)
            yield from intervals_in(value)


def test_each_interval_in_the_words_of_the_results_is_committed():
    committed, seen = committed_intervals() | NO_LONGER_KEPT, 0
    for name in PAGES:
        page = (ROOT / "docs" / f"{name}.md").read_text()
        words = re.sub(r"<!-- generated: (\w+) -->.*?<!-- end of \1 -->", "", page, flags=re.S)
        for low, high in re.findall(r"\[([+-]?\d*\.\d+),\s+([+-]?\d*\.\d+)\]", words):
            told = (float(low), float(high), len(low.partition(".")[2]))
            assert told in committed, (name, low, high)
            seen += 1
    assert seen > 10
