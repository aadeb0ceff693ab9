"""An NNX training step of a person's own: planted faults in it, and sound steps of every form."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from jaxreg import audit
from jaxreg.audit import contract, suite
from jaxreg.audit.bench import Bench
from jaxreg.errors import UserErrors
from tests.audit import planted


def mean_loss(model, batch):
    """The mean cross-entropy."""
    logits = model(batch["inputs"], batch["mask"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()


def plain_step(model, optimizer, batch):
    """A step as in Flax's documentation."""
    loss, gradients = nnx.value_and_grad(mean_loss)(model, batch)
    optimizer.update(model, gradients)
    return loss


jitted_step = nnx.jit(plain_step)
donating_step = nnx.jit(plain_step, donate_argnums=(0, 1))


def logging_step(model, optimizer, batch):
    """It looks at its loss, so it cannot be traced."""
    return float(jitted_step(model, optimizer, batch))


def functional_step(model, optimizer, batch):
    """It returns new ones, and leaves those that it was given as they are."""
    model, optimizer = nnx.clone((model, optimizer))
    plain_step(model, optimizer, batch)
    return model, optimizer


def reseeding_step(model, optimizer, batch):
    """It starts the streams anew at every step."""
    nnx.reseed(model, dropout=0)
    return jitted_step(model, optimizer, batch)


def losing_step(model, optimizer, batch):
    """It brings all back from its inner step but the streams."""
    structure, streams, rest = nnx.split((model, optimizer), nnx.RngState, ...)

    @jax.jit
    def inner(streams, rest, batch):
        pair = nnx.merge(structure, streams, rest, copy=True)
        plain_step(*pair, batch)
        return nnx.split(pair, nnx.RngState, ...)[2]

    nnx.update((model, optimizer), inner(streams, rest, batch))


def evaluating_step(model, optimizer, batch):
    """It trains without dropout: the mode is that of an evaluation before it."""
    model.eval()
    return plain_step(model, optimizer, batch)


def subject(train_step=jitted_step, make=planted.NNXModel, optimizer=None, **fields):
    """The planted model with a step of one's own."""
    own = {"arguments": planted.arguments, "causal": True} | fields
    if optimizer is None:
        optimizer = optax.sgd(0.1)
    return audit.nnx(make, planted.batch, optimizer=optimizer, train_step=train_step, **own)


def found(check, *given, **fields):
    """The finding of one check."""
    return suite.outcome(Bench(subject(*given, **fields)), check)


@pytest.mark.parametrize(
    "step",
    [plain_step, jitted_step, donating_step, logging_step, functional_step],
    ids=["plain", "compiled", "donates", "logs", "returns new ones"],
)
def test_a_sound_step_draws_anew_and_moves_as_its_optimizer_does(step):
    bench = Bench(subject(step))
    finding = suite.outcome(bench, "steps_differ")
    assert finding.status == "ok" and finding.note is None, finding.detail
    before, after = bench.state, bench.step()
    counts = jax.tree.leaves(nnx.filter_state(after.others, nnx.RngCount))
    assert [int(count) for count in counts] == [1] * 4
    assert int(after.others["optimizer"]["step"].get_value()) == 1
    assert bench.gap(bench.params(before), bench.params(after)) > 1e-4


@pytest.mark.system
def test_two_steps_are_those_of_the_person_s_own_loop():
    bench = Bench(subject())
    rngs = nnx.Rngs(jax.random.key(0), dropout=jax.random.fold_in(jax.random.key(0), 1))
    model = planted.NNXModel(rngs)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    model.train()
    state = bench.first_state
    for number in range(2):
        state = bench.step(state, bench.batch(number))
        plain_step(model, optimizer, jax.tree.map(jnp.asarray, bench.batch(number)))
    assert bench.gap(state.params["model"], nnx.state(model, nnx.Param)) < 1e-5


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (reseeding_step, "every step draws the same masks"),
        (losing_step, "every step draws the same masks"),
        (evaluating_step, "a training step draws nothing, although the training loss does"),
    ],
    ids=["reseeds", "loses its counts", "in evaluation"],
)
def test_a_fault_of_the_step_s_streams_is_found(step, said):
    finding = found("steps_differ", step)
    assert finding.status == "FAILED" and finding.detail.endswith(said)


def loss_of_streams(model, batch, rngs):
    """The loss with dropout from streams that are not the model's."""
    logits = model(batch["inputs"], batch["mask"], rngs=rngs)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()


class CalledWithRngs(planted.NNXModel):
    """Its only dropout takes its streams when it is called."""

    def __init__(self, rngs):
        super().__init__(rngs, 0.0)
        self.first = nnx.Dropout(0.2)

    def __call__(self, tokens, mask, rngs=None):
        return self.first(super().__call__(tokens, mask), rngs=rngs)


