"""The whole ledger on the tiny study, trained for real: tuned, evaluated, judged, stopped and gone
on with, extended.
"""

import itertools
import json

import pytest

from jaxreg.cli.live_display import Silent
from jaxreg.distributed.signals import Interrupts
from jaxreg.errors import UserErrors
from jaxreg.study.claims import budget, ledger, page
from jaxreg.study.claims.design import load_folder
from jaxreg.study.engine import off_values
from tests.helpers import made_up_claims as made_up
from tests.helpers import tiny

TUNED = (
    'id="C1", arms={"none": ClaimArm("no regularizer", tune=Tune("optim.learning_rate", (1e-2,'
    ' 3e-2))), "drop": ClaimArm("dropout", tune=Tune("model.attention_dropout_rate", (.1, .4))),'
    ' "two": ClaimArm("two", like="none", copies=2)}, questions=(Question("gain", GAIN,'
    ' accuracy("recombination"), 0.05, 5),), secondary=(accuracy("validation"),'
    ' steps_to("validation", .55)), seeds=tuple(range(200, 208)), tuning_seeds=(60, 61)'
)
MORE = (
    TUNED.replace('"C1"', '"C2"')
    .replace("recombination", "template")
    .replace(', "two": ClaimArm("two", like="none", copies=2)', "")
)
SWEEP = (
    'id="D7", arms={"clip": ClaimArm("clip 1", sweep={"optim.learning_rate": (1e-2, 1e-1)}),'
    ' "free": ClaimArm("no clip", {"optim.max_grad_norm": float("inf")},'
    ' sweep={"optim.learning_rate": (1e-2, 1e-1)})}, questions=(Question("share", {"clip": 1,'
    ' "free": -1}, diverged_share(), 0.1, -20, direction=-1),), preconditions=(Precondition("a'
    ' fifth diverge", "free", diverged_share(), at_least=0.2),), seeds=tuple(range(200, 209))'
)
MECHANISM = 'id="M1", tests=("tests/x.py::test_y",)'


