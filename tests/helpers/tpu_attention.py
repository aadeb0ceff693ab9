"""Calls of the TPU attention for tests, in tiles so small that short sequences are several."""

import jax.numpy as jnp

from jaxreg.attention import masks
from jaxreg.attention.pallas_tpu import kernel
from tests.helpers.gpu_attention import KEY

SMALL = {"QUERY_BLOCK": 64, "KEYS": {0: (256, 64), 1: (256, 32), 2: (256, 64)}, "EDGE": 128}


def use_small_tiles(monkeypatch) -> None:
    """Tiles of 64 x 256; what a mask cuts is computed in parts of 128 keys."""
    for name, size in SMALL.items():
        monkeypatch.setattr(kernel, name, size)


def by_kernel(query, key, value, bias=None, logit_softcap=None, **settings):
    """The call by the TPU kernels, interpreted unless `interpret` says otherwise."""
    dropout = settings.pop("dropout", None)
    words = None
    if dropout is not None:
        b, _, h, _ = query.shape
        words = masks.mask_words(dropout, KEY, None, b, jnp.arange(h))
    settings = {"is_causal": False, "scale": 0.3, "interpret": True} | settings
    arrays = (settings.pop(name, None) for name in ("mask", "droppable"))
    return kernel.attention(
        *(query, key, value, bias, *arrays, words, dropout), logit_softcap=logit_softcap, **settings
    )