@nnx.jit
def step_of_streams(model, optimizer, rngs, batch):
    loss, gradients = nnx.value_and_grad(loss_of_streams)(model, batch, rngs)
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def forked_step(model, optimizer, rngs, batch):
    """It draws from a copy of the streams, so they never move."""
    loss, gradients = nnx.value_and_grad(loss_of_streams)(model, batch, nnx.clone(rngs))
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def step_of_a_key(model, optimizer, batch, key):
    rngs = nnx.Rngs(dropout=key)
    loss, gradients = nnx.value_and_grad(loss_of_streams)(model, batch, rngs)
    optimizer.update(model, gradients)
    return loss


@pytest.mark.parametrize(
    ("step", "status"),
    [(step_of_streams, "ok"), (step_of_a_key, "ok"), (forked_step, "FAILED")],
    ids=["rngs", "key", "rngs that do not move"],
)
def test_a_step_may_take_streams_or_a_key_of_its_own(step, status):
    bench = Bench(subject(step, make=CalledWithRngs))
    assert suite.outcome(bench, "steps_differ").status == status
    assert suite.outcome(bench, "evaluation_ignores_key").status == "ok"


def test_streams_from_outside_are_said_to_be_an_argument():
    outside = nnx.Rngs(dropout=0)
    own = subject(lambda m, o, batch: step_of_streams(m, o, outside, batch), make=CalledWithRngs)
    with pytest.raises(Exception) as raised:
        audit.run(own, ["steps_differ"])
    said = contract.their_mistake(raised.value)
    assert said is not None and said.endswith(
        "in the first call of train_step(model, optimizer, batch); an nnx.Rngs that is not the"
        " model's must be an argument called `rngs`"
    )


def test_a_step_that_takes_an_array_is_told_that_the_batch_is_a_dict():
    own = subject(lambda model, optimizer, batch: plain_step(model, optimizer, batch[:, 1:]))
    with pytest.raises(Exception) as raised:
        audit.run(own, ["steps_differ"])
    said = contract.their_mistake(raised.value)
    assert said is not None and "the batch is a dict of `inputs` and `labels`" in said
    assert said.endswith('mine(model, optimizer, batch["inputs"])')


class TwoStreams(planted.NNXModel):
    """A model with a second stream, for what is dropped last."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.last = nnx.Dropout(0.2, rngs=nnx.Rngs(noise=rngs.params()), rng_collection="noise")

    def __call__(self, tokens, mask):
        return self.last(super().__call__(tokens, mask))


def test_a_stream_of_several_that_does_not_move_is_a_warning():
    def step(model, optimizer, batch):
        nnx.reseed(model, noise=0)
        return jitted_step(model, optimizer, batch)

    finding = found("steps_differ", step, make=TwoStreams)
    assert (finding.status, finding.detail) == (
        "warning",
        "1 of 5 draws of a step have the same key in the next step",
    )


class Always(planted.NNXModel):
    """Dropout that no evaluation switches off."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.always = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, tokens, mask):
        return self.always(super().__call__(tokens, mask), deterministic=False)


def forgets(model, batch):
    """Evaluation without `model.eval()`."""
    return mean_loss(model, batch)


def evaluates(model, batch):
    """Evaluation, with more beside the loss."""
    model.eval()
    return mean_loss(model, batch), {"accuracy": 0.0}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"make": Always}, "FAILED"),
        ({"eval_step": forgets}, "FAILED"),
        ({"eval_step": evaluates}, "ok"),
        ({"eval_step": nnx.jit(evaluates)}, "ok"),
    ],
    ids=["deterministic=False", "no model.eval()", "sound", "sound, compiled"],
)
def test_dropout_in_evaluation_is_found(fields, status):
    assert found("evaluation_ignores_key", **fields).status == status


def comes_back(model, batch):
    """Evaluation that leaves the model in training mode."""
    model.eval()
    loss = mean_loss(model, batch)
    model.train()
    return loss


@pytest.mark.parametrize(
    ("evaluation", "status"),
    [(evaluates, "warning"), (comes_back, "ok"), (nnx.jit(comes_back), "ok")],
    ids=["stays", "comes back", "comes back, compiled"],
)
def test_a_model_left_in_evaluation_mode_is_a_warning(evaluation, status):
    assert found("evaluation_keeps_state", eval_step=evaluation).status == status


def test_a_step_that_moves_nothing_is_no_fault_of_the_evaluation():
    own = {"eval_step": evaluates, "optimizer": optax.sgd(0.0)}
    assert found("evaluation_keeps_state", **own).status == "ok"


def test_dropout_in_evaluation_is_not_taken_for_a_wrong_mean():
    bench = Bench(subject(eval_step=forgets, pad=planted.pad))
    for check in ("loss_parts", "loss_ignored"):
        finding = suite.outcome(bench, check)
        assert finding.status == "not applicable"
        assert finding.detail.endswith("see evaluation_ignores_key")


