"""Equinox's `MultiheadAttention` as an attention function: its projections are identities.

Needs:    pip install equinox
Command:  python -m jaxreg.attention.conformance experiments.conformance.equinox:attention
"""

import equinox
import jax
import jax.numpy as jnp

PACKAGES = ("equinox",)


def attention(query, key, value, *, mask=None, rate=0.0, dropout_rng=None, deterministic=True):
    """What the module returns, mapped over the examples, each with a key of its own.

    Equinox's modules take one example; a batch is `jax.vmap`'s, and the keys are the caller's.
    """
    examples, _, heads, width = query.shape
    identity = jnp.eye(heads * width)
    module = equinox.nn.MultiheadAttention(heads, heads * width, key=jax.random.key(0))
    module = equinox.tree_at(
        lambda m: [m.query_proj.weight, m.key_proj.weight, m.value_proj.weight],
        module,
        [identity] * 3,
    )
    module = equinox.tree_at(lambda m: m.output_proj.weight, module, identity)
    module = equinox.tree_at(lambda m: m.dropout.p, module, rate)
    keys = None if dropout_rng is None else jax.random.split(dropout_rng, examples)
    if mask is not None:
        mask = jnp.broadcast_to(mask, (examples, heads, query.shape[1], key.shape[1]))

    def one(query, key, value, mask, dropout_key):
        flat = (x.reshape(x.shape[0], -1) for x in (query, key, value))
        return module(*flat, mask, key=dropout_key, inference=deterministic)

    places = (0, 0, 0, None if mask is None else 0, None if keys is None else 0)
    return jax.vmap(one, places)(query, key, value, mask, keys).reshape(query.shape)
