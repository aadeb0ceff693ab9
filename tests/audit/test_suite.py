"""The runner on a training code of plain JAX: statuses, reasons, and exceptions of theirs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import audit
from jaxreg.audit import bench, report, suite
from jaxreg.errors import UserErrors
from tests.audit.tiny_subject import subject

QUICK = ("key_matters", "evaluation_ignores_key", "causal")


def test_ok_failed_not_applicable_and_known():
    fine = audit.run(subject(), QUICK)
    assert [finding.status for finding in fine] == ["ok", "ok", "not applicable"]
    assert fine[2].detail == "needs `causal` and `logits` and `with_inputs` of the subject"
    broken = subject(dropout_in_evaluation=True)
    assert audit.run(broken, QUICK)[1].status == "FAILED"
    known = audit.run(broken, QUICK, known={"evaluation_ignores_key": "meant", "causal": "no"})[1]
    assert (known.status, known.reason) == ("known", "meant")


def test_a_failure_is_an_assertion_with_its_fix():
    audit.assert_audit(subject(), QUICK)
    with pytest.raises(AssertionError, match="fix: `train=False`"):
        audit.assert_audit(subject(dropout_in_evaluation=True), QUICK)


def test_families_stand_for_their_checks_and_unknown_names_are_all_said():
    assert suite.chosen(["causal", "devices"]) == ("causal", "sharded_jit", "mapped")
    with pytest.raises(UserErrors) as error:
        suite.chosen(["causl", "devices", "nothing_like_it"])
    assert "causl: there is no such check or family; did you mean causal?" in error.value.mistakes
    assert len(error.value.mistakes) == 2


@pytest.mark.parametrize("name", ["init", "batch", "loss", "step"])
def test_what_their_code_raises_at_once_ends_the_audit(name):
    def raising(*arguments):
        raise ZeroDivisionError("theirs")

    with pytest.raises(ZeroDivisionError, match="theirs"):
        audit.run(dataclasses.replace(subject(), **{name: raising}), QUICK)


def test_a_known_check_that_is_not_run_is_an_error():
    known = {"causal": "meant", "key_matters": "meant"}
    with pytest.raises(UserErrors, match="^known: causal is not among the checks that run$"):
        audit.assert_audit(subject(), ["key_matters"], known=known)


def test_a_name_near_no_check_is_told_where_the_names_are():
    with pytest.raises(UserErrors) as error:
        suite.chosen(["foo"])
    assert error.value.mistakes == [
        "foo: there is no such check or family; jaxreg audit --list names them"
    ]


def test_a_family_without_any_check_is_one_row():
    findings = audit.run(subject(), ["key_matters", "attention", "decay"])
    rows = {each.check: each.detail for each in report.merged(findings)}
    assert rows["8 checks"] == "needs `attention` of the subject"
    assert "key_matters" in rows and "attention_keys" not in rows


def test_what_their_code_raises_in_a_check_is_its_failure_with_a_traceback(capsys):
    def update(state, gradients):
        raise ZeroDivisionError("theirs")

    [finding] = audit.run(dataclasses.replace(subject(), update=update), ["schedule_moves"])
    assert (finding.status, finding.detail) == ("FAILED", "raised ZeroDivisionError: theirs")
    assert "in update\n" in capsys.readouterr().err


def test_code_that_cannot_be_compiled_is_called_as_it_is():
    def loss(state, batch, key, train):
        return jnp.asarray(np.asarray(plain.loss(state, batch, key, train)))

    plain = subject()
    bench_of_it = bench.Bench(dataclasses.replace(plain, loss=loss))
    np.testing.assert_allclose(bench_of_it.loss(), bench.Bench(plain).loss(), rtol=1e-6)
    assert bench_of_it.random_in_training


def test_the_mean_of_a_batch_is_a_loss_for_which_fewer_checks_apply():
    plain = subject()

    def loss(state, batch, key, train):
        return plain.loss(state, batch, key, train).mean()

    names = ("key_matters", "rows_independent")
    found = audit.run(dataclasses.replace(plain, loss=loss, inputs=None), names)
    assert [finding.status for finding in found] == ["ok", "not applicable"]
    assert "this is a mean" in found[1].detail


def test_every_check_is_documented():
    for name, (_, check) in suite.all_checks().items():
        for text in (check.holds, check.symptom, check.why, check.fix):
            assert text.strip() == text and text and "\n" not in text, name
        known = {field.name for field in dataclasses.fields(audit.Subject)}
        assert set(check.needs) <= known, name


def test_pairs_that_agree_are_those_that_share_their_masks():
    draw = np.random.default_rng(0)
    own = draw.normal(size=(64, 4, 1))
    shared = own[:, [0, 1, 2, 1]]
    assert bench.pairs_that_agree(own, 1e-5) == ([], 6)
    assert bench.pairs_that_agree(shared, 1e-5) == ([(1, 3)], 6)
    seldom = np.where(draw.random((64, 4, 1)) < 0.02, own, 0)  # too few events to say anything
    assert bench.pairs_that_agree(seldom, 1e-5) == ([], 0)


def test_the_report_is_json_and_text():
    found = audit.run(subject(dropout_in_evaluation=True), QUICK)
    assert '"failed": [\n    "evaluation_ignores_key"\n  ]' in report.as_json("tiny", found)
    assert report.summary(found) == "1 ok, 1 FAILED, 1 not applicable"


def test_checks_that_do_not_apply_are_a_line_for_each_reason_and_one_for_what_is_lacking():
    names = ["key_matters", "layers_differ", "heads_differ", "attention", "loss_ignored", "padding"]
    found = audit.run(subject(), names)
    assert [each.check for each in report.applying(found)] == ["key_matters"]
    assert report.left_out_lines(found) == [
        "not applicable:",
        "  layers_differ: needs two draws of one shape; there is 1 draw",
        "  heads_differ: needs a loss at other lengths and of fewer examples",
        "  10 that need more of the subject: `attention` (8), `pad` (2), `padding` (1); --all lists"
        " them",
    ]
    assert report.left_out_lines(report.applying(found)) == []


def test_below_the_table_a_failure_is_not_said_again():
    found = audit.run(subject(dropout_in_evaluation=True), QUICK)
    whole, below = report.failure_lines(found), report.failure_lines(found, below_table=True)
    assert whole[0].startswith("evaluation_ignores_key: 8 keys") and len(whole) == 5
    assert below == ["evaluation_ignores_key:", whole[1], whole[2], whole[4]]


def test_a_key_is_a_fresh_one_for_the_same_index():
    one = bench.Bench(subject())
    assert one.key(3) is not one.key(3)
    assert jnp.array_equal(jax.random.key_data(one.key(3)), jax.random.key_data(one.key(3)))
