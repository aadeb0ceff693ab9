"""Keras's `MultiHeadAttention` on JAX as an attention function: its projections are identities.

Needs:    pip install keras
Command:  python -m jaxreg.attention.conformance experiments.conformance.keras:attention
"""

import functools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

PACKAGES = ("keras",)


@functools.cache
def layer(heads: int, width: int, rate: float) -> keras.layers.MultiHeadAttention:
    """The layer with H heads of K features, built, with identities as kernels."""
    features = heads * width
    with jax.ensure_compile_time_eval():
        made = keras.layers.MultiHeadAttention(
            heads, width, dropout=rate, use_bias=False, output_shape=features
        )
        made.build((None, None, features), (None, None, features))
        inwards = np.eye(features, dtype=np.float32).reshape(features, heads, width)
        outwards = inwards.reshape(heads, width, features)
        made.set_weights([inwards, inwards, inwards, outwards])
    return made


def attention(
    query, key, value, *, mask=None, is_causal=False, rate=0.0, dropout_rng=None, training=False
):
    """What the layer returns for [B, T, H, K] queries, which it takes as [B, T, H K].

    Keras draws from a seed generator; here its state is the data of `dropout_rng`.
    """
    heads, width = query.shape[2:]
    make = layer if isinstance(rate, int | float) else layer.__wrapped__  # traced: no cache
    made = make(heads, width, rate)
    query, key, value = (x.reshape(*x.shape[:2], -1) for x in (query, key, value))
    state = []
    if rate and training and getattr(made, "_dropout_layer", None) is not None:
        seed = made._dropout_layer.seed_generator.state
        state = [(seed, jax.random.key_data(dropout_rng))]
    with keras.StatelessScope(state_mapping=state):
        out = made(
            query, value, key, attention_mask=mask, use_causal_mask=is_causal, training=training
        )
    return out.reshape(*out.shape[:2], heads, width)
