"""Calls of attention for the tests of its kernels: inputs, settings, the same by the reference."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import AttentionDropout, dot_product_attention

KEY = jax.random.key(8)
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time


class Call(NamedTuple):
    """The shapes of a call: batch, T, S, query heads, key heads, widths of keys and values."""

    b: int = 2
    t: int = 21
    s: int = 26
    h: int = 4
    g: int = 2
    k: int = 8
    kv: int = 6
    dtype: str = "float32"

    def inputs(self):
        return tuple(
            normal(seed, self.b, *shape).astype(self.dtype)
            for seed, shape in (
                (1, (self.t, self.h, self.k)),
                (2, (self.s, self.g, self.k)),
                (3, (self.s, self.g, self.kv)),
            )
        )

    def cotangent(self):
        return normal(9, self.b, self.t, self.h, self.kv).astype(self.dtype)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def coin(seed, *shape, p=0.5):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < p)


def segments(seed, b, n):
    """Ids of three documents, packed one after the other."""
    ends = np.sort(np.random.default_rng(seed).integers(1, n, (b, 2)), axis=1)
    return jnp.asarray((np.arange(n) >= ends[:, :1]) + 0 + (np.arange(n) >= ends[:, 1:]), jnp.int32)


def by_reference(query, key, value, bias=None, logit_softcap=None, **settings):
    """The same call by the reference; segments become a part of the mask."""
    ids, mask = settings.pop("segment_ids", None), settings.pop("mask", None)
    if ids is not None:
        same = (ids[0][:, :, None] == ids[1][:, None, :])[:, None]
        mask = same if mask is None else mask & same
    key_of = {"dropout_key": KEY} if settings.get("dropout") is not None else {}
    return dot_product_attention(
        *(query, key, value, bias, mask),
        logit_softcap=logit_softcap,
        implementation="reference",
        **({"scale": 0.3} | settings | key_of),
    )


def with_gradients(attention, call, bias=None, logit_softcap=None, **settings):
    """The output and the gradients of query, key, value, and of bias and cap where given."""
    given = [x for x in (bias, logit_softcap) if x is not None]

    def run(query, key, value, *more):
        more = list(more)
        own_bias = None if bias is None else more.pop(0)
        cap = None if logit_softcap is None else more.pop(0)
        return attention(query, key, value, own_bias, cap, **settings)

    def both(cotangent, *arrays):
        out, back = jax.vjp(run, *arrays)
        return out, *back(cotangent)

    return jax.jit(both, compiler_options=FAST)(call.cotangent(), *call.inputs(), *given)


def close(found, expected, tolerance):
    """Largest differences, as a part of the largest entry or of 1; the output first.

    The gradient of a bias that all keys share is 0, but for rounding.
    """
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
    found, expected = ([np.asarray(x, np.float64) for x in xs] for xs in (found, expected))
    off = [
        float(np.max(np.abs(x - y)) / max(np.max(np.abs(y)), 1))
        for x, y in zip(found, expected, strict=True)
    ]
    assert max(off) < tolerance, off


def settings_of(call):
    """Name -> the settings of a call; every one is lowered, interpreted, and compared."""
    b, t, s, h = call.b, call.t, call.s, call.h
    drop = AttentionDropout(0.3)
    causal = {"is_causal": True, "dropout": drop}
    # Rows that may read nothing, one of them only because of the causal mask.
    hiding = coin(4, b, h, t, s).at[:, :, 3].set(False).at[0, 0, 2, :3].set(False)
    packed = (segments(1, b, t), segments(2, b, s))
    return {
        "plain": {},
        "dropout": {"dropout": drop},
        "causal, dropout": causal,
        "rows that read nothing": causal | {"mask": hiding},
        "rows that read nothing, not causal": {"dropout": drop, "mask": hiding},
        "mask of keys": {"dropout": drop, "mask": coin(4, b, 1, 1, s)},
        "packed documents": {"dropout": drop, "segment_ids": packed},
        "packed documents, causal": causal | {"segment_ids": packed},
        "one bias, droppable": {
            "dropout": drop,
            "bias": normal(5, 1, 1, t, s),
            "droppable": coin(6, 1, 1, t, s),
        },
        "bias of each example": causal | {"bias": normal(5, b, 1, t, s)},
        "bias of each head and key": {"dropout": drop, "bias": normal(5, 1, h, 1, s)},
        "bias of each query": causal | {"bias": normal(5, b, 1, t, 1)},
        "bias of all connections": causal | {"bias": normal(5, b, h, t, s)},
        "bias as a mask": causal | {"bias": jnp.where(coin(4, b, 1, 1, s), 0.0, -1e9)},
        "DropKey": {
            "is_causal": True,
            "mask": coin(4, 1, 1, t, s),
            "dropout": AttentionDropout(0.6, stage="logits"),
            "droppable": coin(6, b, 1, 1, s),
        },
        "DropKey that leaves little": {"dropout": AttentionDropout(0.95, stage="logits")},
        "spans shared by heads": {
            "dropout": AttentionDropout(0.4, "span", share=("head",), span_length=5)
        },
        "one mask for all examples": {"dropout": AttentionDropout(0.4, share=("example",))},
        "bits version 2": {"is_causal": True, "dropout": AttentionDropout(0.3, bits=2)},
        "keys": {"is_causal": True, "dropout": AttentionDropout(0.4, "key")},
        "queries": {"is_causal": True, "dropout": AttentionDropout(0.4, "query")},
        "heads": {"dropout": AttentionDropout(0.4, "head")},
        "soft-cap": {"dropout": drop, "logit_softcap": jnp.float32(0.5)},
        "soft-cap, bias": {
            "dropout": drop,
            "logit_softcap": jnp.float32(0.5),
            "bias": normal(5, b, h, t, s),
        },
        "infinite soft-cap": {"dropout": drop, "logit_softcap": jnp.float32(np.inf)},
        "rate 0": {"dropout": AttentionDropout(0.0)},
    }


SETTINGS = tuple(settings_of(Call()))