class Heard(Silent):
    """A display that remembers its notes."""

    def __init__(self):
        self.lines = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with claims, and the programs of the tiny study instead of compiled ones."""
    tiny.use_compiled(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    monkeypatch.setattr(
        off_values,
        "off_value",
        lambda *_: {"passed": True, "what": "off is absent", "detail": "made up"},
    )
    for name, body in (("C1", TUNED), ("M1", MECHANISM)):
        made_up.write_claim(tmp_path, body, name)
    return tmp_path


def go(folder, *chosen, workdir="run", minutes=60, quick=False):
    """(exit code, what was said, ledger.json) of a run."""
    designs, heard = load_folder(folder / "claims", quick=quick), Heard()
    code = ledger.run(
        designs,
        chosen or list(designs),
        folder / workdir,
        quick=quick,
        minutes=minutes,
        display=heard,
    )
    return code, "\n".join(heard.lines), page.read(folder / workdir / "ledger.json")


def test_it_runs_from_candidates_to_the_page_and_is_done_the_second_time(folder):
    code, said, told = go(folder)
    assert code == 0
    mechanism, claim = told["claims"]
    assert (mechanism["id"], mechanism["form"]) == ("M1", "mechanism") and claim["status"] == "done"
    [question] = claim["questions"]
    assert question["verdict"] in (
        "supported",
        "refuted: opposite",
        "refuted: negligible",
        "inconclusive",
        "not testable",
    )
    assert len(question["per_seed"]) == 8 and {check["name"] for check in question["controls"]} >= {
        "aa",
        "off_value",
    }
    arms = {arm["name"]: arm for arm in claim["arms"]}
    assert set(arms) == {"none", "drop", "two", "none (A/A)"}
    for name in ("none", "drop"):
        tuning = arms[name]["tuning"]
        assert len(tuning["scores"]) == 2 and tuning["scores"][tuning["chosen"]] == max(
            tuning["scores"]
        )
        assert arms[name]["tuned"] == tuning["options"][tuning["chosen"]]
    assert arms["two"]["tuned"] == arms["none (A/A)"]["tuned"] == arms["none"]["tuned"]
    # 2 arms x 2 candidates x 2 seeds, then 8 seeds of none, drop, A/A and one further copy
    assert claim["cost"] == {"members": 40, "tuning": 8 * 50, "evaluation": 32 * 50, "shared": 0}
    assert "2,000 model-steps trained now" in said and "1 program(s) compiled" in said
    assert "</html>" in (folder / "run" / "ledger.html").read_text()
    text = (folder / "run" / "ledger.json").read_text()
    assert str(folder) not in text and "seconds" not in text

    code, said, _ = go(folder)
    assert code == 0 and "0 model-steps trained now" in said and "0 to train" in said
    assert (folder / "run" / "ledger.json").read_text() == text


@pytest.mark.system
def test_a_stopped_run_goes_on_to_the_same_ledger(folder, monkeypatch):
    go(folder, workdir="whole")
    # Another directory's members would be found: look at members of its own only.
    (folder / "whole" / "members").rename(folder / "whole" / "elsewhere")
    asked = itertools.count(1)
    monkeypatch.setattr(
        ledger.Ledger, "_should_stop", lambda self: next(asked) % 11 == 0
    )  # in the middle of waves, too
    codes = []
    while 0 not in codes and len(codes) < 20:
        code, said, told = go(folder, workdir="parts")
        codes.append(code)
        assert code == 0 or "minutes are over" in said
    assert codes.count(75) >= 3 and codes[-1] == 0
    assert told == page.read(folder / "whole" / "ledger.json")


def test_what_is_not_complete_has_no_verdict(folder):
    code, _, told = go(folder, minutes=1e-6)
    [question] = told["claims"][1]["questions"]
    assert (
        code == 75
        and question["verdict"] is None
        and question["reason"] == "not run yet"
        and told["claims"][1]["status"] == "not run yet"
    )


def test_a_signal_stops_without_judging(folder, monkeypatch):
    monkeypatch.setattr(Interrupts, "requested", property(lambda self: True))
    code, said, told = go(folder)
    assert code == 75 and told is None and "interrupted; the same command goes on" in said
    assert list((folder / "run" / "checkpoints").iterdir()), "what was trained is saved"


@pytest.mark.system
def test_a_claim_that_joins_trains_only_what_is_new(folder):
    go(folder)
    made_up.write_claim(folder, MORE, "C2")
    made_up.write_claim(folder, SWEEP, "D7")
    code, said, told = go(folder, "C2", "D7")
    rows = {claim["id"]: claim for claim in told["claims"]}
    assert code == 0 and rows["C2"]["cost"]["evaluation"] == rows["C2"]["cost"]["tuning"] == 0
    # clip at 1e-2 is C1's baseline if that chose 1e-2; the ninth seed is new in any case
    trained = [
        int(line.split()[3].replace(",", "")) for line in said.splitlines() if "trained now" in line
    ]
    total = rows["D7"]["cost"]["evaluation"]
    assert trained == [total] and 0 < total <= 9 * 2 * 3 * 50
    assert rows["C1"]["status"] == rows["C2"]["status"] == rows["D7"]["status"] == "done", (
        "what was trained before is judged again, in the larger family"
    )
    assert told["questions_in_family"] == 3
    [share] = rows["D7"]["questions"]
    assert (
        share["verdict"] == "not testable"
        and "precondition failed: a fifth diverge" in share["reason"]
    )


def test_a_quick_run_and_a_real_one_do_not_share_a_directory(folder):
    go(folder, minutes=1e-6)
    with pytest.raises(
        UserErrors, match="holds real results; choose another directory for a quick run"
    ):
        go(folder, quick=True)


def test_too_few_seeds_are_refused_before_anything_runs(folder):
    made_up.write_claim(folder, TUNED.replace("range(200, 208)", "range(200, 204)"), "C1")
    with pytest.raises(
        UserErrors,
        match="C1: 4 seeds cannot decide: the smallest p is 0.12, after Holm over 1 questions 0.12",
    ):
        go(folder)
    assert not (folder / "run").exists()


def test_a_plan_says_the_cost_and_writes_nothing(folder):
    designs, heard = load_folder(folder / "claims"), Heard()
    assert ledger.plan(designs, list(designs), folder / "run", quick=False, display=heard) == 0
    assert "all: 2,000 model-steps, 2,000 to train in 1 program(s)" in "\n".join(heard.lines)
    assert not (folder / "run").exists()


def test_the_rate_is_the_measured_one(tmp_path):
    assert budget.rate_of(tmp_path) == (
        budget.STEPS_PER_SECOND,
        "a guess: CATSAT on two cores; not measured here",
    )
    budget.note_time(tmp_path, 1000, 4.0)
    budget.note_time(tmp_path, 500, 1.0)
    assert budget.rate_of(tmp_path) == (300.0, budget.MEASURED)
    assert json.loads((tmp_path / "timing.json").read_text()) == {
        "model_steps": 1500,
        "seconds": 5.0,
    }


@pytest.mark.system
def test_what_a_claim_declared_before_training_stays_and_a_later_change_is_said(folder):
    """Margin and prediction could be changed after the result, without a word."""
    _, _, told = go(folder)
    claim = told["claims"][1]
    assert "changed_after_training" not in claim
    later = TUNED.replace(
        'accuracy("recombination"), 0.05, 5)', 'accuracy("recombination"), 0.01, 9)'
    )
    made_up.write_claim(folder, later, "C1")
    _, said, told = go(folder)
    claim = told["claims"][1]
    assert claim["changed_after_training"] == [
        {"field": "gain: margin", "declared": 0.05, "now": 0.01},
        {"field": "gain: predict", "declared": 5, "now": 9},
    ]
    assert (
        "C1: Changed after training began: gain: margin is 0.01, declared was 0.05." in said
        and "0 model-steps trained now" in said
    )
    made_up.write_claim(folder, TUNED, "C1")
    _, _, told = go(folder)
    assert "changed_after_training" not in told["claims"][1]
