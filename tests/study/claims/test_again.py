"""The ledger judged anew from its stored values: as from the members, and only verdicts change."""

import copy
import json
from pathlib import Path

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.analysis import verdict
from jaxreg.study.claims import again
from jaxreg.study.claims import verdicts as judging

ROOT = Path(__file__).parents[3]
STEPS = (0.3, -0.2, 0.5, 0.1, -0.4, 0.2, -0.1, 0.4, -0.3, 0.6)
NUMBERS = ("per_seed", "difference", "ci95", "p", "p_holm")


@pytest.fixture(scope="module")
def committed():
    return json.loads((ROOT / "experiments/results/ledger/ledger.json").read_text())


def question(mean, spread=0.01, *, aa=0.0, control=0.08, **changes):
    """An entry as `claims.verdicts` writes it, with values kept for its controls."""
    per_seed = [mean + spread * step for step in STEPS]
    return {
        "name": f"{mean:g}",
        "unit": "points",
        "scale": 100.0,
        "kind": "superiority",
        "direction": 1,
        "margin": 0.05,
        "difference": sum(per_seed) / 10,
        "per_seed": per_seed,
        "reason": "",
        "verdict": "inconclusive",
        "preconditions": [],
        "controls": [
            {
                "name": "aa",
                "passed": True,
                "what": "the same",
                "detail": "inconclusive; +0 [-1, +1] points; noise floor 1",
                "per_seed": [aa + 0.01 * step for step in STEPS],
            },
            {
                "name": "positive_control",
                "passed": True,
                "what": "found",
                "detail": "+8 points, supported: earlier words",
                "per_seed": [control + 0.01 * step for step in STEPS],
                "asked": {"kind": "superiority", "direction": 1, "margin": 0.02},
            },
        ],
    } | changes


def ledger(*questions):
    return {
        "quick": False,
        "alpha": 0.05,
        "aa": {"pairs": 1, "supported_or_opposite": 0, "alpha": 0.05},
        "claims": [{"id": "C1", "questions": list(questions)}, {"id": "F1"}],
    }


def found(*questions):
    return again.judge_again(ledger(*questions))["claims"][0]["questions"]


def test_the_committed_ledger_is_what_its_values_say(committed):
    before = copy.deepcopy(committed)
    now = again.judge_again(committed)
    assert now == committed == before
    assert again.changes(committed, now) == ["no verdict changes"]


def test_only_verdicts_change(committed):
    old = copy.deepcopy(committed)
    asked = [q for claim in old["claims"] for q in claim.get("questions", [])]
    for each in asked:
        each |= {"verdict": "inconclusive", "by_margin": None, "reason": "an earlier rule"}
    now = again.judge_again(old)
    assert now == committed
    lines = again.changes(old, now)
    assert "C1 unseen pairs: inconclusive -> supported, by the margin" in lines


def test_a_claim_of_before_gets_its_cautions_on_rates_at_an_edge():
    rates = [{"optim.learning_rate": rate} for rate in (0.1, 0.2, 0.3)]

    def arm(name, chosen):
        scores = [float(i == chosen) for i in range(3)]
        return {"name": name, "tuning": {"options": rates, "scores": scores, "chosen": chosen}}

    before = ledger(question(0.1))
    inside = [arm("none", 1), {"name": "aa", "tuning": None}]
    for arms, said in ((inside, None), ([*inside, arm("a, b", 2), arm("c", 2)], "a, b; c")):
        before["claims"][0]["arms"] = arms
        before["claims"][0].pop("cautions", None)
        claim = again.judge_again(before)["claims"][0]
        start = "tuned to the highest optim.learning_rate on offer, so the best may lie outside: "
        assert claim.get("cautions") == (None if said is None else [start + said])
    known = ["said when it ran"]
    before["claims"][0]["cautions"] = known
    assert again.judge_again(before)["claims"][0]["cautions"] == known


def test_it_is_the_family_of_all_questions():
    rows = found(question(0.1), question(0.0), question(-0.1))
    family = [verdict.Comparison(row["per_seed"], 0.05) for row in rows]
    for row, said in zip(rows, verdict.judge_family(family, alpha=0.05), strict=True):
        assert {name: row[name] for name in judging.JUDGED} == judging.judged_entry(said)


def test_controls_are_judged_anew_where_their_values_are_kept():
    (fine,) = found(question(0.1))
    assert fine["verdict"] == verdict.SUPPORTED
    assert fine["controls"][1]["detail"].startswith("+8 points, supported: significant")
    (leaks,) = found(question(0.1, aa=0.09))
    assert leaks["verdict"] == verdict.NOT_TESTABLE and "other seeds" not in leaks["verdict"]
    assert leaks["controls"][0]["passed"] is False
    assert leaks["controls"][0]["detail"].startswith("supported; +0 [-1, +1]")
    (blind,) = found(question(0.1, control=0.0))
    assert blind["verdict"] == verdict.NOT_TESTABLE and "must" not in blind["reason"]
    assert blind["reason"].startswith("control failed: found (+8 points, refuted: negligible")


def test_what_was_not_testable_or_has_not_run_stays_so():
    why = "accuracy, validation can tell no arms apart: all arms at the ceiling"
    dull = question(0.1, verdict=verdict.NOT_TESTABLE, reason=why)
    absent = question(0.1, verdict=None, reason=judging.NOT_RUN) | {"per_seed": []}
    absent |= {"controls": [], "difference": None}
    rows = found(dull, absent, question(0.1))
    assert (rows[0]["verdict"], rows[0]["reason"]) == (verdict.NOT_TESTABLE, why)
    assert (rows[1]["verdict"], rows[1]["reason"], rows[1]["p"]) == (None, judging.NOT_RUN, None)
    assert rows[2]["p_holm"] == 3 * rows[2]["p"], "all three are the family"


def test_a_quick_run_is_refused():
    with pytest.raises(UserErrors, match="quick run"):
        again.judge_again(ledger() | {"quick": True})


def test_the_command_writes_the_three_files_and_says_what_changed(tmp_path, committed, capsys):
    from jaxreg.cli.main import main

    old = copy.deepcopy(committed)
    first = next(claim for claim in old["claims"] if claim["id"] == "C1")["questions"][0]
    first |= {"verdict": "inconclusive"}
    (tmp_path / "ledger.json").write_text(json.dumps(old))
    assert main(["claims", f"--workdir={tmp_path}", "--again"]) == 0
    assert "C1 unseen pairs: inconclusive, by the margin -> supported" in capsys.readouterr().out
    assert json.loads((tmp_path / "ledger.json").read_text()) == committed
    kept = ROOT / "experiments" / "results" / "ledger" / "ledger.md"
    assert (tmp_path / "ledger.md").read_text() == kept.read_text()
    assert (tmp_path / "ledger.html").stat().st_size > 100_000


def test_without_a_ledger_or_with_claims_named_it_is_one_line(tmp_path, capsys):
    from jaxreg.cli.main import main

    assert main(["claims", f"--workdir={tmp_path / 'none'}", "--again"]) == 2
    assert "ledger.json: there is none" in capsys.readouterr().err
    assert main(["claims", "C1", f"--workdir={tmp_path}", "--again"]) == 2
    assert "--again: the whole ledger is judged" in capsys.readouterr().err
