"""Equinox's `MultiheadAttention` in a causal model of two layers, mapped over examples.

Needs:    pip install equinox
Command:  jaxreg audit experiments/audits/equinox_attention.py
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import audit

PACKAGES = ("equinox",)
NOTES: dict[str, str] = {}


class Model(eqx.Module):
    """Two layers of attention with dropout, for one sequence."""

    embed: eqx.nn.Embedding
    attend: list
    out: eqx.nn.Linear

    def __init__(self, rate, key):
        first, second, third, fourth = jax.random.split(key, 4)
        self.embed = eqx.nn.Embedding(20, 16, key=first)
        self.attend = [
            eqx.nn.MultiheadAttention(2, 16, dropout_p=rate, key=k) for k in (second, third)
        ]
        self.out = eqx.nn.Linear(16, 20, key=fourth)

    def __call__(self, tokens, key, train):
        x = jax.vmap(self.embed)(tokens)
        causal = jnp.tril(jnp.ones((len(tokens), len(tokens)), bool))
        for attend, own in zip(self.attend, jax.random.split(key, 2), strict=True):
            x += attend(x, x, x, causal, key=own, inference=not train)
        return jax.vmap(self.out)(x)


def batch(seed, size):
    return {"inputs": np.random.default_rng(seed).integers(1, 20, (size, 7))}


def at(rate):
    structure = eqx.partition(Model(rate, jax.random.key(0)), eqx.is_inexact_array)[1]

    def init(key):
        return {"params": eqx.filter(Model(rate, key), eqx.is_inexact_array)}

    def logits(state, data, key, train):
        model, tokens = eqx.combine(state["params"], structure), jnp.asarray(data["inputs"])
        keys = jax.random.split(key, len(tokens))
        return jax.vmap(lambda row, own: model(row, own, train))(tokens, keys)

    def loss(state, data, key, train):
        tokens, out = jnp.asarray(data["inputs"]), logits(state, data, key, train)[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(out, tokens[:, 1:]).mean(1)

    return audit.Subject(
        init=init,
        loss=loss,
        batch=batch,
        logits=logits,
        inputs=lambda data: data["inputs"],
        with_inputs=lambda data, inputs: {**data, "inputs": inputs},
        causal=True,
        name="equinox MultiheadAttention",
    )


def get_subject():
    return dataclasses.replace(at(0.3), knobs={"dropout_p": at})


def confirm():
    """Nothing failed."""
    return {}
