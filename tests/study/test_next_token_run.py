"""A comparison of language models in nats, the whole way: results, words, report; and its verdicts
judged again by hand.
"""

import dataclasses
import json

import numpy as np
import pytest

from jaxreg.cli.live_display import Silent
from jaxreg.errors import UserErrors
from jaxreg.store.member_store import Records
from jaxreg.study.analysis import controls, summary_text
from jaxreg.study.analysis.judge import Evidence, judge
from jaxreg.study.analysis.metric import ACCURACY, BEST_LOSS, LOSS, METRICS
from jaxreg.study.claims import measures
from jaxreg.study.commands import compare, counterfactual, inspect
from jaxreg.study.commands.judge import judge as tables_judge
from jaxreg.study.design import config as configs
from jaxreg.study.design.experiment import Arm, Experiment, check_experiment
from jaxreg.study.engine import member_scores, off_values
from jaxreg.study.engine.dataset_loader import Library
from jaxreg.study.engine.members import make_specs, plain
from jaxreg.study.report.payload import rebuild
from tests.helpers import next_tokens, tiny

ARMS = {
    "none": Arm("nothing", predict=0.0),
    "drop": Arm("dropout", {"model.attention_dropout_rate": 0.4}, predict=-0.1),
    "hot": Arm("too hot", {"optim.learning_rate": 3.0}, predict=0.5),
}
DESIGN = Experiment(
    name="letters",
    question="Which?",
    config="c.py",
    baseline="none",
    arms=ARMS,
    seeds=(1, 2, 3),
    primary="validation",
    margin=0.05,
    alpha=0.05,
    prediction="none",
    metric="loss",
)


def base() -> configs.ConfigDict:
    file = configs.load_config(tiny.ROOT / "configs" / "base.py")
    return configs.with_changes(file, next_tokens.CHANGES | {"train.num_steps": 60})


