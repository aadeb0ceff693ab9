"""The words around the numbers: both directions of the result, what it cost, and what a design
cannot decide.
"""

import dataclasses

import numpy as np
import pytest

from jaxreg.store import member_store
from jaxreg.store.atomic import write_json
from jaxreg.study.analysis import summary_text, verdict
from jaxreg.study.commands import compare
from jaxreg.study.design import config_fields
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import members, scope
from tests.helpers import tiny

ARMS = {
    "none": Arm("nothing"),
    "up": Arm("helps", {"optim.weight_decay": 1.0}),
    "down": Arm("hurts", {"model.attention_dropout_rate": 0.3}),
    "flat": Arm("idles", {"model.mlp_dropout_rate": 0.1}),
    "open": Arm("stays open", {"loss.label_smoothing_strength": 0.1}),
    "aa": Arm("the same", kind="aa", seed_offset=1000),
}
DESIGN = Experiment(
    name="x",
    question="?",
    config="c.py",
    baseline="none",
    arms=ARMS,
    seeds=tuple(range(1, 13)),
    primary="recombination",
    margin=0.05,
    alpha=0.05,
    prediction="!",
)
NOISE = np.tile([-0.01, 0.01], 6)
DIFFERENCES = {
    "up": 0.1 + NOISE,
    "down": -0.1 + NOISE,
    "flat": 0.0 + NOISE,
    "open": 5 * NOISE + 0.03,
    "aa": 8 * NOISE,
}
TABLE = {
    arm: {"recombination": {"mean": 0.7}, "both_cut": {"mean": 0.5 + 0.01 * i}}
    for i, arm in enumerate(ARMS)
}


def verdicts(differences=DIFFERENCES):
    family = verdict.judge_family(
        [verdict.Comparison(d, 0.05) for d in differences.values()], alpha=0.05
    )
    return dict(zip(differences, family, strict=True))


def test_the_headline_is_two_sentences():
    first, second = summary_text.headline(DESIGN, verdicts(), TABLE)
    assert first == "On recombination the baseline 'none' is right in 70.0% (chance 50%)."
    counts = second.split("; ")
    assert counts[0].startswith(
        "Of 4 arms beside it: 1 helped, most helps (+10.0 points, 95% interval +"
    )
    assert counts[1].startswith("1 hurt, most hurts (-10.0 points, ")
    assert counts[2:] == ["1 too small to matter", "1 undecided at this number of seeds."]


def test_the_headline_names_the_best_and_the_worst():
    found = verdicts({"up": 0.1 + NOISE, "flat": 0.2 + NOISE, "down": -0.1 + NOISE})
    second = summary_text.headline(DESIGN, found, TABLE)[1]
    assert "2 helped, most idles (+20.0" in second and "1 hurt, most hurts (-10.0" in second
    none = verdicts({"down": -0.1 + NOISE, "flat": -0.2 + NOISE})
    second = summary_text.headline(DESIGN, none, TABLE)[1]
    assert "Of 2 arms beside it: no arm was shown to help; 2 hurt, most idles (-20.0" in second


def test_of_a_single_arm_the_second_sentence_says_all():
    found = verdicts({"down": -0.1 + NOISE})
    _, second = summary_text.headline(DESIGN, found, TABLE)
    assert second.startswith("Hurt: hurts (-10.0 points")


def test_the_details_say_what_helped_what_hurt_and_what_stays_open():
    lines = summary_text.details(DESIGN, verdicts(), TABLE)
    helped, hurt, small, open_ = lines[:4]
    assert helped.startswith("Helped: helps (+10.0 points, 95% interval +")
    assert helped.endswith(", more than the margin).")
    assert hurt.startswith("Hurt: hurts (-10.0 points") and small.startswith(
        "Too small to matter (an effect of 5 points is excluded): idles"
    )
    assert open_.startswith("Undecided at this number of seeds: stays open (+3.0 points")
    assert not any("the same" in line for line in lines), "controls are not listed"
    assert "No arm was shown to help." not in lines
    assert any("50.0% for the baseline and 54.0% at most (stays open)" in line for line in lines)


