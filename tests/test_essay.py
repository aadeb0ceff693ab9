"""What docs/essay.md says of the essay is the committed ledger."""

import collections
import json
import re
from pathlib import Path

import pytest

from jaxreg.study.claims import markdown
from jaxreg.study.claims import verdicts as judging
from jaxreg.study.claims.claim import FRESH_SEEDS
from jaxreg.study.claims.design import load_folder

ROOT = Path(__file__).parents[1]
LEDGER = ROOT / "experiments" / "results" / "ledger"
AGAIN = ROOT / "experiments" / "results" / "followups"
SAID = (  # claim, question or effect, its sign, and the words of the page
    ("C1b", "novel words", 1, "7.26 on words never trained"),
    ("I1", "the gain is larger over-fitted", 1, "10 points more than elsewhere"),
    ("I1", "unseen pairs, dropout, under-fitted", 1, ".928, in one pass"),
    ("I1", "unseen pairs, dropout, one pass", -1, "1.02, and in the essay"),
    ("C1a", "one verb per noun", 1, "2.2: open"),
    ("C4", "CATSAT: noun or determiner cut", 1, "16.3 points more (C4)"),
    ("C4", "CATSAT, informative", 1, "8.7 are there with nothing cut"),
    ("C1", "accuracy, fronted", -1, "11.5 points ["),
    ("D4", "+ initialization", 1, "14.4 [+11.8"),
    ("D6", "accuracy, template", -1, "3.34 points behind, on new words"),
    ("D6", "accuracy, novel_word", -1, "4.93."),
    ("D7", "accuracy at the lowest rate, SGD", -1, "4.9\n  points and gains"),
    ("D7", "accuracy at the lowest rate, Adam", 1, '1.01: "the same"'),
    ("C6", "AGREE: strongest connection out", 1, "5.2 [+3.3, +7.1]"),
    ("D10", "unseen pairs, old, norm against old", -1, "4.75.)"),
    ("C1c", "verb -> noun dropped: noun cut", 1, "6 of them (C1c)"),
    ("C5", "what an ensemble adds with dropout", 1, "2.16 points instead"),
    ("C5", "what an ensemble adds without dropout", 1, "6.48 (C5)"),
    ("C7", "slower with four heads", 1, "31% (log) to find"),
    ("C7", "slower with one head", 1, "39% with one"),
    ("D6", "MODN: decay no worse than dropout", 1, "53.6), and AdamW"),
    ("D8", "sentences, unseen pairs", -1, "2.23 behind"),
    ("D1", "largest stable learning rate", 1, "3.45 octaves more"),
    ("D1b", "largest stable learning rate, 8 layers", 1, "5.7 more than post-norm"),
    ("D7", "fewer runs diverge", -1, "21 of 100 runs"),
    ("D1", "gap, train minus validation", 1, "3.88, against dropout without"),
    ("D3", "gap at a train loss of .1", 1, "5.06, at 2 layers"),
    ("D5", "gap, train minus validation", 1, "1.4, less than the margin"),
    ("D2", "drift of layer inputs", 1, "13.5%, log"),
    ("D5b", "attention against MLP dropout", 1, "11.3 points more there"),
    ("D10", "accuracy on unseen pairs", -1, "8.54 points worse"),
    ("D10", "unseen pairs, modern + dropout against modern", 1, "12.2 (D10)"),
    ("D9", "validation loss no higher than dropout's", 1, ".277 nats worse"),
    ("D9", "fewer steps", -1, "70%, log"),
    ("C3", "MODN: wrong labels", -1, "48.5\n  points beyond"),
    ("C3", "accuracy, train_clean, dropout", -1, "37)."),
)
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
    section = (ROOT / "docs" / "essay.md").read_text()
    asked = [question for claim in told["claims"] for question in claim.get("questions", [])]
    counts = collections.Counter(question["verdict"] for question in asked)
    assert (
        f"All {len(told['claims'])} claims have run" in section
        and f"{len(asked)} questions" in section
    )
    opposite, negligible = counts["refuted: opposite"], counts["refuted: negligible"]
    assert (
        f"{counts['supported']} were supported, {opposite} refuted as opposite, {negligible} as"
        f" negligible, {counts['inconclusive']} stay open." in section
    )
    assert (
        f"Of {told['aa']['pairs']} A/A pairs {told['aa']['supported_or_opposite']} came out,"
        " uncorrected." in section
    )
    assert all(
        check["passed"]
        for question in asked
        for check in (*question["preconditions"], *question["controls"])
    ), "all held"
    steps = sum(
        claim["cost"]["tuning"] + claim["cost"]["evaluation"]
        for claim in told["claims"]
        if "cost" in claim
    )
    assert f"{steps / 1e6:.2f} million model-steps" in section
    for name, effect, sign, text in SAID:
        found = shown(told, name, effect)
        assert text in section and found["scale"] * found["difference"] == pytest.approx(
            sign * float(re.search(r"\d*\.?\d+", text)[0]), rel=6e-3
        ), (name, effect)
    for name, effect, verdict in VERDICTS:
        assert shown(told, name, effect)["verdict"] == verdict, (name, effect)
    for name, effect in (
        ("C1", "unseen pairs"),
        ("C1", "unseen pairs, AGREE"),
        ("D6", "decay no worse than dropout"),
    ):
        assert markdown.effect(shown(told, name, effect)).removesuffix(" points") in section


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


def test_each_interval_in_the_words_on_what_was_asked_again_is_one_of_its_ledger():
    page = (ROOT / "docs" / "essay.md").read_text()
    words = page.partition("## Asked again")[2].partition("<!-- generated")[0]
    told = json.loads((AGAIN / "ledger.json").read_text())
    effects = {
        markdown.effect(entry).split("]")[0] + "]"
        for claim in told["claims"]
        for entry in (*claim["questions"], *claim["secondary"])
        if entry.get("difference") is not None
    }
    said = re.findall(r"[+-][\d.]+ \[[^\]]*\]", " ".join(words.split()))
    assert len(said) > 5 and set(said) <= effects


def shown(told, name, effect):
    """A question or a secondary effect of the ledger."""
    claim = next(claim for claim in told["claims"] if claim["id"] == name)
    return next(
        entry for entry in (*claim["questions"], *claim["secondary"]) if entry["name"] == effect
    )
