"""Flax's example lm1b, a language model: its decoder, its loss and its optimizer.

Needs:    git clone https://github.com/google/flax
          git -C flax checkout 18f8f311c275d57f46d95e41b15aa97b454754c0
Command:  PYTHONPATH=flax/examples/lm1b jaxreg audit experiments/audits/flax_lm1b.py
"""

import dataclasses

import jax
import jax.numpy as jnp
import models  # of the example
import numpy as np
import optax

from jaxreg import audit

PACKAGES = ("flax",)
COMMIT = "google/flax 18f8f311, examples/lm1b"
NOTES = {
    "decay_spared": "Documented by optax: without a mask all parameters are decayed. The example"
    " (train.py: `optax.adamw(..., weight_decay=config.weight_decay)`, .1) gives none, so biases"
    " and norms are."
}
CONFIG = models.TransformerConfig(
    vocab_size=20,
    output_vocab_size=20,
    emb_dim=16,
    num_heads=2,
    num_layers=2,
    qkv_dim=16,
    mlp_dim=32,
    max_len=64,
)
OPTIMIZER = optax.adamw(0.0016, b1=0.9, b2=0.98, eps=1e-9, weight_decay=0.1)
"""As in the example's train.py and config, with a constant rate."""


def batch(seed, size):
    return {"inputs": np.random.default_rng(seed).integers(1, 20, (size, 7))}


def pad(data, n):
    return {"inputs": np.pad(data["inputs"], ((0, 0), (0, n)))}


def at(dropout_rate=0.1, attention_dropout_rate=0.1):
    config = CONFIG.replace(
        dropout_rate=dropout_rate, attention_dropout_rate=attention_dropout_rate
    )

    def logits(state, data, key, train):
        model = models.TransformerLM(config.replace(deterministic=not train))
        tokens = jnp.asarray(data["inputs"])
        return model.apply({"params": state["params"]}, tokens, rngs={"dropout": key})

    def loss(state, data, key, train):
        """The example's, of each example: cross-entropy of the tokens that are not 0."""
        tokens, real = jnp.asarray(data["inputs"]), data["inputs"] > 0
        out = logits(state, data, key, train)
        losses = optax.softmax_cross_entropy_with_integer_labels(out, tokens)
        return (losses * real).sum(1) / real.sum(1)

    def init(key):
        model = models.TransformerLM(config.replace(deterministic=True))
        params = jax.tree.map(
            lambda x: x.unbox() if hasattr(x, "unbox") else x,
            model.init(key, jnp.ones((1, 7), int))["params"],
            is_leaf=lambda x: hasattr(x, "unbox"),
        )
        return {"params": params, "opt_state": OPTIMIZER.init(params)}

    def update(state, gradients):
        updates, opt_state = OPTIMIZER.update(gradients, state["opt_state"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}

    def step(state, data, key):
        def mean(params):
            return loss({**state, "params": params}, data, key, True).mean()

        return update(state, jax.grad(mean)(state["params"]))

    return audit.Subject(
        init=init,
        loss=loss,
        batch=batch,
        step=step,
        logits=logits,
        update=update,
        inputs=lambda data: data["inputs"],
        with_inputs=lambda data, inputs: {**data, "inputs": inputs},
        causal=True,
        padding="mask",
        pad=pad,
        name="flax lm1b",
    )


def get_subject():
    knobs = {
        "dropout_rate": lambda rate: at(dropout_rate=rate),
        "attention_dropout_rate": lambda rate: at(attention_dropout_rate=rate),
    }
    return dataclasses.replace(at(), knobs=knobs)


def confirm():
    """A bias of 2 and zero gradients."""
    before = jnp.full(3, 2.0)
    change = OPTIMIZER.update(jnp.zeros(3), OPTIMIZER.init(before), before)[0]
    return {
        "decay_spared": f"a bias of 2 with zero gradients moves by {float(change[0]):.2g} in a step"
    }