def test_where_nothing_helps_it_says_so_and_one_seed_has_no_interval():
    lines = summary_text.details(
        DESIGN, verdicts({"up": np.asarray([0.2]), "down": np.asarray([0.0])}), TABLE
    )
    assert "No arm was shown to help." in lines
    assert "helps (+20.0 points, no interval from one seed)" in " ".join(
        lines
    ) and "nan" not in " ".join(lines)


def test_each_view_shows_a_trained_sentence_beside_what_is_asked():
    dataset = tiny.dataset(1)
    rows = summary_text.view_examples(dataset)
    trained = {dataset.sentence("train", row) for row in range(32)}
    assert [title for title, _, _ in rows] == [view.title for view in dataset.views]
    for view, (_, near, asked) in zip(dataset.views, rows, strict=True):
        sentence, answer = near.split(" -> ")
        assert sentence in trained and answer in dataset.outputs
        text, question = asked.split(" -> ")
        assert question.startswith("?") and ("cut: " in asked) == bool(view.cut)
        weights = dataset.view_weights(view)
        assert text in {
            dataset.sentence(view.split, row) for row in np.flatnonzero(weights).tolist()
        }


def test_the_scope_is_one_line():
    line = scope.scope(tiny.config(), (7, 8))
    assert (
        "\n" not in line
        and "1 layers, width 8, 2 heads" in line
        and "batch 8 x 50 steps; 2 seeds from 7; 8 cpu devices" in line
    )


def test_the_command_can_be_typed_again():
    assert (
        summary_text.command(["/x/jaxreg", "compare", "a file.py", "--workdir=my runs"])
        == "jaxreg compare 'a file.py' '--workdir=my runs'"
    )


def lines_of(workdir, seeds, arms=ARMS):
    resolved = {name: tiny.config(arm.diff) for name, arm in arms.items()}
    specs = members.make_specs(arms, resolved, seeds, lambda data, seed: f"{seed}")
    design = dataclasses.replace(DESIGN, arms=arms)
    return specs, compare.budget(design, specs, seeds, workdir)


def test_the_budget_counts_what_is_there_and_writes_nothing(tmp_path):
    own, neighbour = tmp_path / "own", tmp_path / "neighbour"
    specs, _ = lines_of(own, (1, 2))
    member_store.Records(neighbour / "members").put(specs[0].hash, {"x": np.zeros(1)}, {})
    _, lines = lines_of(own, (1, 2))
    assert (
        lines[0]
        == "6 arms (the baseline, 4 against it, 1 control) x 2 seeds: 12 members in 1 program(s);"
        " 1 are trained already, 11 to train, 550 model-steps"
    )
    assert not own.exists(), "a dry run copied a neighbour's member"
    assert (
        member_store.Records(own / "members", [neighbour / "members"]).get(specs[0].hash)
        and own.exists()
    )


def test_a_design_that_cannot_decide_is_named(tmp_path):
    _, few = lines_of(tmp_path, tuple(range(6)))
    assert few[2] == (
        "6 seeds cannot decide at alpha 0.05: the smallest two-sided p is 0.031, after Holm over 4"
        " tests 0.12; --seeds=8 is the least"
    )
    _, enough = lines_of(tmp_path, tuple(range(8)))
    assert enough[2].endswith("verdicts are possible")
    _, one = lines_of(tmp_path, (1,), {"none": ARMS["none"], "up": ARMS["up"]})
    assert "cannot decide" in one[2]


def test_power_comes_from_an_earlier_run_s_spread(tmp_path):
    _, lines = lines_of(tmp_path, (1, 2))
    assert lines[3].startswith("no earlier run in this directory")
    rows = [
        {"arm": "up", "split": "recombination", "per_seed": [0.0, 0.1, 0.2]},
        {"arm": "up", "split": "train", "per_seed": [0.0, 0.5]},
        {"arm": "down", "split": "recombination", "per_seed": [0.1]},
        {"arm": "flat", "split": "recombination", "per_seed": [0.1, 0.1]},
    ]
    earlier = {"experiment": "e", "seeds": [1, 2, 3], "arms": {}, "controls": {}}
    write_json(tmp_path / "results.json", earlier | {"comparisons": rows})
    _, lines = lines_of(tmp_path, (1, 2))
    assert (
        len(lines) == 5
        and lines[3].startswith("up: SD 10.0 points in the earlier run; ")
        and "with 80% power" in lines[3]
    )
    assert lines[4].startswith("flat: SD 0.0 points")


