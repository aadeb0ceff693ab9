"""Named key streams: (seed, stream, step, site, example) -> key, derived when needed, not stored.

Only `jax.random.fold_in` derives keys: chaining it keeps compilation fast on CPU, where XLA
compiles chained unrolled Threefry in exponential time. The implementation is fixed to Threefry, so
`jax_default_prng_impl` cannot change results.
"""

import jax

from jaxreg.typing import Array, Int, Key, UInt32

STREAMS = {"init": 0, "dropout": 1, "fresh": 2, "noise": 3, "second": 4, "augment": 5}
"""Append-only: a changed number changes every published result."""

PLACES = {
    "embedding": 0,
    "attention": 1,
    "attention_residual": 2,
    "mlp_pre_activation": 3,
    "mlp": 4,
    "mlp_residual": 5,
    "token": 6,
    "key": 7,
    "layer": 8,
    "attention_depth": 9,
    "mlp_depth": 10,
    "augmentation": 11,
}
"""Append-only: the dropout sites of a layer."""

PLACES_PER_LAYER = 64


def seed_key(seed: int | Int[Array, ""] | UInt32[Array, ""], stream: str) -> Key[Array, ""]:
    """The key that starts one named stream of one seed: fold_in(key(seed), STREAMS[stream])."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), STREAMS[stream])


def site(layer: int | Int[Array, ""], place: str) -> int | Int[Array, ""]:
    """The number of a dropout site, from layer and place alone; traced if the layer is."""
    return layer * PLACES_PER_LAYER + PLACES[place]


def step_key(stream_key: Key[Array, ""], step: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key of one training step; `fold_in(step_key, site)` is the call key of masks.py."""
    return jax.random.fold_in(stream_key, step)
