"""A whole comparison in this process: the bytes of results.json, who trains again, interruptions,
refusals, exit codes.
"""

import dataclasses
import json
import signal

import pytest

from jaxreg.cli.live_display import Silent
from jaxreg.errors import UserErrors
from jaxreg.store import code_version, lock
from jaxreg.study.analysis import summary_text
from jaxreg.study.claims import budget
from jaxreg.study.commands import compare as run
from jaxreg.study.design.config_fields import MAX_SEED
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import off_values, run_directory
from jaxreg.study.engine.goodput import machine_rows, pace
from tests.helpers import tiny

ARMS = {
    "none": Arm("none", predict=0.0),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.3}, predict=1.0),
    "aa": Arm("aa", kind="aa", seed_offset=2),
}
DESIGN = Experiment(
    name="tiny",
    question="Which?",
    config="c.py",
    baseline="none",
    arms=ARMS,
    seeds=(1, 2),
    primary="recombination",
    margin=0.05,
    alpha=0.05,
    prediction="none of them",
)


class Shown(Silent):
    """Keeps what it hears; `at_chunk` is called with the number of the progress event."""

    def __init__(self, at_progress=None):
        self.notes, self.too_few, self.phases, self.cells = [], [], [], []
        self.events, self.closed, self.at_progress = 0, None, at_progress

    def note(self, text):
        if "cannot decide at alpha" in text:
            self.too_few.append(text)
        elif not text.startswith("Machine: "):  # how fast it was, which test_meter.py looks at
            self.notes.append(text)

    def phase(self, name):
        self.phases.append(name)

    def cell(self, arm, view, mean, half_width, count):
        self.cells.append((arm, view, mean, half_width, count))

    def progress(self, done, total):
        self.events += 1
        if self.at_progress:
            self.at_progress(self.events)

    def closing(self, headline, **results):
        self.closed = headline


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Compiled programs, the tiny draws, and neither the off-value control nor the report, which
    have their own tests.
    """
    tiny.use_compiled(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    monkeypatch.setattr(
        off_values,
        "off_value",
        lambda config, dataset, seed, phase: {
            "passed": True,
            "what": "w",
            "detail": f"seed {seed}",
        },
    )
    monkeypatch.setattr(run, "_report", lambda *arguments: None)


def learning(workdir):
    """The lines of metrics.jsonl that are no times of this machine."""
    return [
        line
        for line in (workdir / "metrics.jsonl").read_bytes().splitlines()
        if not line.startswith(b'{"machine": ')
    ]


def compare(workdir, *, arms=ARMS, seeds=(1, 2), changes=None, shown=None, design=DESIGN):
    design = dataclasses.replace(design, arms=arms)
    resolved = {name: tiny.config((changes or {}) | dict(arm.diff)) for name, arm in arms.items()}
    return run.compare(
        design, tiny.config(changes), resolved, seeds, workdir, display=shown or Shown()
    )


def test_the_files_the_events_and_the_exit_code(tmp_path):
    shown = Shown()
    assert compare(tmp_path / "own", shown=shown) == 0
    results = json.loads((tmp_path / "own" / "results.json").read_text())
    assert (
        results["seeds"] == [1, 2]
        and set(results["arms"]) == set(ARMS)
        and results["controls"]["off_value"]["detail"] == "seed 1"
    )
    assert {path.name for path in (tmp_path / "own").iterdir()} == {
        ".lock",
        "config.json",
        "environment.json",
        "members",
        "metrics.jsonl",
        "results.json",
    } | ({"checkpoints"} if (tmp_path / "own" / "checkpoints").exists() else set())
    assert shown.phases == ["compiling", "training", "comparing"] and shown.notes == []
    [before_training] = shown.too_few
    assert before_training.startswith("2 seeds cannot decide at alpha 0.05: ")
    assert before_training.endswith("is the least")
    by_cell = {}
    for arm, view, mean, half, count in shown.cells:
        by_cell[arm, view] = (mean, half, count)
    for (arm, view), (mean, half, count) in by_cell.items():
        cell = results["arms"][arm][view]
        assert (
            count == 2
            and mean == pytest.approx(cell["mean"])
            and half == pytest.approx((cell["ci95"][1] - cell["ci95"][0]) / 2)
        )


def test_results_have_the_same_bytes_fresh_found_extended_and_from_neighbours(tmp_path):
    fresh = tmp_path / "1" / "fresh"
    compare(fresh, seeds=(1, 2, 3))
    expected = (fresh / "results.json").read_bytes()

    again = Shown()
    (fresh / "results.json").unlink()
    compare(fresh, seeds=(1, 2, 3), shown=again)
    assert (fresh / "results.json").read_bytes() == expected and "compiling" not in again.phases
    assert again.notes == ["8 of 8 members were found trained, 0 trained now"], (
        "none at 3 is the A/A pair of 1"
    )

    extended = tmp_path / "2" / "extended"
    compare(extended, seeds=(1, 2))
    assert (extended / "results.json").read_bytes() != expected
    compare(extended, seeds=(1, 2, 3))
    assert (extended / "results.json").read_bytes() == expected
    assert learning(extended) == learning(fresh) and len(learning(fresh)) > 100

    other, own = tmp_path / "3" / "other", tmp_path / "3" / "own"
    compare(
        other,
        arms={"none": Arm("x"), "same": ARMS["drop"]},
        design=dataclasses.replace(DESIGN, name="another"),
    )
    shown = Shown()
    compare(own, seeds=(1, 2, 3), shown=shown)
    assert "4 of 8 members were found trained, 4 trained now" in shown.notes
    assert (own / "results.json").read_bytes() == expected
    assert learning(own) == learning(fresh)


def test_other_arms_or_their_order_do_not_change_an_arm(tmp_path):
    compare(tmp_path / "1" / "all")
    compare(tmp_path / "2" / "two", arms={"drop": ARMS["drop"], "none": ARMS["none"]}, seeds=(2, 1))
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text())["arms"]
        for name in ("1/all", "2/two")
    )
    for arm in ("none", "drop"):
        for view, cell in one[arm].items():
            assert two[arm][view]["per_seed"] == cell["per_seed"][::-1]


@pytest.mark.short_cases()
@pytest.mark.parametrize("event", [2, 4, 7])
def test_a_signal_makes_it_save_say_how_to_go_on_and_return_75(tmp_path, event, monkeypatch):
    monkeypatch.setattr("sys.argv", ["jaxreg", "compare", "e.py", "--workdir=w x"])
    whole, own = tmp_path / "1" / "whole", tmp_path / "2" / "own"
    compare(whole)
    shown = Shown(lambda count: signal.raise_signal(signal.SIGTERM) if count == event else None)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert compare(own, shown=shown) == 75
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)], (
        "the old handlers are back"
    )
    assert (
        shown.notes[-1]
        == "interrupted; the same command goes on: jaxreg compare e.py '--workdir=w x'"
    )
    assert not (own / "results.json").exists() and any((own / "checkpoints").iterdir())
    assert compare(own) == 0
    assert (own / "results.json").read_bytes() == (
        whole / "results.json"
    ).read_bytes() and learning(own) == learning(whole)


def test_a_signal_while_everything_is_found_loses_nothing(tmp_path):
    compare(tmp_path / "own")
    shown = Shown(lambda count: signal.raise_signal(signal.SIGINT))
    assert (
        compare(tmp_path / "own", shown=shown) == 0 and (tmp_path / "own" / "results.json").exists()
    )


def test_a_directory_in_use_is_refused_in_one_line(tmp_path):
    with lock.RunLock(tmp_path / "own"), pytest.raises(UserErrors) as raised:
        compare(tmp_path / "own")
    [line] = raised.value.mistakes
    assert "in use by process" in line and "wait for it or choose another directory" in line
    assert compare(tmp_path / "own") == 0, "and is free again"


def test_a_directory_that_cannot_be_made_is_refused():
    with pytest.raises(UserErrors, match="--workdir=/proc/nowhere/own: cannot be made"):
        compare(tiny.Path("/proc/nowhere/own"))


def test_another_base_config_is_refused_before_anything_trains(tmp_path):
    compare(tmp_path / "own")
    before = (tmp_path / "own" / "results.json").read_bytes()
    with pytest.raises(UserErrors, match="optim.weight_decay=0.0, not 0.5"):
        compare(tmp_path / "own", changes={"optim.weight_decay": 0.5})
    assert (tmp_path / "own" / "results.json").read_bytes() == before


def test_checkpoints_that_are_all_damaged_are_named_in_one_line(tmp_path):
    shown = Shown(lambda count: signal.raise_signal(signal.SIGTERM) if count == 3 else None)
    compare(tmp_path / "own", shown=shown)
    for path in (tmp_path / "own" / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserErrors) as raised:
        compare(tmp_path / "own")
    assert (
        len(raised.value.mistakes) == 1
        and "to start afresh, remove that folder" in raised.value.mistakes[0]
    )


def test_devices_that_cannot_share_a_batch_are_a_mistake_of_the_user(tmp_path):
    changes = {"train.layout": "data", "train.batch_size": 12}
    for do in (
        compare,
        lambda workdir, changes: run.train(tiny.config(changes), workdir, display=Shown()),
    ):
        with pytest.raises(UserErrors) as raised:
            do(tmp_path / "own", changes=changes)
        assert (
            "train.batch_size is 12; with train.layout=data it must be a multiple of the devices,"
            " which are 8" in raised.value.mistakes[0]
        )
    assert not (tmp_path / "own").exists()


def test_seeds_that_an_offset_carries_out_of_range_are_refused(tmp_path):
    with pytest.raises(UserErrors, match=f"arm 'aa': seed {MAX_SEED} \\+ seed_offset 2"):
        compare(tmp_path / "own", seeds=(1, MAX_SEED))


def test_one_seed_gives_null_where_there_is_no_interval(tmp_path):
    shown = Shown()
    assert compare(tmp_path / "own", seeds=(1,), shown=shown) == 0
    text = (tmp_path / "own" / "results.json").read_text()
    assert "NaN" not in text and json.loads(text)["arms"]["none"]["train"]["ci95"] == [None, None]
    assert all(half is None for _, _, _, half, _ in shown.cells)


def test_members_of_another_machine_are_used_and_mark_the_run(tmp_path, monkeypatch):
    compare(tmp_path / "own")
    before = (tmp_path / "own" / "results.json").read_bytes()
    real = run.fingerprint()
    for module in ("commands.compare", "engine.session"):
        monkeypatch.setattr(f"jaxreg.study.{module}.fingerprint", lambda: real | {"cores": 99})
    shown = Shown()
    assert compare(tmp_path / "own", shown=shown) == 0
    assert "cores changed" in shown.notes[0] and shown.notes[1].startswith(
        "6 of 6 members were found trained"
    )
    assert (
        shown.notes[2].startswith("6 members were trained on another machine")
        and len(shown.notes) == 3
    )
    assert (
        json.loads((tmp_path / "own" / "environment.json").read_text())["mixed_fingerprints"]
        is True
    )
    assert (tmp_path / "own" / "results.json").read_bytes() == before


def test_other_code_trains_anew(tmp_path, monkeypatch):
    compare(tmp_path / "own")
    monkeypatch.setattr(code_version, "code_version", lambda: "0" * 24)
    monkeypatch.setattr("jaxreg.study.engine.run_directory.code_version", lambda: "0" * 24)
    shown = Shown()
    assert compare(tmp_path / "own", shown=shown) == 0 and shown.notes == []
    assert len(list((tmp_path / "own" / "members").iterdir())) == 12


def test_planning_writes_nothing(tmp_path):
    shown, arms = Shown(), {name: tiny.config(arm.diff) for name, arm in ARMS.items()}
    assert run.plan(DESIGN, tiny.config(), arms, (1, 2), tmp_path / "own", display=shown) == 0
    assert not (tmp_path / "own").exists() and "6 to train, 300 model-steps" in shown.notes[0]


def test_planning_says_how_long_it_takes_from_what_was_measured_here(tmp_path):
    arms = {name: tiny.config(arm.diff) for name, arm in ARMS.items()}

    def planned(config=None, seeds=(1, 2, 3)):
        shown, config = Shown(), tiny.config() if config is None else config
        own = dict.fromkeys(arms, config) if config != tiny.config() else arms
        assert run.plan(DESIGN, config, own, seeds, tmp_path / "own", display=shown) == 0
        return shown.notes

    assert "(a guess from the FLOP of a step, for two cores; not measured here)" in planned()[1]
    compare(tmp_path / "own")
    first, time, *_ = planned()
    assert "6 are trained already, 2 to train" in first
    rate = pace(machine_rows(tmp_path / "own" / "metrics.jsonl"))
    assert rate is not None
    assert time == budget.time_text(2 * 50, 1, (rate, budget.MEASURED))
    assert planned(seeds=(1, 2))[1] == "nothing is left to train"
    other = planned(tiny.config({"model.width": 16}))
    assert "(a guess" in other[1] and "was run with model.width=8: its members" in other[2]
    path = tmp_path / "own" / "config.json"
    design = path.read_text()
    path.write_text(design.replace(run_directory.code_version(), "older"))
    assert planned()[2].endswith("by another version of jaxreg's training code: it trains anew")
    path.write_text(design)
    longer = planned(tiny.config({"train.num_steps": 60}))
    assert "(measured" in longer[1] and "was run with train.num_steps=50" in longer[2]


def test_planning_says_first_what_is_wrong_with_an_own_model(tmp_path, monkeypatch):
    arms = {name: tiny.config(arm.diff) for name, arm in ARMS.items()}
    monkeypatch.setattr(run.model_audit, "failures", lambda given: [f"of {', '.join(given)}"])
    shown = Shown()
    assert run.plan(DESIGN, tiny.config(), arms, (1, 2), tmp_path / "own", display=shown) == 0
    assert shown.notes[0] == f"of {', '.join(ARMS)}"


def test_a_plan_of_many_members_first_says_that_counting_takes_a_while(tmp_path, monkeypatch):
    """Before any member is looked at: `--seeds=20000` once printed nothing for minutes."""
    shown, heard = Shown(), []
    arms = {name: tiny.config(arm.diff) for name, arm in ARMS.items()}
    right = run.make_specs

    def making(*arguments):
        heard.extend(shown.notes)
        return right(*arguments)

    monkeypatch.setattr(run, "make_specs", making)
    monkeypatch.setattr(run, "MANY", 5)
    assert run.plan(DESIGN, tiny.config(), arms, (1, 2), tmp_path / "own", display=shown) == 0
    assert heard[:1] == ["6 members are counted, which takes a while"]


def test_a_single_run_is_resumed_and_refuses_another_seed(tmp_path):
    config = tiny.config()
    shown = Shown(lambda count: signal.raise_signal(signal.SIGINT) if count == 3 else None)
    assert (
        run.train(config, tmp_path / "1" / "own", display=shown) == 75
        and not (tmp_path / "1" / "own" / "results.json").exists()
    )
    assert run.train(config, tmp_path / "1" / "own", display=Shown()) == 0
    assert run.train(config, tmp_path / "2" / "whole", display=Shown()) == 0
    own, whole = tmp_path / "1" / "own", tmp_path / "2" / "whole"
    assert (own / "results.json").read_bytes() == (
        whole / "results.json"
    ).read_bytes() and learning(own) == learning(whole)
    with pytest.raises(UserErrors, match="seed=0, not 5"):
        run.train({**config, "seed": 5}, tmp_path / "1" / "own", display=Shown())


def test_what_was_declared_before_training_stays_and_a_later_change_is_said(tmp_path):
    """Margin, primary view and prediction could be changed after the result, without a word."""
    assert compare(tmp_path / "own") == 0
    first = json.loads((tmp_path / "own" / "results.json").read_text())
    assert "changed_after_training" not in first
    arms = ARMS | {"drop": dataclasses.replace(ARMS["drop"], predict=9.0)}
    later = dataclasses.replace(DESIGN, margin=0.02, primary="validation", prediction="as it came")
    for _ in range(2):  # said again by every later run
        assert compare(tmp_path / "own", design=later, arms=arms) == 0
        found = json.loads((tmp_path / "own" / "results.json").read_text())
        changes = {
            each["field"]: (each["declared"], each["now"])
            for each in found["changed_after_training"]
        }
        assert changes == {
            "margin": (0.05, 0.02),
            "primary": ("recombination", "validation"),
            "prediction": ("none of them", "as it came"),
            "drop.predict": (1.0, 9.0),
        }
    lines = summary_text.changed(found)
    assert len(lines) == 4
    assert lines[1] == "Changed after training began: margin is 0.02, declared was 0.05."
    assert compare(tmp_path / "own") == 0, "back to what was declared"
    assert json.loads((tmp_path / "own" / "results.json").read_text()) == first


def test_before_a_member_is_trained_a_declaration_may_be_rewritten(tmp_path):
    resolved = {name: tiny.config(arm.diff) for name, arm in ARMS.items()}
    for margin in (0.05, 0.02):
        design = dataclasses.replace(DESIGN, arms=ARMS, margin=margin)
        run_directory.begin(tmp_path, design, tiny.config(), resolved, (1, 2), {}, Shown())
        assert run_directory.changed_since_declared(tmp_path, design) == []
    (tmp_path / "members").mkdir()
    (tmp_path / "members" / "x.npz").write_bytes(b"")
    later = dataclasses.replace(design, margin=0.01)
    run_directory.begin(tmp_path, later, tiny.config(), resolved, (1, 2), {}, Shown())
    assert run_directory.changed_since_declared(tmp_path, later) == [
        {"field": "margin", "declared": 0.02, "now": 0.01}
    ]
