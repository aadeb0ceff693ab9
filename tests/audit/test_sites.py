"""What training drops and where it does not: the draws in the report, and what is said of none."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import audit
from jaxreg.audit import report, sites, suite
from jaxreg.audit.bench import Bench
from jaxreg.cli import main as cli
from tests.audit import planted, tiny_subject

LENGTH, WIDTH, HEADS = 6, 8, 2
WARNED = (
    "attention weights [B, 2, T, T] exist, and nothing is dropped on them; if {} is meant for them"
    " it does not reach them"
)


class Model(nn.Module):
    """One layer of attention, written by hand; `place` says on what it drops beside the output.

    Attributes:
      place: "", "weights", or the shape of a mask of them as B, H, T and 1: "BH1T", "BH", "T".
    """

    dropout_rate: float = 0.1
    attention_rate: float = 0.1
    place: str = ""

    @nn.compact
    def __call__(self, tokens, train: bool):
        x = nn.Embed(11, WIDTH)(tokens)
        q, k, v = (nn.DenseGeneral((HEADS, WIDTH // HEADS))(x) for _ in range(3))
        weights = nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
        if self.place and train and self.attention_rate:
            lengths = dict(zip("BHT1", (*weights.shape[:3], 1)))
            shape = tuple(lengths[letter] for letter in self.place)
            kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.attention_rate, shape)
            kept = kept[..., None, None] if self.place == "BH" else kept
            weights = jnp.where(kept, weights / (1 - self.attention_rate), 0)
        x = jnp.einsum("bhts,bshk->bthk", weights, v).reshape(x.shape)
        return nn.Dense(11)(nn.Dropout(self.dropout_rate)(x, deterministic=not train))


def batch(seed, size):
    tokens = np.random.default_rng(seed).integers(0, 11, (size, LENGTH + 1))
    return {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}


def found(check: str, model: Model, **fields) -> audit.Finding:
    """The finding of one check of the model."""
    return suite.outcome(Bench(audit.linen(model, batch, **fields)), check)


def only(name: str):
    """That rate as the one knob."""
    return {"knobs": {name: lambda rate: Model(**{name: rate})}}


@pytest.mark.parametrize(
    ("fields", "named"),
    [({}, "dropout_rate or attention_rate"), (only("dropout_rate"), "dropout_rate")],
    ids=["both", "the one that acts elsewhere"],
)
def test_attention_weights_without_a_mask_are_a_warning(fields, named):
    finding = found("heads_differ", Model(), **fields)
    assert (finding.status, finding.detail) == ("warning", WARNED.format(named))


@pytest.mark.parametrize("place", ["BH1T", "BHT1", "B11T", "111T", "BH11", "1H11", "BH"])
def test_a_mask_for_parts_of_the_weights_is_one(place):
    finding = found("heads_differ", Model(place=place))
    assert finding.status == "not applicable" and finding.detail.endswith("is for parts")


def test_a_rate_that_is_off_and_would_reach_the_weights_is_no_warning():
    finding = found("heads_differ", Model(attention_rate=0.0, place="BHTT"))
    assert finding.status == "not applicable"
    assert finding.detail.endswith("nothing is dropped on them; attention_rate=0.25 does")


def test_a_model_without_knobs_is_not_warned_of():
    finding = found("heads_differ", Model(), knobs={})
    assert finding.status == "not applicable"
    assert finding.detail == WARNED.partition(";")[0]


def test_a_model_without_attention_is_told_so():
    class Plain(nn.Module):
        rate: float = 0.1

        @nn.compact
        def __call__(self, tokens, train: bool):
            return nn.Dropout(self.rate)(nn.Embed(11, 11)(tokens), deterministic=not train)

    finding = suite.outcome(Bench(audit.linen(Plain(), batch)), "heads_differ")
    assert finding.detail == "no attention weights [B, H, T, T] are in the training program"


@pytest.mark.parametrize("make", [planted.linen_subject, planted.nnx_subject])
def test_clean_models_drop_on_their_attention(make):
    bench = Bench(make())
    assert suite.outcome(bench, "heads_differ").status == "ok"
    shape = (8, planted.HEADS, planted.LENGTH, planted.LENGTH)
    assert shape in [each.shape for each in sites.drawn(bench)]


def test_a_single_draw_cannot_differ_from_another():
    finding = found("layers_differ", Model())
    assert finding.status == "not applicable"
    assert finding.detail == "needs two draws of one shape; there is 1 draw"


@pytest.mark.parametrize("check", ["knob_off", "knob_in_evaluation"])
def test_a_knob_that_changes_nothing_is_not_ok(check):
    finding = found(check, Model())
    dead = "attention_rate changes nothing at any strength: see knob_acts"
    assert finding.status == "ok"
    assert finding.detail.startswith("dropout_rate: ") and finding.detail.endswith(dead)
    finding = found(check, Model(), **only("attention_rate"))
    assert (finding.status, finding.detail) == ("not applicable", dead)


def test_each_draw_is_in_the_report_with_its_rate():
    bench = Bench(audit.linen(Model(place="BHTT", dropout_rate=0.25), batch))
    assert report.drawn_lines(sites.drawn(bench)) == [
        "training draws, for 8 examples:",
        "  [8, 2, 6, 6], rate 0.1, in Model",
        "  [8, 6, 8], rate 0.25, in Model/Dropout_0",
    ]
    assert report.drawn_lines([]) == ["training draws nothing that is seen in its program"]
    [_, left] = report.drawn_lines([], ("while",))
    assert left == "  and what while draws, which was not looked into"


def test_numbers_that_are_no_mask_have_no_rate():
    plain = tiny_subject.subject()

    def loss(state, batch, key, train):
        noise = jax.random.normal(key, (8,)) if train else 0.0
        return plain.loss(state, batch, key, train) + noise

    drawn = sites.drawn(Bench(dataclasses.replace(plain, loss=loss)))
    assert [str(each) for each in drawn] == [
        "[8, 8], rate 0.25, in the model",
        "[8], rate unknown, in the model",
    ]


STEPS = ("steps_differ", "key_reuse", "resume_state")


def test_what_is_found_of_a_step_that_is_jaxreg_s_says_so():
    ours = audit.linen(Model(), batch, optimizer=optax.sgd(0.1))
    findings = audit.run(ours, ["key_matters", *STEPS])
    assert [finding.note for finding in findings] == [None, *[suite.OUR_STEP] * len(STEPS)]
    assert report.summary(findings) == f"4 ok; 3 of these look at {suite.OUR_STEP}"
    assert report.note_lines(findings) == [
        f"{', '.join(STEPS)}: {suite.OUR_STEP} ({suite.YOUR_STEP})"
    ]
    told = json.loads(report.as_json("mine", findings))
    assert told["findings"][1]["note"] == suite.OUR_STEP and told["summary"].endswith("not seen")
    step = ours.step
    assert step is not None
    theirs = dataclasses.replace(ours, step=lambda state, batch, key: step(state, batch, key))
    assert [finding.note for finding in audit.run(theirs, STEPS)] == [None] * len(STEPS)


def test_a_warning_is_a_line_of_its_own_and_may_be_known(tmp_path, capsys):
    file = tmp_path / "audit_mine.py"
    file.write_text(
        "from jaxreg import audit\nfrom tests.audit.test_sites import Model, batch\n\n\n"
        "def get_subject():\n    return audit.linen(Model(), batch)\n"
    )
    words = ["audit", str(file), "--checks=heads_differ"]
    assert cli.main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    named = WARNED.format("dropout_rate or attention_rate")
    assert f"warning: {named} (heads_differ) 1 warning (" in out
    assert "training draws, for 8 examples: [8, 6, 8], rate 0.1, in Model/Dropout_0" in out
    assert cli.main([*words, "--known=heads_differ:meant", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][0]["status"] == "known"
    assert told["draws"] == [
        {"count": 1, "shape": [8, 6, 8], "rate": 0.1, "place": "Model/Dropout_0"}
    ]