class Shown(Silent):
    """Keeps what it hears."""

    def __init__(self):
        self.cells, self.closed, self.metric = {}, {}, None

    def layout(self, arms, views, primary, seeds, metric=ACCURACY):
        self.metric = metric

    def cell(self, arm, view, mean, half_width, count):
        self.cells[arm, view] = mean

    def closing(self, headline, **results):
        self.closed = {"headline": headline, **results}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(run directory, results, records by (arm, seed), what was shown)."""
    with pytest.MonkeyPatch.context() as patch:
        next_tokens.known(patch)
        patch.setenv("JAXREG_DATA", str(tiny.data_dir()))
        passed = {"passed": True, "what": "w", "detail": "d"}
        patch.setattr(off_values, "off_value", lambda *arguments: passed)  # has its own tests
        workdir, shown = tmp_path_factory.mktemp("letters") / "run", Shown()
        config = plain(base())
        arms = {name: plain(own) for name, own in configs.resolve_arms(DESIGN, base()).items()}
        assert compare.compare(DESIGN, config, arms, DESIGN.seeds, workdir, display=shown) == 0
        library = Library(tiny.data_dir())
        specs = make_specs(ARMS, arms, DESIGN.seeds, library.request)
        stored = Records(workdir / "members")
        members = {(spec.arm, spec.seed): stored.get(spec.hash) for spec in specs}
        yield workdir, json.loads((workdir / "results.json").read_text()), members, shown
        library.close()


pytestmark = pytest.mark.system


def test_results_are_losses_of_the_members_and_accuracies_stand_beside_them(ran):
    _, results, members, shown = ran
    assert (results["metric"], results["unit"], results["higher_is_better"]) == (
        "loss",
        "nats",
        False,
    )
    for arm in ARMS:
        for view in ("train", "validation"):
            index = [split for split, _ in members[arm, 1].meta["passes"]].index(view)
            rows = 24 if view == "train" else 12
            for column, cell in ((1, results["arms"]), (0, results["accuracy"])):
                own = [
                    float(members[arm, seed].arrays["scores"][index, :rows, column].mean())
                    for seed in DESIGN.seeds
                ]
                np.testing.assert_allclose(cell[arm][view]["per_seed"], own, rtol=1e-6)
            assert shown.cells[arm, view] == pytest.approx(results["arms"][arm][view]["mean"])
    assert shown.metric == LOSS and shown.closed["metric"] == LOSS
    assert shown.closed["accuracy"] == results["accuracy"]


def test_a_lower_loss_is_better(ran):
    _, results, _, _ = ran
    rows = {row["arm"]: row for row in results["comparisons"] if row["split"] == "validation"}
    assert rows["hot"]["difference"] > 0.05
    wide = {
        arm: {"validation": [x + 0.001 * i for i, x in enumerate(values)] * 4}
        for arm, values in (("none", [2.0, 2.0]), ("drop", [1.5, 1.51]), ("hot", [2.5, 2.4]))
    }
    found = judge(DESIGN, wide, Evidence(range(8), {"validation": 2.8}, metric=LOSS)).results
    labels = {row["arm"]: row["verdict"] for row in found["comparisons"]}
    assert labels == {"drop": "supported", "hot": "refuted: opposite"}


def test_a_baseline_that_does_not_beat_the_unigram_model_makes_nothing_testable(ran):
    _, results, members, _ = ran
    control = results["controls"]["beats_unigram"]
    lowest = []
    for seed in DESIGN.seeds:
        record = members["none", seed]
        index = [split for split, _ in record.meta["curves"]].index("validation")
        lowest.append(float(np.nanmin(record.arrays["curves"][:, index, 1])))
    assert f"best evaluation {np.mean(lowest):.3f} nats" in control["detail"]
    assert "baseline_overfits" not in results["controls"]
    for loss, passed in ((2.5, True), (2.51, False)):
        assert controls.beats_unigram("validation", "none", loss, 2.8).passed == passed
    failed = controls.beats_unigram("validation", "none", 2.75, 2.8)
    table = {arm: {"validation": [2.0, 2.1, 2.2]} for arm in ARMS}
    evidence = Evidence((1, 2, 3), {"validation": 2.8}, metric=LOSS, preconditions=[failed])
    outcome = judge(DESIGN, table, evidence)
    assert {verdict.label for verdict in outcome.verdicts.values()} == {"not testable"}
    [line] = summary_text.headline(
        DESIGN, outcome.verdicts, outcome.results["arms"], 2.8, metric=LOSS
    )
    assert line == (
        "No arm can be compared with the baseline: precondition failed: the baseline beats the"
        " unigram model by at least 0.3 nats on validation (none at its best evaluation 2.750 nats,"
        " unigram 2.800)."
    )


def test_the_judge_of_tables_reads_the_direction_from_the_results(ran):
    workdir, results, _, _ = ran
    found = tables_judge(str(workdir)).results
    assert found["higher_is_better"] is False and found["margin"] == 0.05
    own = {row["arm"]: row for row in results["comparisons"] if row["split"] == "validation"}
    again = {row["arm"]: row for row in found["comparisons"] if row["split"] == "validation"}
    for arm, row in again.items():
        assert row["difference"] == pytest.approx(own[arm]["difference"])
        assert row["effect"] == ("worse" if row["difference"] > 0 else "better")


def test_the_lowest_loss_is_that_of_the_curve(ran):
    _, _, members, _ = ran
    record, dataset = members["none", 1], next_tokens.dataset()
    [view] = [view for view in dataset.views if view.name == "validation"]
    index = [split for split, _ in record.meta["curves"]].index("validation")
    losses = [float(x) for x in record.arrays["curves"][:, index, 1]]
    assert member_scores.score(BEST_LOSS, record, dataset, view) == min(losses)
    member = measures.MeasuredMember(record, dataset, 60)
    assert measures.best_loss("validation").value([member]) == min(losses)
    gain = measures.beyond_unigram("validation").value([member])
    assert gain == pytest.approx(dataset.guess_loss_of(view) - min(losses))


def test_the_words_are_in_nats(ran):
    _, results, _, shown = ran
    mean = results["arms"]["none"]["validation"]["mean"]
    first = shown.closed["headline"][0]
    if results["controls"]["beats_unigram"]["passed"]:
        assert f"has a loss of {mean:.3f} nats (perplexity {np.exp(mean):.3g}" in first
    else:
        assert "precondition failed" in first


def test_the_report_is_made_from_disk_in_nats(ran, monkeypatch):
    workdir, results, _, _ = ran
    next_tokens.known(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    before = (workdir / "results.json").read_bytes()
    payload = rebuild(workdir)
    assert (workdir / "results.json").read_bytes() == before
    assert (workdir / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert payload["metric"] == dataclasses.asdict(LOSS)
    assert payload["accuracy"] == results["accuracy"] and payload["flipped"] == {}
    found = {each["arm"]: each["found"] for each in payload["predictions"]}
    rows = {row["arm"]: row for row in results["comparisons"] if row["split"] == "validation"}
    assert found == {arm: row["difference"] for arm, row in rows.items()}


def test_inspect_wants_a_short_text_and_counterfactual_says_what_it_needs(ran, monkeypatch):
    workdir, *_ = ran
    next_tokens.known(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    found = inspect.matrices(workdir, "drop", 1, 2, "a b c")
    assert found.words == ("a", "b", "c") and found.query == -1 and found.answer is None
    with pytest.raises(UserErrors, match="--text: is missing; the rows of letters are 8 tokens"):
        inspect.matrices(workdir, "drop", 1, 2, None)
    with pytest.raises(
        UserErrors, match="letters asks for the next token at every position: there"
    ):
        counterfactual.find(workdir, "drop", 1, None, None, None, None)


def test_metrics_margins_and_curves_are_checked(monkeypatch):
    next_tokens.known(monkeypatch)
    assert set(METRICS) == {"accuracy", "loss", "best_loss"}

    def wrong(**changes):
        return check_experiment(dataclasses.replace(DESIGN, **changes))

    assert wrong() == wrong(margin=2.0) == wrong(metric="best_loss") == []
    assert wrong(metric="los") == ["metric is 'los'; it must be one of: accuracy, loss, best_loss"]
    assert wrong(margin=0) == ["margin is 0; it must be a number of nats above 0"]
    assert wrong(metric="accuracy", margin=2.0) == [
        "margin is 2.0; it must be a fraction between 0 and 1"
    ]
    design = dataclasses.replace(DESIGN, metric="best_loss")
    file = configs.with_changes(base(), {"eval.curves": ("train",)})
    with pytest.raises(UserErrors) as refused:
        configs.resolve_arms(design, file)
    assert refused.value.mistakes == [
        "metric is best_loss, of validation at every evaluation; eval.curves has only train"
    ]


def test_a_run_that_is_cut_and_restored_is_the_same(monkeypatch):
    """A wave saved in the middle and restored into a new one, against one that was not."""
    import jax

    from jaxreg.study.engine import program
    from jaxreg.study.engine.trainer import passes_of
    from jaxreg.train.loop import Wave, compile_programs

    next_tokens.known(monkeypatch)
    config, dataset = plain(base()), next_tokens.dataset()
    structure = program.structure_of(config)
    vocabulary = program.Vocabulary.of(dataset)
    programs = program.programs_of(structure, vocabulary, jax.devices()[:2])
    passes = passes_of(structure, dataset)
    plan = program.plan_of(structure, dataset, passes)
    rows = program.tables_of([dataset] * 2, passes, 2)
    tables = programs.layout.spread_tables(rows)
    jobs = [program.job_of(config, "a" * 24, 1, 0), program.job_of(config, "b" * 24, 2, 1)]
    compile_programs(programs, jobs[0], tables, plan)
    whole = Wave(programs, jobs, tables, plan)
    tiny.finish(whole)
    first = Wave(programs, jobs, tables, plan)
    tiny.finish(first, until=27)
    second = Wave(programs, jobs, tables, plan)
    second.restore(first.snapshot(), first.step)
    tiny.finish(second)
    for one, other in zip(whole.finish(), second.finish(), strict=True):
        assert tiny.equal(tiny.content(one), tiny.content(other))
        assert one.curves[-1, 0, 1] < one.curves[0, 0, 1]