def test_a_batch_without_the_usual_names_is_told_them():
    def batch(seed, size):
        return {"x": planted.batch(seed, size)["inputs"]}

    with pytest.raises(UserErrors, match="^the batch has x, and no `inputs`: the audit reads"):
        audit.run(audit.nnx(planted.NNXModel, batch))


def test_a_mean_of_evaluation_makes_the_training_loss_one():
    bench = Bench(subject(eval_step=evaluates))
    assert bench.loss(train=True).shape == bench.loss(train=False).shape == ()


@pytest.mark.system
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda model: nnx.Optimizer(model, optax.adamw(1e-2, weight_decay=0.1), wrt=nnx.Param),
        lambda model: nnx.ModelAndOptimizer(model, optax.adamw(1e-2, weight_decay=0.1)),
    ],
    ids=["Optimizer", "ModelAndOptimizer"],
)
def test_decay_is_that_of_the_person_s_optimizer(optimizer):
    def step(model, optimizer, batch):
        loss, gradients = nnx.value_and_grad(mean_loss)(model, batch)
        pair = not isinstance(optimizer, nnx.ModelAndOptimizer)
        optimizer.update(*([model] if pair else []), gradients)
        return loss

    finding = found("decay_spared", step, optimizer=optimizer)
    assert finding.status == "FAILED" and "a step takes" not in finding.detail
    assert "kernels 13 of 13" in finding.detail, finding.detail
    assert found("resume_next_step", step, optimizer=optimizer).status == "ok"


@pytest.mark.parametrize("ready", ["own step", "nnx", "linen"])
def test_the_mask_of_the_fix_is_one_line_that_works(ready):
    [code] = re.findall(r"mask=(.*)\)`\.", suite.all_checks()["decay_spared"][1].fix)
    optimizer = optax.adamw(1e-2, weight_decay=0.1, mask=eval(code, {"jax": jax}))
    own = {"arguments": planted.arguments, "optimizer": optimizer}
    made = {
        "own step": lambda: subject(optimizer=optimizer),
        "nnx": lambda: audit.nnx(planted.NNXModel, planted.batch, **own),
        "linen": lambda: audit.linen(planted.LinenModel(), planted.batch, knobs={}, **own),
    }
    finding = suite.outcome(Bench(made[ready]()), "decay_spared")
    assert finding.status == "ok" and "kernels 13 of" in finding.detail, finding.detail


def three(model, optimizer, batch, metrics):
    """A step that takes more."""


def test_what_is_given_is_looked_at_at_once():
    with pytest.raises(UserErrors) as raised:
        audit.nnx(planted.NNXModel, planted.batch, train_step=three, eval_step=lambda m: 0)
    assert raised.value.mistakes == [
        "`train_step` is called as train_step(model, optimizer, batch), and yours takes (model,"
        " optimizer, batch, metrics); give train_step=lambda model, optimizer, batch: three(...)",
        "`eval_step` is called as eval_step(model, batch), and yours takes (m); give"
        " eval_step=lambda model, batch: ...",
        "audit.nnx: `train_step` needs an optimizer; give optimizer=optax.adamw(...), or"
        " optimizer=lambda model: nnx.Optimizer(model, ..., wrt=nnx.Param)",
    ]
    with pytest.raises(UserErrors, match="without `train_step` the optimizer is one of optax$"):
        audit.nnx(planted.NNXModel, planted.batch, optimizer=lambda model: model)


def masked_loss(model, batch):
    """The mean over labels that are not ignored."""
    logits, counted = model(batch["inputs"], batch["mask"]), batch["labels"] >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(counted, batch["labels"], 0)
    )
    return (losses * counted).sum() / counted.sum()


@nnx.jit
def masked_step(model, optimizer, batch):
    loss, gradients = nnx.value_and_grad(masked_loss)(model, batch)
    optimizer.update(model, gradients)
    return loss


@pytest.mark.parametrize(("step", "status"), [(masked_step, "ok"), (plain_step, "FAILED")])
def test_a_step_whose_own_loss_counts_padding_is_found(step, status):
    knobs = {"dropout_rate": lambda rate: lambda rngs: planted.NNXModel(rngs, rate)}
    assert found("loss_step_padding", step, knobs=knobs, pad=planted.pad).status == status


@pytest.mark.system
def test_a_sound_step_fails_nothing():
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(1e-2, 1e-3, 100))
    )
    knobs = {"dropout_rate": lambda rate: lambda rngs: planted.NNXModel(rngs, rate)}
    findings = audit.run(subject(masked_step, optimizer=optimizer, knobs=knobs, pad=planted.pad))
    wrong = {each.check: each.detail for each in findings if each.status == "FAILED"}
    assert set(wrong) <= {"decay_spared"}, wrong
    applied = {each.check for each in findings if each.status == "ok"}
    assert applied >= {*suite.chosen(["resume", "randomness"]), "loss_step_padding", "clip_bounds"}