def test_differences_that_are_open_are_counted_and_controls_are_not():
    around, above = [-0.1, 0.2], [0.1, 0.3]
    rows = [
        {"arm": arm, "split": split, "seeds_needed": n, "per_seed": [0.1, 0.2], "ci95": interval}
        for arm, split, n, interval in (
            ("up", "train", 20, around),
            ("down", "train", None, around),
            ("up", "recombination", 30, around),
            ("aa", "train", 99, around),
            ("flat", "fronted", 14, around),
            ("up", "fronted", 65, above),  # clear already, whatever power would ask for
        )
    ]
    assert (
        summary_text.underpowered(DESIGN, rows)
        == "On the other views 2 of 4 differences need more seeds: to see 5 points with 80% power"
        " takes 14 to 20, each said in the report."
    )
    assert (
        summary_text.underpowered(DESIGN, rows[1:3])
        == "On the other views the seeds suffice to see 5 points (with 80% power)."
    )


def test_one_seed_has_no_power_to_speak_of():
    rows = [{"arm": "up", "split": "train", "seeds_needed": None, "per_seed": [0.1]}]
    assert "the other views" not in summary_text.underpowered(DESIGN, rows)


def test_what_must_be_read_first_names_failed_controls_and_arms_that_changed_nothing():
    rows = [
        {"arm": "up", "split": split, "per_seed": [0.0, 0.0]} for split in ("train", "template")
    ] + [{"arm": "aa", "split": "train", "per_seed": [0.0]}]
    controls = {
        "leak": {"what": "every arm is at chance", "passed": False, "detail": "up, 80%"},
        "beats_unigram": {"what": "it is named by the answer", "passed": False, "detail": "-"},
        "aa": {"what": "two baselines are equal", "passed": None, "detail": "-"},
    }
    results = {"controls": controls, "comparisons": rows, "seeds": list(range(8))}
    assert summary_text.warnings(DESIGN, results) == [
        "A control failed. What must hold: every arm is at chance. Found: up, 80%.",
        "Every run of 'up' has exactly the baseline's numbers.",
    ]
    rows[0]["per_seed"] = [0.0, 0.01]
    assert summary_text.unchanged(DESIGN, {"comparisons": rows}) == []


def test_that_no_verdict_was_possible_stands_first():
    rows = [{"arm": "up", "split": "train", "per_seed": [0.0, 0.1]}]
    [line] = summary_text.warnings(DESIGN, {"controls": {}, "comparisons": rows, "seeds": [1, 2]})
    assert line.startswith("No verdict is possible: 2 seeds cannot decide at alpha 0.05: ")
    alone = {"controls": {}, "comparisons": [], "seeds": [1]}
    assert summary_text.warnings(DESIGN, alone) == []


LOSSES = {"arms": {"run": {"train": {"mean": 1.0}, "validation": {"mean": 3.0}}}}


@pytest.mark.parametrize(
    "kept, keeps_best, lowest, lines",
    [
        (300, False, 2.951, ["lowest validation loss 2.951 at step 90; a unigram model has 3.243"]),
        (
            300,
            False,
            2.5,
            [
                "lowest validation loss 2.500 at step 90; a unigram model has 3.243",
                "the parameters that are kept are the last ones, 0.500 nats above the lowest;"
                " --config.stopping.keep_best=True keeps the best",
            ],
        ),
        (90, True, 2.5, ["lowest validation loss 2.500 at step 90; a unigram model has 3.243"]),
        (300, False, None, ["a unigram model has 3.243"]),
    ],
)
def test_a_single_run_says_when_it_had_which_loss(kept, keeps_best, lowest, lines):
    moments = summary_text.Moments(kept, keeps_best, lowest, 90, 3.243)
    first, *others = summary_text.of_one_run(LOSSES, moments)
    when = "the best evaluation, step 90" if keeps_best else "the last step, 300"
    assert first == (
        f"loss at {when}: train 1.000 nats (perplexity 2.72), validation 3.000 nats (perplexity"
        " 20.1)"
    )
    assert others == lines


def test_the_field_that_keeps_the_best_is_one():
    assert "stopping.keep_best" in config_fields.FIELDS
