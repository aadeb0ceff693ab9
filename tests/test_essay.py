"""What docs/essay.md says of the essay is the committed ledger."""

import json
import re
from pathlib import Path

from jaxreg.study.claims import markdown
from jaxreg.study.claims import verdicts as judging
from jaxreg.study.claims.claim import FRESH_SEEDS
from jaxreg.study.claims.design import load_folder

ROOT = Path(__file__).parents[1]
LEDGER = ROOT / "experiments" / "results" / "ledger"
AGAIN = ROOT / "experiments" / "results" / "followups"
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
