"""The page as text: everything in it, nothing executable, the same every time."""

import json
import re

import pytest

from jaxreg.study.analysis import error_shares
from jaxreg.study.claims import markdown, page
from jaxreg.study.claims import verdicts as judging
from jaxreg.study.claims.budget import Cost
from jaxreg.study.claims.design import load_claim
from tests.helpers import made_up_claims as made_up
from tests.study.claims.test_verdicts import MORE, ROWS, planted

EVIL = "</script><img src=x onerror=\"document.title='owned'\">"


CAUTION = "tuned to the highest optim.learning_rate on offer"


def told_of(tmp_path, *, quote: str = "a dog sat", quick: bool = False) -> dict:
    """A ledger of all forms of claims: supported, not testable, not run, exact, by documents,
    beyond any measurement.
    """
    bodies = {
        "C1": MORE,
        "C2": MORE.replace('"C1"', '"C2"'),
        "C3": MORE.replace('"C1"', '"C3"'),
        "M1": 'id="M1", tests=("tests/x.py::test_y",)',
        "F1": (
            'id="F1", findings=(Finding("minimal", "supported", "papers"), Finding("specific",'
            ' "refuted", "papers"))'
        ),
        "N1": 'id="N1", untestable="no way"',
    }
    designs = {
        name: load_claim(made_up.write_claim(tmp_path, body + f", quote={quote!r}", name))
        for name, body in bodies.items()
    }
    gathered = {
        "C1": made_up.Pool(designs["C1"], planted(6 / ROWS)).evidence(designs["C1"]),
        "C2": made_up.Pool(designs["C2"], planted(6 / ROWS, train=0.5)).evidence(designs["C2"]),
    }
    costs = {"C1": Cost("C1", 4, 80, 0, 4000, 0, 0)}
    judged = judging.judge(designs, gathered, quick=quick)
    return page.ledger_of(
        designs, gathered, judged, {}, costs, cautions={"C1": [CAUTION], "C2": []}, quick=quick
    )


def test_the_ledger_has_every_claim_in_every_form(tmp_path):
    told = told_of(tmp_path)
    assert [page.outcome(claim) for claim in told["claims"]] == [
        ["supported"],
        ["not testable"],
        ["not run yet"],
        ["exact"],
        ["supported", "refuted"],
        ["not testable"],
    ]
    assert page.counts(told) == {
        "supported": 2,
        "not testable": 2,
        "not run yet": 1,
        "exact": 1,
        "refuted": 1,
    }
    assert told["questions_in_family"] == 3 and told["aa"]["pairs"] == 1
    first = told["claims"][0]
    assert (
        "catsat" in first["scope"]
        and "20 seeds from 200" in first["scope"]
        and "data.verbs_per_noun 2" in first["scope"]
    )
    assert json.loads(json.dumps(told)) == told, "it is JSON already"


def test_the_summary_has_a_line_for_every_part(tmp_path):
    lines = page.summary(told_of(tmp_path))
    assert lines[0].startswith("C1 gain: supported, by the margin, +25 [+22")
    assert lines[1].startswith("C2 gain: not testable") and "precondition failed: fits" in lines[1]
    assert (
        lines[2] == "C3 gain: not run yet"
        and lines[3] == "M1: exact"
        and lines[4] == "F1: supported, refuted"
    )
    assert (
        lines[-1]
        == "A/A: 0 of 1 distinct pairs came out supported or opposite at alpha 0.05, uncorrected"
    )


def test_the_table_has_a_row_for_every_part_and_the_budget(tmp_path):
    text = markdown.markdown(told_of(tmp_path))
    verdicts, *_, budget = text.split("\n\n")
    rows = [line.split(" | ") for line in verdicts.splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "| C1",
        "| C2",
        "| C3",
        "| M1",
        "| F1",
        "| F1",
        "| N1",
    ] and len({len(row) for row in rows}) == 1
    assert (
        rows[0][2:4] == ["gain", markdown.effect(told_of(tmp_path)["claims"][0]["questions"][0])]
        and rows[0][6] == "supported, by the margin |"
    )
    assert (
        rows[1][6].startswith("not testable (precondition failed: fits")
        and rows[2][6] == "not run yet |"
        and rows[3][6] == "exact |"
    )
    assert rows[0][4] == error_shares.words_of_entry(told_of(tmp_path)["claims"][0]["questions"][0])
    assert rows[0][4].startswith("-") and "%" in rows[0][4], "fewer errors"
    assert budget.splitlines()[-1].startswith("| all |")
    assert "\\|" in markdown.markdown(told_of(tmp_path, quote="a | b")), "a bar does not end a cell"


def test_what_is_to_be_read_with_care_stands_in_file_and_table(tmp_path):
    told = told_of(tmp_path)
    with_care = [claim["id"] for claim in told["claims"] if "cautions" in claim]
    assert with_care == ["C1"]
    text = markdown.markdown(told)
    assert f"## To be read with care\n\n- **C1**: {CAUTION}\n" in text
    told["claims"][0].pop("cautions")
    assert "read with care" not in markdown.markdown(told)


def test_a_quick_run_says_so_and_has_no_verdicts(tmp_path):
    told = told_of(tmp_path, quick=True)
    assert told["quick"] is True and told["claims"][0]["questions"][0]["verdict"] is None
    assert "supported" not in " ".join(page.summary(told)[:3])


def test_text_cannot_become_markup(tmp_path):
    text = page.render(told_of(tmp_path, quote=EVIL), f"jaxreg claims {EVIL}")
    assert EVIL not in text and "<img" not in text
    assert len(re.findall(r"</script>", text)) == 2, "the payload's and the page's own"
    payload = json.loads(re.search(r'id="payload">(.*?)</script>', text, re.S)[1])
    assert payload["claims"][0]["quote"] == EVIL and payload["command"].endswith(EVIL)


def test_the_page_is_alone_and_always_the_same(tmp_path):
    told = told_of(tmp_path)
    text = page.render(told, "jaxreg claims")
    assert text == page.render(told, "jaxreg claims")
    assert (
        not re.search(r'(src|href)="(?!#|data:)', text)
        and "@import" not in text
        and "<!--slot" not in text
    )
    assert "default-src 'none'" in text


def test_what_json_cannot_say_is_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot show a object"):
        page.render(told_of(tmp_path) | {"more": object()}, "jaxreg")
