"""keras-hub's `TransformerDecoder` on JAX, as a language model of two layers.

Needs:    pip install keras keras-hub
Command:  KERAS_BACKEND=jax jaxreg audit experiments/audits/keras_hub_decoder.py
"""

import dataclasses
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import keras_hub
import numpy as np
import optax

from jaxreg import audit

PACKAGES = ("keras", "keras-hub")
NOTES: dict[str, str] = {}


def batch(seed, size):
    return {"inputs": np.random.default_rng(seed).integers(1, 20, (size, 7))}


def pad(data, n):
    return {"inputs": np.pad(data["inputs"], ((0, 0), (0, n)))}


def made(rate):
    tokens = keras.Input((None,), dtype="int32")
    x = keras_hub.layers.TokenAndPositionEmbedding(20, 64, 16, mask_zero=True)(tokens)
    for _ in range(2):
        x = keras_hub.layers.TransformerDecoder(32, 2, dropout=rate)(x)
    return keras.Model(tokens, keras.layers.Dense(20)(x))


def at(rate):
    model = made(rate)
    seeds = [i for i, v in enumerate(model.non_trainable_variables) if "seed" in v.path]

    def logits(state, data, key, train):
        fixed = list(state["fixed"])
        for i in seeds:  # Keras draws from seed generators: theirs is the step's key
            fixed[i] = jax.random.key_data(jax.random.fold_in(key, i))
        tokens = jnp.asarray(data["inputs"])
        return model.stateless_call(state["params"], fixed, tokens, training=train)[0]

    def loss(state, data, key, train):
        tokens = jnp.asarray(data["inputs"])
        targets = tokens[:, 1:]
        out = logits(state, data, key, train)[:, :-1]
        losses = optax.softmax_cross_entropy_with_integer_labels(out, targets)
        return (losses * (targets > 0)).sum(1) / (targets > 0).sum(1)

    def init(key):
        values = [v.value for v in model.trainable_variables]
        draw = [
            x + 0.02 * jax.random.normal(jax.random.fold_in(key, i), x.shape)
            for i, x in enumerate(values)
        ]
        return {"params": draw, "fixed": [v.value for v in model.non_trainable_variables]}

    return audit.Subject(
        init=init,
        loss=loss,
        batch=batch,
        logits=logits,
        inputs=lambda data: data["inputs"],
        with_inputs=lambda data, inputs: {**data, "inputs": inputs},
        causal=True,
        padding="mask",
        pad=pad,
        name="keras-hub TransformerDecoder",
    )


def get_subject():
    return dataclasses.replace(at(0.1), knobs={"dropout": at})


def confirm():
    """Nothing failed."""
    return {}
