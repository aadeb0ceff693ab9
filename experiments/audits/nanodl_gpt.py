"""nanodl's GPT3, with the training and the evaluation step of its trainer.

Needs:    pip install nanodl
Command:  jaxreg audit experiments/audits/nanodl_gpt.py
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training import train_state
from nanodl import GPT3, GPTDataParallelTrainer

from jaxreg import audit

PACKAGES = ("flax", "nanodl")
COMMIT = "nanodl of which `__version__` is 1.2.5.dev1"
_EVALUATED = (
    "`GPT3.__call__` has `training=True` by default, and the trainer's evaluation_step does not say"
    " otherwise: the validation loss is measured with dropout on. (There its key is always the same"
    " one, `PRNGKey(2)`, which hides it; here the audit's keys stand in its place.) Its generate()"
    " passes `training=False`. Not documented."
)
NOTES = {
    "causal": "The attention multiplies the scores by a mask of 0 and 1 before the softmax. A score"
    " of 0 is no smaller than others, so that every position reads those after it. The docstring"
    " calls the model one of next-token prediction.",
    "steps_differ": "The key is `PRNGKey(int(time.time()))`, made inside the step. The trainer"
    " compiles that step by pmap, so the second in which it was compiled stays in the program, and"
    " every step drops the same units. Not documented.",
    "evaluation_ignores_key": _EVALUATED,
    "resume_next_step": "The same key of the time: a step that is compiled after a resume has"
    " another one, so that an interrupted run cannot be repeated. Not documented.",
}


def made(dropout=0.1):
    return GPT3(
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        feedforward_dim=32,
        dropout=dropout,
        vocab_size=20,
        embed_dim=16,
        max_length=16,
        start_token=0,
        end_token=1,
    )


def batch(seed, size):
    tokens = np.random.default_rng(seed).integers(1, 20, (size, 8))
    return {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}


def at(rate):
    model, tx = made(rate), optax.adam(1e-5)  # the trainer's optimizer

    def init(key):
        keys = {"params": key, "dropout": key}
        params = model.init(keys, jnp.ones((1, 7), int))["params"]
        return train_state.TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    def logits(state, data, key, train):
        """As in the trainer's two steps, with the audit's key."""
        said = {"training": True} if train else {}
        tokens = jnp.asarray(data["inputs"])
        return model.apply({"params": state.params}, tokens, rngs={"dropout": key}, **said)

    def loss(state, data, key, train):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits(state, data, key, train), jnp.asarray(data["labels"])
        )
        return losses.mean(1)

    def step(state, data, key):
        """The trainer's own; it makes its key itself."""
        tokens, labels = (jnp.asarray(data[name]) for name in ("inputs", "labels"))
        return GPTDataParallelTrainer.train_step(state, tokens, labels)[0]

    return audit.Subject(
        init=init,
        loss=loss,
        batch=batch,
        step=step,
        logits=logits,
        update=lambda state, gradients: state.apply_gradients(grads=gradients),
        inputs=lambda data: data["inputs"],
        with_inputs=lambda data, inputs: {**data, "inputs": inputs},
        params=lambda state: state.params,
        with_params=lambda state, params: state.replace(params=params),
        causal=True,
        name="nanodl GPT3",
    )


def get_subject():
    return dataclasses.replace(at(0.1), knobs={"dropout": at})


def confirm():
    """Another last token; steps of two programs at three times; two evaluations of one batch."""
    subject = at(0.5)
    state, data = subject.init(jax.random.key(0)), batch(0, 2)
    other = {**data, "inputs": data["inputs"].copy()}
    other["inputs"][:, -1] = 1 + other["inputs"][:, -1] % 19

    def apply(data):
        return state.apply_fn({"params": state.params}, jnp.asarray(data["inputs"]), training=False)

    before, after = (apply(each)[:, 0] for each in (data, other))
    moved = float(jnp.abs(before - after).max() / jnp.abs(before).max())
    train_step = GPTDataParallelTrainer.train_step
    steps = [jax.pmap(lambda *given: train_step(*given), axis_name="devices") for _ in range(2)]
    one, tokens, labels = jax.tree.map(
        lambda x: jnp.asarray(x)[None], (state, data["inputs"], data["labels"])
    )
    losses = []
    for step in (steps[0], steps[0], steps[1]):  # from one state
        losses.append(float(step(one, tokens, labels)[1][0]))
        time.sleep(1.1)
    evaluate = GPTDataParallelTrainer.evaluation_step
    shown = float(evaluate(state, *(jnp.asarray(data[name]) for name in ("inputs", "labels"))))
    plain = optax.softmax_cross_entropy_with_integer_labels(apply(data), data["labels"]).mean()
    return {
        "causal": f"another last token moves the logits of the first position by {moved:.1%} of the"
        " largest, without dropout",
        "steps_differ": "rate .5: two steps of the pmapped step from one state, a second apart: the"
        f" training loss is equal: {losses[0] == losses[1]}",
        "resume_next_step": "rate .5: the same step compiled a second time gives that loss:"
        f" {losses[0] == losses[2]}",
        "evaluation_ignores_key": f"rate .5: evaluation_step gives a loss of {shown:.4f}; the model"
        f" with `training=False` {float(plain):.4f}",
    }
